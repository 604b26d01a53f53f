"""`and`, `or` and `not` on truth values, entry by entry."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.arithmetic import entrywise_terms
from nnspec.compiler.operations.axes import aligned, broadcast, elements
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Elementwise, Relation


class Logic(Operation):
    """A function of truth values, written between them or before one."""

    aligns = True
    symbol: str

    def __init__(self, name: str, symbol: str, word: str, inputs: int) -> None:
        self.name = name
        self.symbol = symbol
        self.word = word
        self.inputs = (inputs, inputs)
        written, shown = (
            (f"a {word} b", f"(x > 0) {word} (x < 1)") if inputs == 2 else ("not a", "not (x > 0)")
        )
        self.doc = f"`{written}` on truth values, entry by entry."
        self.example = f"inside = {shown}"

    def shape(self, site: Site) -> tuple[Type, ...]:
        for given in site.inputs:
            if given.dtype != "bool":
                raise ShapeProblem(
                    f"`{self.word}` works on truth values",
                    expected=str(given.replace(dtype="bool")),
                    found=str(given),
                    help="compare first: `x > 0`",
                )
        return (Type(axes=broadcast(site), dtype="bool"),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        if len(inputs) == 1:
            return f"{self.symbol}{inputs[0]}"
        return f" {self.symbol} ".join(aligned(site, inputs))

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        if self.word == "not":
            return not values[0]
        return all(values) if self.word == "and" else any(values)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        return (Elementwise(terms=terms, output=out),)


OPERATIONS = (
    Logic("logical_and", "&", "and", 2),
    Logic("logical_or", "|", "or", 2),
    Logic("logical_not", "~", "not", 1),
)
