"""Arguments against the parameters that a definition declares: matched, defaults evaluated, types checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.callables import match_arguments
from nnspec.compiler.evaluate_owned import initializer
from nnspec.compiler.ir import Init
from nnspec.compiler.values import (
    UNKNOWN,
    Given,
    Layer,
    NamedSize,
    Refused,
    describe,
)
from nnspec.dsl.bind_callees import unknown_argument
from nnspec.dsl.catalog import Entry
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.dimensions import Dim
from nnspec.dsl.errors.arguments import MissingArgument, NotTensorType, WrongArgument
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import CallOf, Expression, Name, ParameterDeclaration

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator

PARAMETER_TYPES: dict[str, tuple[str, Any]] = {
    "int": ("a whole number", int | Dim),
    "real": ("a number", int | float),
    "bool": ("true or false", bool),
    "text": ("a text in quotes", str),
    "layer": ("a layer", Layer),
    "network": ("a network", Layer),
    "activation": ("an activation", Layer),
    "list": ("a list", tuple),
}
_LAYERS = ("layer", "network", "activation")


def bind_parameters(
    elaborator: Elaborator, definition: Definition, given: tuple[Given, ...], span: Span | None
) -> dict[str, Any]:
    """Match arguments to a definition's parameters, evaluate defaults, check types."""
    declared = definition.item.parameters
    names = tuple(parameter.name for parameter in declared)
    matched = match_arguments(definition.name, names, given, span or definition.span)
    builder = BlockBuilder(definition.name, definition.module, {}, frozenset())
    values: dict[str, Any] = {}
    for parameter in declared:
        builder.scope = dict(values)
        value, place = _given(elaborator, definition, parameter, matched, builder, span)
        values[parameter.name] = _checked(definition, parameter, value, place)
    return values


def _given(
    elaborator: Elaborator,
    definition: Definition,
    parameter: ParameterDeclaration,
    matched: dict[str, Given],
    builder: BlockBuilder,
    span: Span | None,
) -> tuple[Any, Span | None]:
    """Return the value that a parameter is given, its default if there is none, and where it was written."""
    item = matched.get(parameter.name)
    if item is None and parameter.default is None:
        error = MissingArgument(
            span,
            (Related(span=parameter.span, label="declared here, without a default"),),
            callee=definition.name,
            name=parameter.name,
            help=f"write `{definition.name}({parameter.name} = ...)`",
        )
        raise Refused(error)
    if item is not None:
        value, place = item.value, item.span or span
    else:
        assert parameter.default is not None
        value = _default(elaborator, parameter, parameter.default, builder)
        place = parameter.default.span
    if isinstance(value, NamedSize):
        value = value.size
    if value is UNKNOWN:
        raise Refused
    return value, place


def _default(
    elaborator: Elaborator, parameter: ParameterDeclaration, default: Expression, builder: BlockBuilder
) -> Any:
    """Return a default: a value, or for what is learned perhaps an `Init`."""
    evaluator = elaborator.evaluator(builder)
    function = default.function if isinstance(default, CallOf) else default
    word = isinstance(function, Name) and elaborator.catalog.find("initializer", function.name) is not None
    return initializer(evaluator, default) if parameter.learn and word else evaluator.expression(default)


def _checked(definition: Definition, parameter: ParameterDeclaration, value: Any, span: Span | None) -> Any:
    written = parameter.type
    if parameter.learn and isinstance(value, Init):
        return value
    if written is None:
        if parameter.learn and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refused(_wrong(definition, parameter, "a number", value, span))
        return value
    if written.choices:
        expected = "one of " + ", ".join(f'"{choice}"' for choice in written.choices)
        fits = value in written.choices
    elif written.name in PARAMETER_TYPES:
        expected, kinds = PARAMETER_TYPES[written.name]
        fits = isinstance(value, kinds) and (isinstance(value, bool) == (written.name == "bool"))
        fits = fits and _is_kind(value, written.name)
    else:
        raise Refused(NotTensorType(written.span, name=written.name))
    if not fits:
        raise Refused(_wrong(definition, parameter, expected, value, span))
    return value


def _wrong(
    definition: Definition, parameter: ParameterDeclaration, expected: str, value: Any, span: Span | None
) -> Error:
    why = f"`{parameter.name}` must be {expected}"
    related = (Related(span=parameter.span, label="declared here"),)
    return WrongArgument(span, related, callee=definition.name, why=why, found=describe(value))


def _is_kind(value: Any, kind: str) -> bool:
    """Whether a layer is one, and an activation a function: nothing that owns weights."""
    target = value.target if isinstance(value, Layer) else None
    if isinstance(target, Definition):
        return target.kind in {"activation": ("activation",), "network": ("network",)}.get(kind, _LAYERS)
    return kind != "activation" or not (isinstance(target, Entry) and target.weights)


def check_overrides(definition: Definition, parameters: Mapping[str, Any]) -> Error | None:
    """Return the error of a parameter given from outside that the network does not have."""
    names = tuple(parameter.name for parameter in definition.item.parameters)
    for name in parameters:
        if name not in names:
            return unknown_argument(definition.name, name, names, definition.span)
    return None
