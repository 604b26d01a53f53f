"""A feed-forward chain read as a system of neurons: each layer's units become a state, and all settle together.

In: a typed graph that is a chain of linear maps, poolings and functions of single entries. Out: a graph with the same
instances, paths and state dict, in which one `Loop` of the form s_l = f_l(m_l(s_{l-1})) stands for the layers. With
`back`, connections are used both ways: s_l = f_l(m_l(s_{l-1}) + J_{l+1}' s_{l+1}), where m_l is the connection (a linear map,
poolings and rearrangements beside it) and J' the transpose of its derivative at s_l: of one linear map the transposed weight,
of max-pooling an unpooling (Laborieux and others, 2021: s = f(dPhi/ds), Phi the sum of <s_l, m_l(s_{l-1})>). A linear map
at the end without a function behind it has no units: it stays outside as a readout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnspec.compiler.flat import function_primitive
from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Carried,
    Connection,
    Graph,
    Loop,
    Plain,
    Primitive,
    Pullback,
    Statement,
    Type,
    Word,
)
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Elementwise, Move, Sum
from nnspec.compiler.solvers import default_word, following
from nnspec.compiler.synapses import is_elementwise, linear_weight, relations
from nnspec.compiler.verify import verify
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span


class NotAChain(Exception):
    """A network that cannot be read as a system: where, and why."""

    def __init__(self, span: Span | None, why: str) -> None:
        super().__init__(why)
        self.span = span
        self.why = why


class Layer(Node):
    """A connection and the functions of its units: `maps` lead from one state to the next one's drive."""

    child: str  # the linear map
    maps: tuple[Plain, ...]
    functions: tuple[Plain, ...]

    @property
    def drive(self) -> str:
        return self.maps[-1].outputs[0]

    @property
    def post(self) -> str:
        return (*self.maps, *self.functions)[-1].outputs[0]


class Chain(Node):
    """The layers of a chain, and the statements before the first and behind the last one."""

    before: tuple[Plain, ...]
    layers: tuple[Layer, ...]
    after: tuple[Plain, ...]


def is_system(graph: Graph) -> bool:
    """Return whether a network has states of its own."""
    return any(isinstance(statement, Loop) for statement in graph.root.body)


def as_system(graph: Graph, back: bool, solver: Word | None = None) -> Graph:
    """Return a typed graph read as a system, settled by `solver`; one that is a system already is returned as it is.

    Raises NotAChain where it cannot be read so.
    """
    if is_system(graph):
        return graph
    found = chain(graph.root)
    root = graph.root
    loop, types = _loop(found, dict(root.types), back, solver or default_word("fixed_point"))
    body: tuple[Statement, ...] = (*found.before, loop, *found.after)
    made = {value for statement in body for value in statement.outputs}
    named = tuple(value for value in root.named if value in made)
    return verify(graph.replace(root=root.replace(body=body, named=named, types=types)))


# ------------------------------------------------------------------------------------------------- reading


def chain(root: Block) -> Chain:
    """Return the layers of a chain of maps and functions; raise NotAChain for anything else."""
    if len(root.inputs) != 1 or len(root.outputs) != 1:
        raise NotAChain(
            root.span, f"`{root.name}` has {len(root.inputs)} inputs and {len(root.outputs)} outputs"
        )
    value = root.inputs[0].value
    kinds: list[tuple[str, Plain]] = []
    for statement in root.body:
        if (
            statement.inputs != (value,)
            or len(statement.outputs) != 1
            or not isinstance(statement, Apply | Call)
        ):
            raise NotAChain(statement.span, f"`{_shown(statement)}` is not one step of a single chain")
        kinds.append((_kind(root, statement), statement))
        value = statement.outputs[0]
    if value != root.outputs[0].value:
        raise NotAChain(root.outputs[0].span, "the output is not the end of the chain")
    return _cut(root, kinds)


