"""Activations written in the language: from `x => x * sigmoid(beta * x)` to a block that is a function.

In: a bound activation and the values of its parameters. Out: a block of one input and one output that is
marked as a function, so that passes take it for one step and emission writes it as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.evaluate import Evaluator
from nnspec.compiler.ir import Axis, Block, Child, Claim, Init, Primitive, Type
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Layer, Refused, Value, describe
from nnspec.dsl.definitions import Definition
from nnspec.dsl.dimensions import symbol
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.definitions import ActivationOwns
from nnspec.dsl.syntax import ActivationDefinition, CallOf, Expression, Name, ParameterDeclaration

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator

_REST = Axis(size=0, rest=True)
_OWN_AXES = {"unit": ("unit",), "edge": ("edge", "unit")}  # the last axes of what it is applied to


def activation_block(
    elaborator: Elaborator, definition: Definition, item: ActivationDefinition, arguments: dict[str, Any]
) -> Block:
    """Return the block of an activation, or raise Refused."""
    function = item.function
    (name,) = function.parameters
    builder = BlockBuilder(item.name, definition.module, dict(arguments), frozenset((name,)), is_body=True)
    evaluator = elaborator.evaluator(builder)
    builder.scope[name] = builder.input(name, _input(item), function.span)
    for parameter in item.parameters:
        if parameter.learn:
            builder.scope[parameter.name] = _learned(evaluator, parameter, arguments[parameter.name])
    result = evaluator.tensor(function.body)
    builder.outputs.append(("output", result, None, function.body.span))
    for child in builder.children:
        _only_functions(item, child)
    shown = tuple((key, value) for key, value in arguments.items() if not isinstance(value, Layer | Init))
    claims = tuple(_claim(evaluator, claim.condition) for claim in item.claims)
    return builder.finish(doc=item.doc, arguments=shown, function=True, claims=claims, span=definition.span)


def _claim(evaluator: Evaluator, written: Expression) -> Claim:
    """Return `odd`, `even` or `homogeneous(k)` with its number."""
    if isinstance(written, Name):
        return Claim(word=written.name, span=written.span)
    if not isinstance(written, CallOf):
        raise Refused
    degree = evaluator.expression(written.arguments[0].value)
    if not isinstance(degree, int | float) or isinstance(degree, bool):
        why = "the degree is a number"
        raise Refused(WrongArgument(written.span, callee="homogeneous", why=why, found=describe(degree)))
    return Claim(word="homogeneous", degree=float(degree), span=written.span)


def _own_axes(parameter: ParameterDeclaration) -> tuple[str, ...]:
    """Return the symbols of the axes for each of whose indices a parameter learns a row."""
    axes = (parameter.type.axes if parameter.type is not None else None) or ()
    first = axes[0].size if axes else None
    return _OWN_AXES.get(first.name, ()) if isinstance(first, Name) else ()


def _input(item: ActivationDefinition) -> Type:
    """Return the declared type of the input: any, or with as many last axes as parameters speak of."""
    own = max((_own_axes(p) for p in item.parameters if p.learn), key=len, default=())
    return Type(axes=(_REST, *(Axis(size=symbol(name)) for name in own)))


def _learned(evaluator: Evaluator, parameter: ParameterDeclaration, start: Any) -> Value:
    """Return the value of a learned parameter, after an instance that stores it was added."""
    builder = evaluator.builder
    axes = (parameter.type.axes if parameter.type is not None else None) or ()
    own = _own_axes(parameter)
    rest = [axis.size for axis in (axes[1:] if own else axes) if axis.size is not None]
    sizes = tuple(_size(evaluator, size) for size in rest)
    init = start if isinstance(start, Init) else Init(name="constant", arguments=(("value", start),))
    shape = (*(symbol(name) for name in own), *sizes)
    arguments = {
        "dtype": "real",
        "follows": len(own),  # so many of its first axes are the last ones of the input
        "init": init,
        "names": (None,) * len(shape),
        "shape": shape,
    }
    primitive = Primitive(operation="parameter", arguments=tuple(arguments.items()), span=parameter.span)
    child = builder.add_child(parameter.name, (primitive,), parameter.span)
    (value,) = builder.call(child, (), 1, parameter.span)
    builder.name_value(value, parameter.name)
    return value


def _size(evaluator: Evaluator, written: Expression) -> int:
    size = evaluator.expression(written)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        why = "the size of an axis is a whole number of at least 1"
        raise Refused(WrongArgument(written.span, callee="learn", why=why, found=describe(size)))
    return size


def _only_functions(item: ActivationDefinition, child: Child) -> None:
    """Refuse children that are more than functions, learned parameters and how far training has come."""
    learned = {parameter.name for parameter in item.parameters if parameter.learn}
    for instance in child.instances:
        is_function = isinstance(instance, Block) and instance.function
        is_kept = isinstance(instance, Primitive) and (
            child.name in learned or operation(instance.operation).tracks
        )
        if not is_function and not is_kept:
            raise Refused(ActivationOwns(child.span, name=item.name, operation=child.name))
