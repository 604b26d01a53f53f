"""`equilibrium`: a layer that gives the fixed point of another, z = f(z, x). In the graph it is a block with a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.operation import Operation, Site
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from nnspec.compiler.expansion import Expansion


class Equilibrium(Operation):
    name = "equilibrium"
    doc = """The fixed point z = f(z, x) of a layer f that takes a state and what drives it (Bai, Kolter, Koltun 2019).

    f's first input is the state, whose declared shape says where it begins: at zeros; of an anonymous function `shape`
    says it. By default the gradient is that of the fixed point itself, and no step is kept."""
    inputs = (1, None)
    arguments = (
        Argument(name="f", kind="layer", doc="the layer of the state and of what drives it"),
        Argument(
            name="solve",
            kind="solver",
            doc="`fixed_point`, `anderson` or `broyden`; none for `fixed_point()`",
            default=None,
            nullable=True,
        ),
        Argument(
            name="gradient",
            kind="settled_gradient",
            doc="`ift`, `phantom(k)` or `unrolled`; none for `ift()`",
            default=None,
            nullable=True,
        ),
        Argument(
            name="shape",
            kind="size",
            doc="the shape of the state; none for the declared one",
            default=None,
            nullable=True,
            listed="yes",
            at_least=1,
        ),
    )
    expands = True
    example = "z = x -> equilibrium(cell(64), solve = anderson)"

    def expand(
        self, expansion: Expansion, inputs: tuple[Any, ...], arguments: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Put the body of f into a block of its own, as a loop."""
        from nnspec.compiler.systems.equilibrium import equilibrium

        return equilibrium(expansion, inputs, arguments)

    def shape(self, site: Site) -> tuple[Type, ...]:
        raise TypeError("equilibria stand in no graph: they are expanded")


OPERATIONS = (Equilibrium(),)
