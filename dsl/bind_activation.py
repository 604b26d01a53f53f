"""Looks up every name in an activation of the language: what it learns, its function, its claims.

activation bent(learn slope: real[unit] = 0.25) {
  x => where(x > 0, x, slope * x)
  expect homogeneous(1)
}
"""

from __future__ import annotations

from nnspec.dsl.bind_expression import ExpressionBinder
from nnspec.dsl.errors.definitions import (
    ActivationArity,
    LearnedType,
    LearnElsewhere,
    LearnWithoutStart,
    UnknownClaim,
)
from nnspec.dsl.syntax import (
    ActivationDefinition,
    CallOf,
    Expect,
    Expression,
    Name,
    ParameterDeclaration,
    WrittenAxis,
)

CLAIMS = ("odd", "even", "homogeneous")  # what an activation may say of itself
LEARNED_AXES = ("unit", "edge")  # of what a learned parameter has one for each


def bind_activation(binder: ExpressionBinder, item: ActivationDefinition) -> None:
    """Check the function and the claims of an activation whose parameters are in scope."""
    if len(item.function.parameters) != 1:
        binder.bag.add(ActivationArity(item.function.span, name=item.name))
    binder.expression(item.function)
    for claim in item.claims:
        _claim(binder, item.name, claim)


def bind_learned(binder: ExpressionBinder, parameter: ParameterDeclaration) -> None:
    """Check `learn a: real[unit, k] = 1.0`, which activations alone have."""
    definition = binder.definition
    if definition is None or definition.kind != "activation":
        name, kind = ("this", "let") if definition is None else (definition.name, definition.kind)
        binder.bag.add(LearnElsewhere(parameter.span, name=parameter.name, kind=kind, owner=name))
    elif parameter.default is None:
        binder.bag.add(LearnWithoutStart(parameter.span, name=parameter.name, owner=definition.name))
    written = parameter.type
    if written is not None and written.name != "real":
        why = "what is learned is a real number"
        binder.bag.add(LearnedType(written.span, name=parameter.name, why=why))
    for place, axis in enumerate(written.axes or () if written is not None else ()):
        _axis(binder, parameter.name, place, axis)


def names_initializer(binder: ExpressionBinder, default: Expression) -> bool:
    """Return whether a default is a word for initial values, such as `normal(std = 0.1)`."""
    function = default.function if isinstance(default, CallOf) else default
    return isinstance(function, Name) and binder.catalog.find("initializer", function.name) is not None


def _axis(binder: ExpressionBinder, name: str, place: int, axis: WrittenAxis) -> None:
    size = axis.size
    if axis.rest or size is None:
        binder.bag.add(LearnedType(axis.span, name=name, why="`..` has no size"))
    elif isinstance(size, Name) and size.name in LEARNED_AXES:
        if place > 0:
            why = f"`{size.name}` stands first: one row a {size.name}"
            binder.bag.add(LearnedType(axis.span, name=name, why=why))
    else:
        binder.expression(size)


def _claim(binder: ExpressionBinder, name: str, claim: Expect) -> None:
    """Check `expect odd`, `expect even` or `expect homogeneous(2)`."""
    written = claim.condition
    function = written.function if isinstance(written, CallOf) else written
    word = function.name if isinstance(function, Name) else ""
    arguments = written.arguments if isinstance(written, CallOf) else ()
    right_count = len(arguments) == (1 if word == "homogeneous" else 0)
    if word not in CLAIMS or not right_count or any(a.name not in (None, "degree") for a in arguments):
        binder.bag.add(UnknownClaim(written.span, name=name))
    for argument in arguments:
        binder.expression(argument.value)
