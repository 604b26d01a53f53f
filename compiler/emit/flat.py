"""Flat graph -> a pure function in which each linear map that a learning rule sees is called by its place.

What calls it hands in what the maps do (and may look at what enters and leaves them), and every other tensor by its
state-dict key. The function returns the values that are asked for, as they are called in the flat graph.
Running statistics move in training, as those of the module do. Imports no torch.
"""

from __future__ import annotations

from nnspec.compiler.emit.body import Body
from nnspec.compiler.emit.functional import FunctionForm, Writer
from nnspec.compiler.emit.text import Line, imports, indent, lines
from nnspec.compiler.flat import Flat, Use
from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Child,
    Instance,
    Plain,
    Port,
    Tensor,
    Weight,
    state_key,
    weight_path,
)
from nnspec.compiler.naming import Names, variable


def emit_flat(
    flat: Flat, returned: tuple[int, ...], synapses: tuple[int, ...], held: tuple[int, ...] = ()
) -> str:
    """Return Python source whose `forward(parameters, synapses, held, *inputs, training)` gives a tuple of values.

    `returned` are values and `synapses` are uses of the flat graph, by number. Each of the values `held` goes through a
    function of the list `held` as soon as it is made.
    """
    writer = _Writer(flat, synapses)
    writer.held = {_value(value): place for place, value in enumerate(held)}
    block = _block(flat, returned)
    body, written = writer.body(block)
    head = f"def forward(parameters, synapses, held, {', '.join(body.inputs)}, training):"
    code = [
        *writer.maps.lines,
        *writer.functions.lines,
        *writer.lines,
        *lines("", "", head),
        *indent(written),
    ]
    top = "\n".join(imports("\n".join(line.code for line in code)))
    return f"{top}\n" + "\n".join(line.text for line in code) + "\n"


def use_key(use: Use, name: str) -> str:
    """Return the key under which a use finds one of its weights: those inside an activation by their paths."""
    return state_key(f"{use.path}.{name}", "") if _function(use) is not None else state_key(use.path, name)


def _value(number: int) -> str:
    return f"v{number}"


def _child(number: int) -> str:
    return f"u{number}"


def _block(flat: Flat, returned: tuple[int, ...]) -> Block:
    """Return the flat graph as one block."""
    given = {number: variable(flat.values[number].name) for number in flat.inputs}
    inputs = tuple(Port(name=given[number], value=_value(number)) for number in flat.inputs)
    outputs = tuple(Port(name=_value(number), value=_value(number)) for number in returned)
    children = [
        Child(name=_child(number), instances=(_instance(use),))
        for number, use in enumerate(flat.uses)
        if use.owner is not None or _function(use) is not None
    ]
    return Block(
        name="flat",
        inputs=inputs,
        outputs=outputs,
        children=tuple(children),
        body=tuple(_statement(number, use) for number, use in enumerate(flat.uses)),
        types=tuple((_value(number), value.type) for number, value in enumerate(flat.values)),
    )


def _function(use: Use) -> Block | None:
    body = use.primitive.options.get("body")
    return body if isinstance(body, Block) else None


def _instance(use: Use) -> Instance:
    """Return what is used, its weights as they are in force."""
    function = _function(use)
    if function is not None:
        return function
    weights = tuple(
        Weight(name=name, stored=(_stored(name, held.weight),), shape=held.weight.shape)
        for name, held in use.weights
    )
    return use.primitive.replace(weights=weights, constraints=())


def _stored(name: str, weight: Weight) -> Tensor:
    own = next((tensor for tensor in weight.stored if tensor.name == weight.name), None)
    return Tensor(name=name, shape=weight.shape, kind="learned" if own is None else own.kind)


def _statement(number: int, use: Use) -> Plain:
    inputs, outputs = tuple(map(_value, use.inputs)), tuple(map(_value, use.outputs))
    if use.owner is not None or _function(use) is not None:
        return Call(child=_child(number), inputs=inputs, outputs=outputs)
    return Apply(name=_child(number), operation=use.primitive, inputs=inputs, outputs=outputs)


class _Form(FunctionForm):
    """Owners are instances of the network, by their paths."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__(writer, root=True)
        self.paths = {_child(number): _key(use.path) for number, use in enumerate(writer.flat.uses)}

    def owner(self, child: str) -> str:
        return self.paths[child]

    def tensor(self, owner: str, name: str, kind: str) -> str:
        return f'parameters["{weight_path(owner, name)}"]'


def _key(path: str) -> str:
    return state_key(path, "")


class _Writer(Writer):
    def __init__(self, flat: Flat, synapses: tuple[int, ...]) -> None:
        super().__init__()
        self.names = Names({*self.names.taken, "parameters", "synapses", "held", "training"})
        self.flat = flat
        self.held: dict[str, int] = {}
        self.places = {_child(use): place for place, use in enumerate(synapses)}

    def body(self, block: Block) -> tuple[Body, list[Line]]:
        for child in block.children:
            if child.name not in self.places:
                self.prepare(child.instances[0])
        body = _Body(
            block, _Form(self), self.names.taken, self.maps.function, self.functions.function, self.maps.code
        )
        body.places, body.held = self.places, self.held
        written = body.write()
        return body, [*written, *lines(f"return ({''.join(f'{text}, ' for text in body.outputs)})")]


class _Body(Body):
    """A body in which the maps of synapses are called by their places."""

    places: dict[str, int]
    held: dict[str, int]

    def assign(self, index: int, statement: Apply | Call, expression: str) -> None:
        super().assign(index, statement, expression)
        for value in statement.outputs:
            if value in self.held:
                name = self.variables[value]
                self.lines += lines(f"{name} = held[{self.held[value]}]({name})")

    def call(self, index: int, statement: Call) -> None:
        if statement.child not in self.places:
            super().call(index, statement)
            return
        (given,) = self.read(statement.inputs)
        self.assign(index, statement, f"synapses[{self.places[statement.child]}]({given})")
