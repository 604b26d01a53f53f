"""The constraints of the library, and what a `constrain` line's expression means.

A constraint is a map from the stored tensor to the effective weight, itself a block of the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.binary import Binary
from nnspec.compiler.constraints.tied import Tied
from nnspec.compiler.ir import Tie, WeightMap
from nnspec.compiler.values import Given, Layer, Refused, describe
from nnspec.dsl.catalog import Entry, validate
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.names import NotAConstraint
from nnspec.dsl.errors.selectors import ConflictingConstraints
from nnspec.dsl.syntax import Binary as BinaryExpression
from nnspec.dsl.syntax import CallOf, Expression, Name

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator
    from nnspec.compiler.evaluate import Evaluator

_CONSTRAINTS: dict[str, Any] = {rule.name: rule for rule in (Binary(), Tied())}


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the constraints."""
    return tuple(rule.entry() for rule in _CONSTRAINTS.values())


def constraint_maps(
    elaborator: Elaborator, evaluator: Evaluator, expression: Expression
) -> tuple[WeightMap | Tie, ...]:
    """Return the maps of `a & b(..)`, or raise Refused."""
    parts = _parts(expression)
    maps = tuple(_constraint(elaborator, evaluator, part) for part in parts)
    if len(maps) > 1:
        first, second = (part.span.text for part in parts[:2])
        why = "two maps of the whole weight would undo each other"
        raise Refused(ConflictingConstraints(expression.span, first=first, second=second, why=why))
    return maps


def _parts(expression: Expression) -> list[Expression]:
    if isinstance(expression, BinaryExpression) and expression.operator == "&":
        return [*_parts(expression.left), *_parts(expression.right)]
    return [expression]


def _constraint(elaborator: Elaborator, evaluator: Evaluator, expression: Expression) -> WeightMap | Tie:
    function = expression.function if isinstance(expression, CallOf) else expression
    arguments = expression.arguments if isinstance(expression, CallOf) else ()
    if not isinstance(function, Name):
        member = evaluator.expression(function)
        found = member.target if isinstance(member, Layer) else None
    else:
        found = evaluator.builder.module.names.get(function.name)
    if isinstance(found, Definition) and found.kind == "constraint":
        given = tuple(evaluator.given(argument) for argument in arguments)
        return elaborator.constraint_map(found, given, expression.span)
    rule = _CONSTRAINTS.get(function.name) if isinstance(function, Name) else None
    if rule is None:
        raise Refused(NotAConstraint(function.span, name=function.span.text, kind="value"))
    if isinstance(rule, Tied):
        return rule.tie(evaluator, arguments, expression.span)
    given = tuple(evaluator.given(argument) for argument in arguments)
    return rule.map(_validated(rule.entry(), given, expression), expression.span)


def _validated(entry: Entry, given: tuple[Given, ...], expression: Expression) -> dict[str, Any]:
    from nnspec.compiler.callables import match_arguments

    matched = match_arguments(entry.name, tuple(a.name for a in entry.arguments), given, expression.span)
    values = {name: item.value for name, item in matched.items()}
    arguments, problems = validate(entry, values)
    if problems:
        problem = problems[0]
        item = matched.get(problem.argument)
        span = item.span if item is not None else expression.span
        found = describe(values.get(problem.argument))
        raise Refused(WrongArgument(span, callee=entry.name, why=problem.why, found=found))
    return arguments
