"""`box(low, high)`: every entry lies between two numbers.

With `binary` and its like the stored weight is what stays in the box, as Courbariaux, Bengio and David
("BinaryConnect", NeurIPS 2015, section 2.4) clip theirs to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.stored import PROJECTED, ProjectedConstraint
from nnspec.compiler.ir import Code
from nnspec.compiler.values import Refused
from nnspec.dsl.catalog import Argument
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument as WrittenArgument

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


class Box(ProjectedConstraint):
    name = "box"
    doc = """Every entry lies between `low` and `high`: after each step, what is outside moves to the bound.
    Together with `binary` it is the stored weight that stays in the box."""
    arguments = (
        Argument(name="low", kind="real", doc="the least that an entry may be"),
        Argument(name="high", kind="real", doc="the most that an entry may be"),
    )
    refuses: ClassVar[Mapping[str, str]] = {kind: why for kind, why in PROJECTED.items() if kind != "values"}
    keeps = ("permutations",)
    example = "constrain fc1.weight: box(-1, 1)"

    def use(
        self, evaluator: Evaluator, arguments: tuple[WrittenArgument, ...], span: Span | None
    ) -> dict[str, Any]:
        """Return the bounds, the lower one below the higher, or raise Refused."""
        options = super().use(evaluator, arguments, span)
        low, high = options["low"], options["high"]
        if low >= high:
            why = "`low` must be below `high`"
            raise Refused(WrongArgument(span, callee=self.name, why=why, found=f"{low:g} and {high:g}"))
        return options

    def code(self, site: WeightSite) -> Code:
        options = (("low", float(site["low"])), ("high", float(site["high"])))
        return Code(file="box", name="box", options=options)
