"""`equilibrium(f)` in the graph: a block with the children of f, whose body is one loop over the body of f.

In: the layer f as a value, and the tensors that drive it. Out: the settled value, after the block was added. So the
weights keep f's own paths, what no step changes is hoisted, and everything that reads loops reads this one.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler import solvers
from nnspec.compiler.expansion import Expansion
from nnspec.compiler.ir import Axis, Block, Carried, Loop, Port, Type, Word, blocks
from nnspec.compiler.values import Layer, Refused, SharedInstance, TrainedPart, Value, describe
from nnspec.dsl.catalog import Entry
from nnspec.dsl.dimensions import symbols
from nnspec.dsl.errors.equilibrium import EquilibriumEffect, UnknownState, WrongEquilibrium

_HELP = "write a layer whose first input is the state: `layer cell(n: int) {{ input z: real[n]  input x: real[{0}] .. }}`"


def equilibrium(
    expansion: Expansion, inputs: tuple[Value, ...], arguments: dict[str, Any]
) -> tuple[Value, ...]:
    """Return the settled value of a layer."""
    solver = _word(expansion, arguments["solve"], "fixed_point")
    gradient = solvers.following(_word(expansion, arguments["gradient"], "ift"), solver)
    body = _body(expansion, arguments["f"], len(inputs))
    declared = _declared(expansion, body, arguments["shape"])
    made = _looped(body, declared, solver, gradient)
    child = expansion.builder.add_child(expansion.name, (made,), expansion.span)
    return expansion.builder.call(child, inputs, 1, expansion.span)


def _word(expansion: Expansion, given: Word | None, default: str) -> Word:
    word = given or solvers.default_word(default)
    if word.name in solvers.FLOWS:
        why = f"`{word.name}` follows a flow, and an equilibrium is the fixed point of a map"
        help_text = "choose among `fixed_point`, `anderson` and `broyden`"
        raise Refused(
            WrongEquilibrium(word.span or expansion.span, name=expansion.word, why=why, help=help_text)
        )
    return word


def _body(expansion: Expansion, layer: Any, count: int) -> Block:
    """Return the block of f, which takes one value more than drives it and gives one."""
    span = expansion.span
    help_text = _HELP.format("m")
    if not isinstance(layer, Layer):
        why = f"it is {describe(layer)}, and no layer"
        raise Refused(WrongEquilibrium(span, name=expansion.word, why=why, help=help_text))
    if isinstance(layer.target, Entry | SharedInstance | TrainedPart):
        kind = "a shared instance" if isinstance(layer.target, SharedInstance) else "one word of the library"
        kind = "a trained part" if isinstance(layer.target, TrainedPart) else kind
        why = f"it is {kind}, and not a layer of a state and of what drives it"
        raise Refused(WrongEquilibrium(layer.span or span, name=layer.name, why=why, help=help_text))
    block = expansion.callables.block(layer, 1 + count, span)
    if len(block.inputs) != 1 + count:
        found = f"{len(block.inputs)} input" + ("" if len(block.inputs) == 1 else "s")
        others = "one that drives it" if count == 1 else f"{count} that drive it"
        why = f"it has {found}, and needs {1 + count}: the state, and {others}"
        raise Refused(WrongEquilibrium(layer.span or span, name=layer.name, why=why, help=help_text))
    if len(block.outputs) != 1:
        why = f"it has {len(block.outputs)} outputs, and needs one, the state's next value"
        raise Refused(WrongEquilibrium(layer.span or span, name=layer.name, why=why, help=help_text))
    if any(own.updates or own.penalties for own in blocks(block)):
        raise Refused(EquilibriumEffect(layer.span or span, name=layer.name))
    return block


def _declared(expansion: Expansion, body: Block, shape: tuple[Any, ...] | None) -> Type:
    """Return the type of the state, whose sizes must be known from numbers and from the other inputs."""
    state, *others = body.inputs
    if shape is not None:
        return Type(axes=tuple(Axis(size=size) for size in shape))
    known = {name for port in others for axis in _axes(port) for name in symbols(axis.size)}
    for port in (state, body.outputs[0]):
        axes = _axes(port)
        if axes and all(not axis.rest and symbols(axis.size) <= known for axis in axes):
            assert port.declared is not None
            return port.declared
    help_text = f"declare it, `input {state.name}: real[64]`, or give it: `equilibrium(.., shape = [64])`"
    raise Refused(
        UnknownState(state.span or expansion.span, name=body.name, state=state.name, help=help_text)
    )


def _axes(port: Port) -> tuple[Axis, ...]:
    return () if port.declared is None else port.declared.axes


def _looped(body: Block, declared: Type, solver: Word, gradient: Word) -> Block:
    """Return a block that runs a body until its first input is what comes out."""
    state, output = body.inputs[0], body.outputs[0]
    taken = {port.value for port in body.inputs} | {v for s in body.body for v in s.outputs}
    result = f"{state.name}_settled"
    while result in taken:
        result += "_"
    carried = Carried(
        name=state.name,
        before=state.value,
        after=output.value,
        result=result,
        declared=declared,
        span=state.span or body.span,
    )
    loop = Loop(
        name="settle",
        form="map",
        carried=(carried,),
        body=body.body,
        solver=solver,
        gradient=gradient,
        span=body.span,
    )
    return body.replace(
        inputs=body.inputs[1:],
        outputs=(output.replace(value=result),),
        body=(loop,),
        function=False,
        claims=(),
    )
