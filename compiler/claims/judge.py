"""Whether claims hold: the condition evaluated, every part of it with its value.

In: a claim and the measures that it speaks of. Out: a verdict, with a diagnostic that shows the value of each part
if the claim does not hold or is not known to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnspec.compiler.claims.claim import Claim, Verdict, is_function
from nnspec.compiler.claims.measures import Measures
from nnspec.compiler.claims.numbers import NoNumber, apply, arithmetic, compare, negative, shown
from nnspec.compiler.passes.analysis import Result, Table
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.claims import ClaimFailed, NotAClaim, UndecidedClaim
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Binary, Boolean, CallOf, Expression, Member, Name, Number, Unary
from nnspec.dsl.write import expression as canonical

RELATIONS = ("==", "!=", "<", "<=", ">", ">=")


def judge(claim: Claim, measures: Measures) -> Verdict:
    """Return whether a claim holds, and what its parts are."""
    reader = _Reader(claim, measures)
    try:
        found = reader.value(claim.condition)
    except NoNumber as unknown:
        error: Error = UndecidedClaim(
            reader.at, reader.related(), name=claim.of, why=str(unknown), label="not known", help=None
        )
        return Verdict(claim=claim, holds=False, values=reader.values(), error=error)
    if not isinstance(found, bool):
        why, label = "it is a number, and no condition", f"is {shown(found)}"
        error = NotAClaim(claim.condition.span, why=why, label=label, help="compare it: `... == 10`")
        return Verdict(claim=claim, holds=False, values=reader.values(), error=error)
    failed = ClaimFailed(claim.condition.span, reader.related(), name=claim.of, label="false", help=None)
    return Verdict(claim=claim, holds=found, values=reader.values(), error=None if found else failed)


def result_of(verdicts: Iterable[Verdict]) -> Result:
    """Return the claims about one network or experiment as passes return what they find."""
    found = list(verdicts)
    held = sum(verdict.holds for verdict in found)
    noun = "claim holds" if len(found) == 1 else "claims hold"
    return Result(
        data={"claims": [verdict.json() for verdict in found]},
        summary=f"{held} of {len(found)} {noun}.",
        tables=(table_of(found),),
    )


def table_of(verdicts: Iterable[Verdict], title: str = "Claims") -> Table:
    """Return claims, the values of their parts, and whether they hold."""
    rows = tuple(
        (
            verdict.claim.text,
            "; ".join(f"{part} = {shown(value)}" for part, value in verdict.values),
            "yes" if verdict.holds else "no" if isinstance(verdict.error, ClaimFailed) else "not known",
        )
        for verdict in verdicts
    )
    return Table(title=title, columns=("claim", "values", "holds"), rows=rows)


class _Reader:
    """Evaluates one claim and notes the value of each part."""

    def __init__(self, claim: Claim, measures: Measures) -> None:
        self.known = dict(claim.known)
        self.measures = measures
        self.at: Span = claim.condition.span  # what is evaluated
        self.parts: dict[tuple[int, int], tuple[Expression, Any, str]] = {}  # value, and a note

    def value(self, expression: Expression) -> Any:
        self.at = expression.span
        match expression:
            case Number(value=value):
                return value
            case Boolean(value=truth):
                return truth
            case Unary(operator=operator, operand=operand):
                return self.unary(operator, self.value(operand))
            case Binary(operator=operator) if operator in ("and", "or"):
                return self.joined(expression)
            case Binary():
                return self.binary(expression)
            case CallOf(arguments=arguments) if is_function(expression):
                given = tuple(self.value(argument.value) for argument in arguments)
                self.at = expression.span
                return self.noted(expression, apply(canonical(expression.function), given))
            case Name() | Member() | CallOf():
                return self.place(expression)
            case _:
                raise NoNumber("a part of it is no number")

    def unary(self, operator: str, value: Any) -> Any:
        if operator != "not":
            return negative(value) if operator == "-" else value
        if not isinstance(value, bool):
            raise NoNumber("`not` stands before a condition")
        return not value

    def joined(self, expression: Binary) -> bool:
        """Evaluate both sides, so that each value is shown."""
        left, right = self.value(expression.left), self.value(expression.right)
        if not isinstance(left, bool) or not isinstance(right, bool):
            raise NoNumber(f"`{expression.operator}` joins conditions")
        return (left and right) if expression.operator == "and" else (left or right)

    def binary(self, expression: Binary) -> Any:
        sides = (expression.left, expression.right)
        left, right = (self.value(side) for side in sides)
        tolerance = None if expression.tolerance is None else self.value(expression.tolerance)
        self.at = expression.span
        if expression.operator not in RELATIONS:
            return arithmetic(expression.operator, left, right)
        for side, value in zip(sides, (left, right), strict=True):
            if isinstance(side, Binary):
                self.noted(side, value)
        return compare(expression.operator, left, right, tolerance)

    def place(self, expression: Expression) -> Any:
        name = canonical(expression)
        if name in self.known:
            return self.noted(expression, self.known[name])
        return self.noted(expression, self.measures.value(name), self.measures.note(name))

    def noted(self, expression: Expression, value: Any, note: str = "") -> Any:
        span = expression.span
        self.parts[span.start, span.end] = (expression, value, note)
        return value

    def related(self) -> tuple[Related, ...]:
        """Return the value under each part, from left to right."""
        parts = (self.parts[place] for place in sorted(self.parts))
        return tuple(Related(span=part.span, label=shown(value) + note) for part, value, note in parts)

    def values(self) -> tuple[tuple[str, Any], ...]:
        """Return the value of each part, each once."""
        parts = (self.parts[place] for place in sorted(self.parts))
        return tuple({canonical(part): value for part, value, _ in parts}.items())
