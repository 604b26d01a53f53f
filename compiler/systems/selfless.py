"""`except self`: no unit drives itself, whatever the order of the states on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.constraints.conditions import Condition, condition
from nnspec.compiler.systems.parts import End, State
from nnspec.compiler.values import Refused
from nnspec.dsl.errors.systems import WrongEnd
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Binary, Connect, Expression, Lambda, Name, Number

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


def apart(
    evaluator: Evaluator, statement: Connect, sources: tuple[End, ...], targets: tuple[State, ...]
) -> Condition:
    """Return the condition on (target j, source i) that leaves out each unit's connection to itself."""
    if statement.except_ != "self":
        why = "`except` takes the word `self`: no unit is joined to itself"
        raise Refused(
            WrongEnd(
                statement.span,
                name=str(statement.except_),
                way="leave out",
                why=why,
                help="write `except self`",
            )
        )
    span = statement.span
    shared = [state for state in targets if any(end.state is state for end in sources)]
    if not shared:
        why = "no state stands on both sides, so no unit is joined to itself"
        raise Refused(WrongEnd(span, name="self", way="leave out", why=why, help="leave `except self` out"))
    if [end.state for end in sources] == list(targets):
        test: Expression = _binary("!=", Name(name="i", span=span), Name(name="j", span=span), span)
    else:
        test = _one_by_one(sources, targets, shared, span)
    return condition(evaluator, Lambda(parameters=("j", "i"), body=test, span=span))


def _one_by_one(
    sources: tuple[End, ...], targets: tuple[State, ...], shared: list[State], span: Span
) -> Expression:
    """For each shared state: not (it is one of its rows, and the column is as far from its first one)."""
    found: Expression | None = None
    for state in shared:
        row = sum(t.size for t in targets[: targets.index(state)])
        ahead = sources[: next(n for n, end in enumerate(sources) if end.state is state)]
        if any(end.size is None for end in ahead):
            why = "a value stands before it whose size is not known here"
            raise Refused(
                WrongEnd(
                    span, name="self", way="leave out", why=why, help="write a `connect` line for that value"
                )
            )
        column = sum(end.size or 0 for end in ahead)
        i, j = Name(name="i", span=span), Name(name="j", span=span)
        differs = _binary(
            "!=",
            _binary("-", i, _number(column, span), span),
            _binary("-", j, _number(row, span), span),
            span,
        )
        one = _binary("or", _binary(">=", j, _number(row + state.size, span), span), differs, span)
        if row:
            one = _binary("or", _binary("<", j, _number(row, span), span), one, span)
        found = one if found is None else _binary("and", found, one, span)
    assert found is not None
    return found


def _binary(operator: str, left: Expression, right: Expression, span: Span) -> Binary:
    return Binary(operator=operator, left=left, right=right, span=span)


def _number(value: int, span: Span) -> Number:
    return Number(value=value, text=str(value), span=span)
