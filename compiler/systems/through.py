"""The layer of `via`: one linear layer with weights, and steps that own nothing before and behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.ir import Primitive
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Given, Layer, Refused, describe, source_text
from nnspec.dsl.catalog import Entry
from nnspec.dsl.errors.systems import WrongVia
from nnspec.dsl.syntax import Argument, CallOf, CallStep, Chain, Expression, Step

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


def layers_of(
    evaluator: Evaluator, written: Expression
) -> tuple[tuple[Layer, ...], Primitive, tuple[Layer, ...]]:
    """Return the steps before the layer with weights, the layer, and the steps behind it."""
    layers = [_layer(evaluator, step) for step in _steps(written)]
    weighted = [number for number, layer in enumerate(layers) if _owns(layer)]
    text = source_text(written)
    if len(weighted) != 1:
        why = "it has no weights" if not weighted else f"it has {len(weighted)} layers with weights"
        help_text = "name a linear layer, such as `dense` or `conv2d`"
        if weighted:
            help_text = "put a state between them, and connect each to it"
        raise Refused(WrongVia(written.span, text=text, why=why, help=help_text))
    at = weighted[0]
    return tuple(layers[:at]), _linear(evaluator, layers[at]), tuple(layers[at + 1 :])


def _steps(written: Expression) -> tuple[Expression, ...]:
    if not isinstance(written, Chain):
        return (written,)
    return (written.source, *(_function(step) for step in written.steps))


def _function(step: Step) -> Expression:
    if isinstance(step, CallStep) and step.alias is None:
        return step.function
    text = " ".join(step.span.text.split())
    help_text = (
        "write single layers; the connection is named behind its targets: `connect a -> b as NAME via ..`"
    )
    raise Refused(WrongVia(step.span, text=text, why="it is no single layer", help=help_text))


def _layer(evaluator: Evaluator, written: Expression) -> Layer:
    function, arguments = written, ()
    if isinstance(written, CallOf):
        function, arguments = written.function, written.arguments
    layer = evaluator.chains.callee(function)
    given: tuple[Given, ...] = evaluator.all_given(layer, _arguments(arguments))
    layer = layer.replace(given=(*layer.given, *given), span=written.span)
    if not isinstance(layer.target, Entry) or operation(layer.target.name).draws:
        why = f"{describe(layer)} is not an operation of the library, or draws random numbers"
        help_text = "name a linear layer of the library, such as `dense` or `conv2d`"
        raise Refused(WrongVia(written.span, text=source_text(written), why=why, help=help_text))
    return layer


def _arguments(arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
    return arguments


def _owns(layer: Layer) -> bool:
    return isinstance(layer.target, Entry) and bool(operation(layer.target.name).owns)


def _linear(evaluator: Evaluator, layer: Layer) -> Primitive:
    """Return the layer without its bias."""
    entry = layer.target
    assert isinstance(entry, Entry)
    rule = operation(entry.name)
    text = source_text_of(layer)
    if not rule.linear:
        why = "it is not linear in its input"
        raise Refused(WrongVia(layer.span, text=text, why=why, help="name a linear layer, such as `dense`"))
    primitive = evaluator.elaborator.callables.primitive(entry, layer, layer.span)
    if any(given.name == "bias" and given.value is True for given in layer.given):
        why = "the state that it leads to has a bias of its own"
        raise Refused(WrongVia(layer.span, text=text, why=why, help="leave `bias = true` out"))
    options = {**primitive.options, "bias": False} if "bias" in primitive.options else primitive.options
    return primitive.replace(arguments=tuple(sorted(options.items())))


def source_text_of(layer: Layer) -> str:
    """Return a layer as it was written."""
    return layer.name if layer.span is None else " ".join(layer.span.text.split())[:60]
