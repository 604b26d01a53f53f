"""Mixed units: `product`, a unit of two entries, and `units`, a function for each share of the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import elements, exact_half
from nnspec.compiler.operations.operation import Cost, Operation, Site, last_axis
from nnspec.compiler.relations import Contract, Middle, Part, Relation, Term, axes_of
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from nnspec.compiler.expansion import Expansion


class Product(Operation):
    name = "product"
    doc = """Multiplies the first half of the last axis with the second: [2 k] gives [k], y_i = x_i * x_(k + i).

    The product units of equation learners (Martius and Lampert 2016); of two values it is `a * b`."""
    takes = 2
    example = "y = x -> dense(8) -> product -> dense(1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        half = exact_half(site)
        given = site.inputs[0]
        kind = "int" if given.dtype == "bool" else given.dtype
        return (given.replace(axes=(*given.axes[:-1], Axis(size=half)), dtype=kind),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        half = site.outputs[0].shape[-1]
        given = f"{inputs[0]}.long()" if site.inputs[0].dtype == "bool" else inputs[0]
        return f"{given}[..., :{half}] * {given}[..., {half}:]"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site.outputs[0].shape
        axis, labels = len(shape) - 1, axes_of(len(shape))
        left, right = (Term(tensor=name, labels=labels) for name in ("left", "right"))
        return (
            Middle(tensor="left", shape=shape),
            Middle(tensor="right", shape=shape),
            Part(whole="in0", part="left", axis=axis, start=0, part_axis=axis),
            Part(whole="in0", part="right", axis=axis, start=shape[-1], part_axis=axis),
            Contract(terms=(left, right), output=Term(tensor="out0", labels=labels)),
        )


class Units(Operation):
    name = "units"
    doc = """Units of several kinds side by side: each function takes its share of the last axis, `f * k` means k units.

    units([sin, square, identity * 4, product]) takes 8 entries, one for `sin`, one for `square`, four that stay and
    two that `product` makes one, and gives 7. The shares must add up to the axis."""
    arguments = (
        Argument(
            name="kinds", kind="value", doc="the functions, `f` for one unit, `f * k` for k", listed="yes"
        ),
    )
    expands = True
    example = "y = x -> dense(8) -> units([sin, square, identity * 4, product]) -> dense(1)"

    def expand(
        self, expansion: Expansion, inputs: tuple[Any, ...], arguments: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Cut the axis, apply each function to its share, and join what comes out."""
        last_kinds = expansion.units(arguments["kinds"])
        sizes = tuple(takes * count for _, count, takes in last_kinds)
        pieces = expansion.apply("split", inputs, parts=sizes, axis=-1)
        made = tuple(
            expansion.apply_layer(layer, piece)
            for (layer, _, _), piece in zip(last_kinds, pieces, strict=True)
        )
        return expansion.apply("concat", made, axis=-1)

    def shape(self, site: Site) -> tuple[Type, ...]:
        last_axis(site)
        raise TypeError("units stand in no graph: they are expanded")


OPERATIONS = (Product(), Units())
