"""The arguments of a constraint, as written after its word: matched, evaluated, validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.values import Refused, describe
from nnspec.dsl.catalog import Entry, validate
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


def validated(
    entry: Entry, evaluator: Evaluator, written: tuple[Argument, ...], span: Span | None
) -> dict[str, Any]:
    """Return all arguments of an entry, defaults filled in, or raise Refused."""
    from nnspec.compiler.callables import match_arguments

    given = tuple(evaluator.given(argument) for argument in written)
    matched = match_arguments(entry.name, tuple(a.name for a in entry.arguments), given, span)
    values = {name: item.value for name, item in matched.items()}
    arguments, problems = validate(entry, values)
    if problems:
        problem = problems[0]
        item = matched.get(problem.argument)
        place = item.span if item is not None else span
        found = describe(values.get(problem.argument))
        raise Refused(WrongArgument(place, callee=entry.name, why=problem.why, found=found))
    return arguments