def _cut(root: Block, kinds: Sequence[tuple[str, Plain]]) -> Chain:
    """Cut a chain into layers: each holds one linear map, and begins behind the functions of the one before."""
    first = next((i for i, (kind, _) in enumerate(kinds) if kind == "linear"), None)
    if first is None:
        raise NotAChain(root.span, f"`{root.name}` has no linear map whose weights could learn")
    if any(kind == "function" for kind, _ in kinds[:first]):
        first = 1 + max(i for i, (kind, _) in enumerate(kinds[:first]) if kind == "function")
    groups: list[tuple[list[tuple[str, Plain]], list[Plain]]] = []
    for kind, statement in kinds[first:]:
        if kind == "function" and groups and _is_whole(groups[-1][0]):
            groups[-1][1].append(statement)
            continue
        if kind == "function":
            raise NotAChain(
                statement.span, f"no linear map stands between `{_shown(statement)}` and the units before it"
            )
        if not groups or groups[-1][1] or (kind == "linear" and _is_whole(groups[-1][0])):
            groups.append(([], []))
        groups[-1][0].append((kind, statement))
    after = [statement for _, statement in groups.pop()[0]] if not groups[-1][1] else []
    layers = tuple(_layer(maps, functions) for maps, functions in groups)
    if not layers:
        raise NotAChain(
            root.span, f"`{root.name}` has no units: no function of single entries stands behind a linear map"
        )
    return Chain(before=tuple(s for _, s in kinds[:first]), layers=layers, after=tuple(after))


def _is_whole(maps: Sequence[tuple[str, Plain]]) -> bool:
    return any(kind == "linear" for kind, _ in maps)


def _layer(maps: Sequence[tuple[str, Plain]], functions: Sequence[Plain]) -> Layer:
    child = next(s.child for kind, s in maps if kind == "linear" and isinstance(s, Call))
    return Layer(child=child, maps=tuple(statement for _, statement in maps), functions=tuple(functions))


def _kind(root: Block, statement: Plain) -> str:
    """Return what a step of the chain is: "linear" (with a weight), "function" of single entries, or "fixed"."""
    primitive = _primitive(root, statement)
    if operation(primitive.operation).draws:
        raise NotAChain(
            statement.span, f"`{_shown(statement)}` draws random numbers, so units would never come to rest"
        )
    if linear_weight(primitive) is not None:
        return "linear"
    if primitive.weights or (isinstance(statement, Call) and primitive.operation != "function"):
        raise NotAChain(statement.span, f"`{_shown(statement)}` has parameters and is not a linear map")
    if is_elementwise(primitive):
        return "function"
    if _is_connecting(primitive):
        return "fixed"
    raise NotAChain(
        statement.span,
        f"`{_shown(statement)}` is neither a linear map, a pooling nor a function of single entries",
    )


def _primitive(root: Block, statement: Plain) -> Primitive:
    if isinstance(statement, Apply):
        return statement.operation
    child = root.child(statement.child)
    (instance, *more) = child.instances
    if isinstance(instance, Primitive) and not more:
        return instance
    if isinstance(instance, Block) and instance.is_pure and not more:
        return function_primitive(instance)
    if isinstance(instance, Block) and instance.function:
        raise NotAChain(statement.span, f"the activation `{child.name}` has parameters of its own")
    raise NotAChain(
        statement.span, f"`{child.name}` is a part with a body of its own; write its steps into the chain"
    )


def _is_connecting(primitive: Primitive) -> bool:
    """Whether it is a fixed map of degree 1: rearranged entries, a sum or mean, a greatest entry of each window."""
    stated = relations(primitive)
    return bool(stated) and all(
        isinstance(relation, Move)
        or (isinstance(relation, Sum | Contract) and len(relation.terms) == 1)
        or (isinstance(relation, Elementwise) and len(relation.terms) == 1 and relation.degree == 1)
        for relation in stated
    )


def _shown(statement: Statement) -> str:
    return statement.child if isinstance(statement, Call) else statement.name


# ----------------------------------------------------------------------------------------------- rewriting


def _loop(
    found: Chain, types: dict[str, Type], back: bool, solver: Word
) -> tuple[Loop, tuple[tuple[str, Type], ...]]:
    body: list[Statement] = []
    carried: list[Carried] = []
    for number, layer in enumerate(found.layers):
        upward = _upward(found, number)
        above = found.layers[number + 1] if back and number + 1 < len(found.layers) else None
        body += upward
        for name in (_before(layer), _next(layer)):
            types[name] = types[layer.post]
        steps, driven = _driven(found, number, above, types)
        body += steps
        body += _read(layer.functions, driven, _next(layer), types)
        carried.append(_carried(layer, driven, types))
    loop = Loop(
        name="settle",
        form="map",
        carried=tuple(carried),
        body=tuple(body),
        solver=solver,
        gradient=_exact(solver),
        connections=tuple(_connections(found, back)),
        span=found.layers[0].maps[0].span,
    )
    return loop, tuple(types.items())


