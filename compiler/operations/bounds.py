"""The larger or smaller of values, entry by entry: `maximum`, `minimum`, `clamp`."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.arithmetic import entrywise_terms
from nnspec.compiler.operations.axes import aligned, broadcast, elements, ordered
from nnspec.compiler.operations.operation import Around, Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Elementwise, Relation
from nnspec.dsl.catalog import Argument


def same_kind(site: Site) -> str:
    """Return the number kind that all inputs have; ShapeProblem if they differ."""
    first = site.inputs[0]
    for index, other in enumerate(site.inputs[1:], start=2):
        if other.dtype != first.dtype:
            raise ShapeProblem(
                "its inputs differ in kind",
                expected=f"{first}, as its input 1",
                found=f"{other}, as its input {index}",
            )
    return first.dtype


class Extreme(Operation):
    """The largest or the smallest of several values, or of one value and a number."""

    inputs = (1, None)
    aligns = True
    arguments = (
        Argument(name="bound", kind="real", doc="a number beside the inputs", default=None, nullable=True),
    )

    def __init__(self, name: str, method: str, doc: str) -> None:
        self.name = name
        self.method = method  # how torch's clamp calls this bound
        self.doc = doc
        self.example = f"y = {name}(a, b)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        ordered(site)
        if len(site.inputs) + (site["bound"] is not None) < 2:
            raise ShapeProblem(
                "compares several values, or one with a number",
                expected=f"{self.name}(a, b) or {self.name}(a, 0)",
                found="one value",
            )
        kind = same_kind(site)
        if isinstance(site["bound"], float):
            kind = "real"
        return (Type(axes=broadcast(site), dtype=kind),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=(len(site.inputs) - (site["bound"] is None)) * elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        text = reduce(lambda left, right: f"torch.{self.name}({left}, {right})", aligned(site, inputs))
        bound = site["bound"]
        if bound is None:
            return text
        if isinstance(bound, float) and site.inputs[0].dtype != "real":
            text = f"{text}.to({weights['dtype']})"
        return f"{text}.clamp({self.method}={bound!r})"

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        bound = arguments["bound"]
        chosen = max if self.name == "maximum" else min
        return chosen(values if bound is None else (*values, bound))

    def kinks(self, arguments: dict[str, Any]) -> tuple[float, ...]:
        return () if arguments["bound"] is None else (arguments["bound"],)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        # A number among the values keeps no shift, and a positive scale only if it is 0.
        bound = site["bound"]
        degree = 1.0 if bound is None or bound == 0 else None
        shifts = 1.0 if bound is None else None
        return (Elementwise(terms=terms, output=out, degree=degree, shifts=shifts, is_symmetric=True),)


class Clamp(Operation):
    name = "clamp"
    takes = 1
    doc = "y = min(max(x, low), high), entry by entry: what lies outside is brought to the border."
    arguments = (
        Argument(name="low", kind="real", doc="the smallest value", default=None, nullable=True),
        Argument(name="high", kind="real", doc="the largest value", default=None, nullable=True),
    )
    example = "y = x -> clamp(-1, 1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        ordered(site)
        low, high = site["low"], site["high"]
        if low is None and high is None:
            raise ShapeProblem("has no border", expected="`low`, `high` or both", found="neither")
        if low is not None and high is not None and low > high:
            raise ShapeProblem(
                "the borders are in the wrong order", expected="low <= high", found=f"{low} > {high}"
            )
        fractional = isinstance(low, float) or isinstance(high, float)
        given = site.inputs[0]
        return (given.replace(dtype="real") if fractional else given,)

    def cost(self, site: Site) -> Cost:
        borders = (site["low"] is not None) + (site["high"] is not None)
        return Cost(flops=borders * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        low, high = site["low"], site["high"]
        text = inputs[0]
        if site.inputs[0].dtype != site.outputs[0].dtype:
            text = f"{text}.to({weights['dtype']})"
        if low is not None and high is not None:
            return f"{text}.clamp({low!r}, {high!r})"
        return f"{text}.clamp(min={low!r})" if high is None else f"{text}.clamp(max={high!r})"

    def pullback(self, site: Site, around: Around, weights: dict[str, str]) -> str | None:
        low, high, given = site["low"], site["high"], around.given
        if given is None or site.inputs[0].dtype != "real":
            return None
        sides = [f"({given} >= {low!r})"] if low is not None else []
        sides += [f"({given} <= {high!r})"] if high is not None else []
        slope = f"({' & '.join(sides)}).to({given}.dtype)"
        return slope if around.cotangent == "1.0" else f"{around.cotangent} * {slope}"

    def identity_on(self, arguments: dict[str, Any]) -> tuple[float, float]:
        low, high = arguments["low"], arguments["high"]
        return (-math.inf if low is None else low, math.inf if high is None else high)

    def kinks(self, arguments: dict[str, Any]) -> tuple[float, ...]:
        return tuple(border for border in (arguments["low"], arguments["high"]) if border is not None)

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        low, high = arguments["low"], arguments["high"]
        found = values[0] if low is None else max(values[0], low)
        return found if high is None else min(found, high)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        low, high = site["low"], site["high"]
        parity = "odd" if low is not None and high is not None and low == -high else "none"
        degree = 1.0 if (low, high) in ((0, None), (None, 0)) else None
        return (Elementwise(terms=terms, output=out, parity=parity, degree=degree),)


OPERATIONS = (
    Extreme(
        "maximum",
        "min",
        "The largest of its inputs, entry by entry: maximum(a, b), or maximum(a, 0). Along axes it is `max`.",
    ),
    Extreme(
        "minimum",
        "max",
        "The smallest of its inputs, entry by entry: minimum(a, b), or minimum(a, 1). Along axes it is `min`.",
    ),
    Clamp(),
)
