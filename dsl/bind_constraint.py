"""Looks up every name in a constraint of the language, clause by clause.

w => ...                        the map: stored weight -> weight in force
gradient straight_through(..)   instead of the map's own derivative; or (w, g) => ...
project w => ...                brings the stored weight back after each step
penalty w => ...                a number that is added to the loss
mask (i, j) => ...              which entries there are
"""

from __future__ import annotations

from nnspec.dsl.bind_callees import unknown_argument
from nnspec.dsl.bind_expression import ExpressionBinder
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.arguments import ConstraintClauses, DuplicateArgument
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import CallOf, ConstraintClause, ConstraintDefinition, Expression, Lambda, Name

_TWICE = {
    "forward": "it has two maps, and a weight is mapped once",
    "gradient": "it has two gradients",
    "project": "it has two projections",
    "penalty": "it has two penalties",
    "mask": "it has two masks",
}
_FUNCTIONS = {
    "forward": (1, "its map takes one tensor, the stored weight"),
    "gradient": (
        2,
        "its gradient takes two tensors, the stored weight and the gradient of the weight in force: (w, g) => ...",
    ),
    "project": (1, "its projection takes one tensor, the stored weight after a step"),
    "penalty": (1, "its penalty takes one tensor, the weight in force"),
}


def bind_clauses(binder: ExpressionBinder, item: ConstraintDefinition) -> None:
    """Check the clauses of a constraint whose parameters are in scope."""
    first: dict[str, Span] = {}
    for clause in item.clauses:
        if clause.kind in first:
            related = (Related(span=first[clause.kind], label="the first one"),)
            why = _TWICE[clause.kind]
            binder.bag.add(ConstraintClauses(clause.span, related, name=item.name, why=why))
        else:
            _clause(binder, item.name, clause)
        first.setdefault(clause.kind, clause.span)
    if "forward" not in first and not set(first) - {"gradient"}:
        why = "it has no map, a line such as `w => sign(w)`"
        binder.bag.add(ConstraintClauses(item.name_span or item.span, name=item.name, why=why))
    elif "forward" not in first and "gradient" in first:
        why = "it has a gradient, and no map that it would be the gradient of"
        binder.bag.add(ConstraintClauses(first["gradient"], name=item.name, why=why))


def _clause(binder: ExpressionBinder, name: str, clause: ConstraintClause) -> None:
    value = clause.value
    if isinstance(value, Lambda):
        count, why = _FUNCTIONS.get(clause.kind, (len(value.parameters), ""))
        if len(value.parameters) != count:
            binder.bag.add(ConstraintClauses(value.span, name=name, why=why))
        binder.expression(value)
    elif _names_straight_through(value):
        _straight_through(binder, value)
    else:
        why = "a gradient is `straight_through`, `straight_through(clip = 1)` or a function `(w, g) => ...`"
        binder.bag.add(ConstraintClauses(value.span, name=name, why=why))


def _names_straight_through(value: Expression) -> bool:
    function = value.function if isinstance(value, CallOf) else value
    return isinstance(function, Name) and function.name == "straight_through"


def _straight_through(binder: ExpressionBinder, value: Expression) -> None:
    seen: set[str] = set()
    for argument in value.arguments if isinstance(value, CallOf) else ():
        binder.expression(argument.value)
        if argument.name not in (None, "clip"):
            known = ("clip",)
            binder.bag.add(unknown_argument("straight_through", argument.name or "", known, argument.span))
        elif argument.name in seen:
            binder.bag.add(DuplicateArgument(argument.span, name="clip"))
        seen.add(argument.name or "")