def _exact(solver: Word) -> Word:
    """Return the implicit gradient, with the solver's steps; the solver's tolerance may be loose, as a rule's phases are."""
    tight = solver.options | {"tolerance": default_word("fixed_point").options["tolerance"]}
    return following(default_word("ift"), solver.replace(arguments=tuple(tight.items())))


def _carried(layer: Layer, driven: str, types: dict[str, Type]) -> Carried:
    return Carried(
        name=layer.child,
        before=_before(layer),
        after=_next(layer) if layer.functions else driven,
        result=layer.post,
        declared=types[layer.post],
        driven=driven,
        span=layer.maps[0].span,
    )


def _before(layer: Layer) -> str:
    return f"{layer.post}_before"


def _next(layer: Layer) -> str:
    return f"{layer.post}_next"


def _up(layer: Layer) -> str:
    """The value that the connection gives: the drive itself has that name where no functions follow."""
    return layer.drive if layer.functions else f"{layer.drive}_up"


def _upward(found: Chain, number: int) -> tuple[Plain, ...]:
    """The statements of a connection, from the state below."""
    layer = found.layers[number]
    if number == 0:
        return _ending(layer.maps, _up(layer))
    below = found.layers[number - 1]
    return _ending(_beginning(layer.maps, _before(below)), _up(layer))


def _driven(
    found: Chain, number: int, above: Layer | None, types: dict[str, Type]
) -> tuple[list[Statement], str]:
    """What drives the units of a layer: the connection from below, and that from above read backwards."""
    layer = found.layers[number]
    up = _up(layer)
    types[up] = types[layer.drive]
    if above is None:
        return [], up
    types[_up(above)] = types[above.drive]
    down, total = f"{layer.post}_down", f"{layer.post}_drive"
    types[down] = types[total] = types[layer.drive]
    through = _again(_upward(found, number + 1), types)
    pullback = Pullback(
        name=down,
        through=through,
        at=(_before(layer),),
        end=through[-1].outputs[0],
        cotangent=_before(above),
        outputs=(down,),
        span=above.maps[0].span,
    )
    return [pullback, _sum(up, down, total, types[total])], total


def _connections(found: Chain, back: bool) -> Iterator[Connection]:
    source = None
    for number, layer in enumerate(found.layers):
        upward = _upward(found, number)
        taken = upward[0].inputs[0]
        yield Connection(
            child=layer.child,
            sources=(taken,),
            targets=(layer.child,),
            both=back and source is not None,
            taken=taken,
            given=_up(layer),
            span=layer.maps[0].span,
        )
        source = layer


def _beginning(steps: tuple[Plain, ...], value: str) -> tuple[Plain, ...]:
    return (steps[0].replace(inputs=(value,)), *steps[1:])


def _ending(steps: tuple[Plain, ...], value: str) -> tuple[Plain, ...]:
    return (*steps[:-1], steps[-1].replace(outputs=(value,)))


def _again(steps: tuple[Plain, ...], types: dict[str, Type]) -> tuple[Plain, ...]:
    """Return the same steps with names of their own for what they make."""
    names: dict[str, str] = {}
    found: list[Plain] = []
    for step in steps:
        (made,) = step.outputs
        names[made] = f"{made}_back"
        types[names[made]] = types[made]
        own = step.replace(inputs=tuple(names.get(v, v) for v in step.inputs), outputs=(names[made],))
        found.append(own.replace(name=f"{own.name}_back") if isinstance(own, Apply) else own)
    return tuple(found)


def _read(functions: tuple[Plain, ...], given: str, result: str, types: dict[str, Type]) -> tuple[Plain, ...]:
    """The functions of the units, from their drive to their next state."""
    if not functions:
        return ()
    return _ending(_beginning(functions, given), result)


def _sum(left: str, right: str, result: str, kind: Type) -> Apply:
    primitive = Primitive(
        operation="add",
        arguments=(("constant", None), ("reversed", False)),
        inputs=(kind, kind),
        outputs=(kind,),
    )
    return Apply(name=result, operation=primitive, inputs=(left, right), outputs=(result,))
