"""Comparisons, which give truth values, and `where`, which chooses by them."""

from __future__ import annotations

import operator
from typing import Any

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.arithmetic import CONSTANT, entrywise_terms, number_sides, operands, sides
from nnspec.compiler.operations.axes import aligned, broadcast, elements, ordered
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Choice, Relation
from nnspec.compiler.relations import Elementwise as ElementwiseRelation
from nnspec.dsl.catalog import Argument

COMPARED = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class Comparison(Operation):
    """left symbol right, entry by entry, giving a truth value."""

    inputs = (1, 2)
    arguments = CONSTANT
    aligns = True
    symbol: str

    def __init__(self, name: str, symbol: str, words: str) -> None:
        self.name = name
        self.symbol = symbol
        self.doc = f"Whether a {words} b, entry by entry. As a number, true is 1 and false 0."
        self.example = f"kept = x * (abs(x) {symbol} 0.5)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        sides(site, self.symbol)
        if self.symbol not in ("==", "!=") and any(given.dtype == "complex" for given in site.inputs):
            ordered(site)
        return (Type(axes=broadcast(site), dtype="bool"),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        left, right = operands(site, inputs)
        return f"{left} {self.symbol} {right}"

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        left, right = number_sides(arguments, values)
        return COMPARED[self.symbol](left, right)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        at_zero = site["constant"] == 0
        ordered = self.symbol not in ("==", "!=")
        return (
            ElementwiseRelation(
                terms=terms,
                output=out,
                parity=("complement" if ordered else "even") if at_zero else "none",
                degree=0 if at_zero else None,
            ),
        )


class Where(Operation):
    name = "where"
    doc = """One of two values, entry by entry: `then` where the condition holds, `otherwise` elsewhere.

    Written where(condition, a, b); a and b are tensors or numbers."""
    inputs = (1, 3)
    arguments = (
        Argument(name="then", kind="value", doc="a number in place of the second input", default=None),
        Argument(name="otherwise", kind="value", doc="a number in place of the third input", default=None),
    )
    aligns = True
    example = "signs = where(w >= 0, 1, -1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        numbers = [site[name] for name in ("then", "otherwise") if site[name] is not None]
        if len(site.inputs) + len(numbers) != 3:
            raise ShapeProblem(
                "takes a condition and two values",
                expected="where(condition, a, b)",
                found=f"{len(site.inputs) - 1 + len(numbers)} value(s)",
            )
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise ShapeProblem(
                "chooses between tensors and numbers", expected="numbers", found="another value"
            )
        if site.inputs[0].dtype != "bool":
            raise ShapeProblem(
                "the condition must be true or false at each entry",
                expected="bool, such as `x > 0`",
                found=str(site.inputs[0]),
                help="compare first: `where(x > 0, a, b)`",
            )
        return (Type(axes=self.axes(site), dtype=self.dtype(site)),)

    def axes(self, site: Site) -> tuple[Axis, ...]:
        return broadcast(site)

    def dtype(self, site: Site) -> str:
        """Return the number kind of the result. Constants are real: `where(c, 1, -1)` is a weight."""
        kinds = {given.dtype for given in site.inputs[1:]}
        if len(kinds) == 2 and "bool" in kinds:
            raise ShapeProblem(
                "the two values differ in kind",
                expected=str(site.inputs[1]),
                found=str(site.inputs[2]),
            )
        if kinds == {"bool"} and len(site.inputs) == 3:
            return "bool"
        whole = kinds == {"int"} and not any(isinstance(site[name], float) for name in ("then", "otherwise"))
        return "int" if whole else "complex" if "complex" in kinds else "real"

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        condition, *tensors = aligned(site, inputs)
        waiting = iter(tensors)
        values = [
            next(waiting) if site[name] is None else self.number_text(site, site[name])
            for name in ("then", "otherwise")
        ]
        chosen = f"torch.where({condition}, {', '.join(values)})"
        # Two numbers give torch's default number type, whatever that of the network.
        return f"{chosen}.to({weights['dtype']})" if len(inputs) == 1 else chosen

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        then, otherwise = site["then"], site["otherwise"]
        opposite = then is not None and otherwise is not None and then == -otherwise
        parity = "exchange" if opposite else "none"
        return (Choice(terms=terms, output=out, parity=parity, constants=(then, otherwise)),)

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        condition, *tensors = values
        waiting = iter(tensors)
        then, otherwise = (
            next(waiting) if arguments[name] is None else arguments[name] for name in ("then", "otherwise")
        )
        return then if condition else otherwise

    def number_text(self, site: Site, value: Any) -> str:
        return repr(float(value)) if self.dtype(site) == "real" else repr(value)


OPERATIONS = (
    Comparison("greater", ">", "is greater than"),
    Comparison("greater_equal", ">=", "is at least"),
    Comparison("less", "<", "is less than"),
    Comparison("less_equal", "<=", "is at most"),
    Comparison("equal", "==", "equals"),
    Comparison("not_equal", "!=", "differs from"),
    Where(),
)
