"""A graph walked flat: every use of every operation in the order of evaluation.

In: a typed graph. Out: `Flat`, in which values are numbers, repeats are unrolled, blocks are entered, and a
weight is the same object at every use: shared instances and ties meet here. Nothing is remembered per
block, since instances that look alike may be tied or constrained apart. The body of a loop stands once, between a use
of `begin`, which gives the states, and one of `settled`, which takes them with what a step makes of them and gives what
follows; what is pulled back is one use of `pullback`. Imports neither torch nor numpy.
"""

from __future__ import annotations

from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Child,
    Graph,
    Instance,
    Loop,
    Primitive,
    Pullback,
    Statement,
    Type,
    Weight,
    gathered,
    instances,
    walked,
    weight_path,
)
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span


class Value(Node):
    """A tensor that flows: what it is called, and what made it (None: an input)."""

    name: str
    type: Type
    use: int | None
    span: Span | None = None


class Held(Node):
    """A weight as one use sees it: the instance that stores it, and whether it is read transposed."""

    path: str
    weight: Weight
    transposed: bool = False

    @property
    def key(self) -> str:
        """The path of the weight, `fc1.weight`."""
        return weight_path(self.path, self.weight.name)


class Use(Node):
    """One evaluation of an operation. `owner` is the path of the instance, None for one without weights."""

    path: str
    primitive: Primitive
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: tuple[tuple[str, Held], ...] = ()
    owner: str | None = None
    span: Span | None = None

    def holds(self, held: Held) -> bool:
        """Return whether a weight is stored in the instance used, or inside the activation used."""
        own = self.owner
        return own is not None and (held.path == own or held.path.startswith(f"{own}."))

    @property
    def word(self) -> str:
        """The word of the operation, or the name of the activation."""
        body = self.primitive.options.get("body")
        return body.name if isinstance(body, Block) else self.primitive.operation


class Cycle(Node):
    """A loop on the walk: its first and its last use, and each state's value before a step, after it, and behind all.

    After a step comes the next value of a state, or its rate of change: what a step reads `before` depends on it.
    """

    path: str
    loop: Loop
    first: int
    last: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    results: tuple[int, ...]


