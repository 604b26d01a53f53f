"""What a claim is, and what became of it: `expect parameters == 118_282`.

In: a condition as written, and the values that its names have while compiling. Out: nodes that say what is left to
measure. Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nnspec.compiler.claims.numbers import Number, plain
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Binary, CallOf, Expression, Member, Name, Unary
from nnspec.dsl.write import expression as canonical

FUNCTIONS = ("factorial", "log10", "abs", "min", "max")


class Claim(Node):
    """A claim about a network or an experiment, `of` which it is."""

    of: str
    condition: Expression
    known: tuple[tuple[str, Any], ...] = ()  # values of its names that are no measures
    measured: tuple[str, ...] = ()  # names of measures
    span: Span

    @property
    def text(self) -> str:
        return canonical(self.condition)


class Verdict(Node):
    """A claim, whether it holds, and the value of each of its parts; `error` says why it does not."""

    claim: Claim
    holds: bool
    values: tuple[tuple[str, Number], ...] = ()
    error: Error | None = None

    def json(self) -> dict[str, Any]:
        """Return what the commands print as JSON."""
        values = {part: plain(value) for part, value in self.values}
        found: dict[str, Any] = {"claim": self.claim.text, "holds": self.holds, "values": values}
        if self.error is not None:
            found["problem"] = f"{self.error.code}: {self.error.message}"
        return found


def joined_by_and(claim: Claim) -> Iterator[Claim]:
    """Yield the parts of a claim that must all hold, each as a claim of its own; the claim itself if it is one part."""
    waiting = [claim.condition]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Binary) and part.operator == "and":
            waiting = [part.left, part.right, *waiting]
            continue
        named = {canonical(place) for place in places(part)}
        yield claim.replace(
            condition=part, measured=tuple(name for name in claim.measured if name in named), span=part.span
        )


def is_function(expression: Expression) -> bool:
    """Return whether an expression is a call of a function of claims."""
    function = expression.function if isinstance(expression, CallOf) else None
    return isinstance(function, Name) and function.name in FUNCTIONS


def places(expression: Expression) -> Iterator[Expression]:
    """Yield the parts of a condition that have a value of their own: names, dotted or not, and their calls."""
    match expression:
        case CallOf(arguments=arguments) if is_function(expression):
            for argument in arguments:
                yield from places(argument.value)
        case Name() | Member() | CallOf():
            yield expression
        case Unary(operand=operand):
            yield from places(operand)
        case Binary(left=left, right=right, tolerance=tolerance):
            for side in (left, right, tolerance):
                if side is not None:
                    yield from places(side)
        case _:
            return
