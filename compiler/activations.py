"""Activations written in the language: from `x => x * sigmoid(beta * x)` to a block that is a function.

In: a bound activation and the values of its parameters. Out: a block of one input and one output that is
marked as a function, so that passes take it for one step and emission writes it as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.evaluate import Evaluator
from nnspec.compiler.ir import Axis, Block, Child, Type
from nnspec.compiler.values import Layer, Refused
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.definitions import ActivationOwns
from nnspec.dsl.syntax import ActivationDefinition

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator

_ANY = Type(axes=(Axis(size=0, rest=True),))


def activation_block(
    elaborator: Elaborator, definition: Definition, item: ActivationDefinition, arguments: dict[str, Any]
) -> Block:
    """Return the block of an activation, or raise Refused."""
    function = item.function
    (name,) = function.parameters
    builder = BlockBuilder(item.name, definition.module, dict(arguments), frozenset((name,)))
    builder.scope[name] = builder.input(name, _ANY, function.span)
    result = Evaluator(elaborator, builder).tensor(function.body)
    builder.outputs.append(("output", result, None, function.body.span))
    for child in builder.children:
        _only_functions(item, child)
    shown = tuple((key, value) for key, value in arguments.items() if not isinstance(value, Layer))
    return builder.finish(doc=item.doc, arguments=shown, function=True, span=definition.span)


def _only_functions(item: ActivationDefinition, child: Child) -> None:
    """Refuse children that are more than functions."""
    for instance in child.instances:
        if not (isinstance(instance, Block) and instance.function):
            raise Refused(ActivationOwns(child.span, name=item.name, operation=child.name))