class Flat(Node):
    """The uses in order, the values by number, which values come in and go out, and the loops.

    `beside` are the values that layers read for what they do beside their outputs: penalties, and updates of buffers.
    """

    uses: tuple[Use, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    cycles: tuple[Cycle, ...] = ()
    beside: tuple[int, ...] = ()


def function_primitive(block: Block) -> Primitive:
    """Return an activation, a typed block that is a function, as one operation."""
    types = dict(block.types)
    return Primitive(
        operation="function",
        arguments=(("body", block),),
        inputs=tuple(types[port.value] for port in block.inputs),
        outputs=tuple(types[port.value] for port in block.outputs),
        span=block.span,
    )


def flatten(graph: Graph) -> Flat:
    """Walk a typed graph flat."""
    walker = _Walker()
    root = graph.root
    types = dict(root.types)
    inputs = tuple(walker.value(port.name, types[port.value], None, port.span) for port in root.inputs)
    outputs = walker.block(root, inputs, "")
    return Flat(
        uses=tuple(walker.uses),
        values=tuple(walker.values),
        inputs=inputs,
        outputs=outputs,
        cycles=tuple(walker.cycles),
        beside=tuple(walker.beside),
    )


class _Place:
    """A block on the walk: which instance it is, and the numbers of its values so far."""

    def __init__(self, block: Block, prefix: str, known: dict[str, int]) -> None:
        self.block = block
        self.prefix = prefix
        self.known = known
        self.children = {child.name: child for child in block.children}
        self.named = frozenset(block.named)


class _Walker:
    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.values: list[Value] = []
        self.cycles: list[Cycle] = []
        self.beside: list[int] = []

    def value(self, name: str, kind: Type, use: int | None, span: Span | None) -> int:
        self.values.append(Value(name=name, type=kind, use=use, span=span))
        return len(self.values) - 1

    def block(self, block: Block, inputs: tuple[int, ...], prefix: str) -> tuple[int, ...]:
        """Walk a block whose instance path is `prefix` (with its dot); return its outputs."""
        known = dict(zip((port.value for port in block.inputs), inputs, strict=True))
        place = _Place(block, prefix, known)
        for statement in block.body:
            self.statement(statement, place)
        self.beside += [known[effect.value] for effect in (*block.penalties, *block.updates)]
        return tuple(known[port.value] for port in block.outputs)

    def statement(self, statement: Statement, place: _Place) -> None:
        """Walk a statement of a block; what it makes is known from then on."""
        if isinstance(statement, Loop):
            made = self.loop(statement, place)
        elif isinstance(statement, Pullback):
            made = self.pullback(statement, place)
        else:
            given = tuple(place.known[value] for value in statement.inputs)
            if isinstance(statement, Apply):
                made = self.apply(statement, given, place.prefix)
            else:
                made = self.call(statement, place.children, given, place.prefix)
        place.known.update(zip(statement.outputs, made, strict=True))
        for value, number in zip(statement.outputs, made, strict=True):
            if value in place.named:
                self.values[number] = self.values[number].replace(name=f"{place.prefix}{value}")

    def loop(self, loop: Loop, place: _Place) -> tuple[int, ...]:
        path, first = f"{place.prefix}{loop.name}", len(self.uses)
        types = tuple(state.declared for state in loop.carried)
        begin = Primitive(
            operation="begin", arguments=(("loop", path), ("types", types)), outputs=types, span=loop.span
        )
        before = self.use(f"{path}.begin", begin, (), (), None, loop.span)
        for state, number in zip(loop.carried, before, strict=True):
            self.values[number] = self.values[number].replace(name=f"{place.prefix}{state.name}")
            place.known[state.before] = number
        for statement in loop.body:
            if isinstance(statement, Pullback) and statement.end == loop.energy:
                for own in statement.through:  # the energy itself, and not only its slope
                    self.statement(own, place)
            self.statement(statement, place)
        after = tuple(place.known[state.after] for state in loop.carried)
        settled = Primitive(
            operation="settled",
            arguments=(("form", loop.form),),
            inputs=(*types, *types),
            outputs=types,
            span=loop.span,
        )
        results = self.use(path, settled, (*before, *after), (), None, loop.span)
        last = len(self.uses) - 1
        cycle = Cycle(
            path=path, loop=loop, first=first, last=last, before=before, after=after, results=results
        )
        self.cycles.append(cycle)
        return results

    def pullback(self, statement: Pullback, place: _Place) -> tuple[int, ...]:
        """One use, which reads the weights of all that it goes back through."""
        types = dict(place.block.types)
        inputs = tuple(dict.fromkeys((*statement.at, statement.cotangent, *statement.inputs)))
        primitive = Primitive(
            operation="pullback",
            arguments=(("block", place.block), ("statement", statement)),
            inputs=tuple(types[value] for value in inputs),
            outputs=tuple(types[value] for value in statement.outputs),
            span=statement.span,
        )
        weights: list[tuple[str, Held]] = []
        for own in walked(statement.through):
            if isinstance(own, Call):
                child = place.children[own.child]
                for located in instances(Block(name="", inputs=(), outputs=(), children=(child,), body=())):
                    path = f"{place.prefix}{located.path}"
                    for w in located.primitive.weights:
                        held = _held(w, path, place.children, place.prefix)
                        weights.append((weight_path(located.path, w.name), held))
        path = f"{place.prefix}{statement.name}"
        given = tuple(place.known[value] for value in inputs)
        return self.use(path, primitive, given, tuple(weights), None, statement.span)

    def apply(self, statement: Apply, inputs: tuple[int, ...], prefix: str) -> tuple[int, ...]:
        path = f"{prefix}{statement.name}"
        span = statement.operation.span or statement.span
        return self.use(path, statement.operation, inputs, (), None, span)

    def call(
        self, statement: Call, children: dict[str, Child], inputs: tuple[int, ...], prefix: str
    ) -> tuple[int, ...]:
        child = children[statement.child]
        results: list[tuple[int, ...]] = []
        for index, instance in enumerate(child.instances):
            path = f"{prefix}{child.name}[{index}]" if child.repeated else f"{prefix}{child.name}"
            results.append(self.instance(instance, inputs, path, children, prefix, statement.span))
            inputs = inputs if child.flow == "fork" else results[-1]
        return gathered(child.flow, results)

    def instance(
        self,
        instance: Instance,
        inputs: tuple[int, ...],
        path: str,
        children: dict[str, Child],
        prefix: str,
        span: Span | None,
    ) -> tuple[int, ...]:
        if isinstance(instance, Block) and instance.function:
            return self.function(instance, inputs, path, span)
        if isinstance(instance, Block):
            return self.block(instance, inputs, f"{path}.")
        weights = tuple((w.name, _held(w, path, children, prefix)) for w in instance.weights)
        return self.use(path, instance, inputs, weights, path, instance.span or span)

    def function(
        self, block: Block, inputs: tuple[int, ...], path: str, span: Span | None
    ) -> tuple[int, ...]:
        """An activation is one use, of all the parameters inside it."""
        primitive = function_primitive(block)
        weights = tuple(
            (located.path, Held(path=f"{path}.{located.path}", weight=weight))
            for located in instances(block)
            for weight in located.primitive.weights
        )
        return self.use(path, primitive, inputs, weights, path if weights else None, span)

    def use(
        self,
        path: str,
        primitive: Primitive,
        inputs: tuple[int, ...],
        weights: tuple[tuple[str, Held], ...],
        owner: str | None,
        span: Span | None,
    ) -> tuple[int, ...]:
        number = len(self.uses)
        single = len(primitive.outputs) == 1
        outputs = tuple(
            self.value(path if single else f"{path}[{index}]", kind, number, span)
            for index, kind in enumerate(primitive.outputs)
        )
        self.uses.append(
            Use(
                path=path,
                primitive=primitive,
                inputs=inputs,
                outputs=outputs,
                weights=weights,
                owner=owner,
                span=span,
            )
        )
        return outputs


def _held(weight: Weight, path: str, children: dict[str, Child], prefix: str) -> Held:
    """Return where a weight is stored, through ties."""
    transposed, seen = False, {path}
    while weight.tie is not None:
        other = children[weight.tie.child]
        owner = other.instances[0]
        path = f"{prefix}{other.name}[0]" if other.repeated else f"{prefix}{other.name}"
        transposed ^= weight.tie.transpose
        name = weight.tie.weight
        if path in seen or not isinstance(owner, Primitive):
            raise TypeError(f"the tie of {path}.{name} leads nowhere")
        seen.add(path)
        weight = next(w for w in owner.weights if w.name == name)
    return Held(path=path, weight=weight, transposed=transposed)
