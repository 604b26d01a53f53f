"""The junctions of a system: its connections, and the biases of its states.

In: a typed graph with a loop. Out: a `Scheme`, in which a connection is one junction, all its sources laid end to end
before it and all its targets behind; steps beside its linear map (pooling, rearrangements) belong to it. The bias of a
state is a junction without a weight. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.flat import Held
from nnspec.compiler.ir import (
    Block,
    Call,
    Child,
    Connection,
    Graph,
    Loop,
    Port,
    Primitive,
    Statement,
    Type,
    Weight,
    walked,
)
from nnspec.compiler.relations import Contract
from nnspec.compiler.rules.written.maps import unmapped
from nnspec.compiler.rules.written.scheme import Junction, Scheme
from nnspec.compiler.synapses import linear_weight, relations

USED = "used"  # the child of a connection's own graph


def loop_of(graph: Graph) -> Loop:
    """Return the one loop of a system; TypeError where there is none, or several."""
    (loop,) = (statement for statement in graph.root.body if isinstance(statement, Loop))
    return loop


def system_scheme(graph: Graph) -> Scheme:
    """Return the junctions of a typed system, connections first."""
    loop = loop_of(graph)
    junctions = (
        *(_connection(graph.root, loop, connection) for connection in loop.connections),
        *_biases(graph.root, loop),
    )
    return Scheme(graph=graph, junctions=junctions)


def _connection(root: Block, loop: Loop, connection: Connection) -> Junction:
    primitive = _primitive(root, connection.child)
    contract = linear_weight(primitive)
    assert contract is not None, "a connection is a linear map with a weight"
    types = dict(root.types)
    steps = steps_of(loop, connection)
    return Junction(
        path=connection.child,
        weight=_held(connection.child, primitive, _weight_name(primitive, contract)),
        bias=None if contract.bias is None else _held(connection.child, primitive, contract.bias.tensor),
        primitive=primitive,
        names=(_weight_name(primitive, contract), None if contract.bias is None else contract.bias.tensor),
        pre=types[connection.taken],
        drive=types[connection.given],
        matrix=len(steps) == 1 and _is_matrix(primitive, contract),
        bias_axis=_bias_axis(contract) if len(steps) == 1 else None,
        map=_graph(root, connection, steps, types),
        both=connection.both,
        within=is_within(loop, connection),
        span=connection.span,
    )


def _biases(root: Block, loop: Loop) -> Iterator[Junction]:
    """Yield a junction for each state that has a bias of its own: a child of its name."""
    names = {state.name for state in loop.carried} - {c.child for c in loop.connections}
    for state in loop.carried:
        child = next((child for child in root.children if child.name == state.name), None)
        if child is None or state.name not in names:
            continue
        primitive = _primitive(root, state.name)
        (weight,) = primitive.weights
        held = _held(state.name, primitive, weight.name)
        yield Junction(
            path=state.name,
            weight=held,
            bias=held,
            primitive=primitive,
            names=("", weight.name),
            pre=state.declared,
            drive=state.declared,
            matrix=False,
            bias_axis=None,
            span=state.span,
        )


def is_within(loop: Loop, connection: Connection) -> bool:
    """Return whether a two-way connection leads from some states to themselves, by a symmetric weight."""
    before = {state.before: state.name for state in loop.carried}
    return connection.both and tuple(before.get(s) for s in connection.sources) == connection.targets


def steps_of(loop: Loop, connection: Connection) -> tuple[Statement, ...]:
    """Return the statements of a connection, from what it takes to what it gives."""
    makers = {value: statement for statement in walked(loop.body) for value in statement.outputs}
    found: list[Statement] = []
    value = connection.given
    while value != connection.taken:
        statement = makers[value]
        found.append(statement)
        (value,) = statement.inputs
    return tuple(reversed(found))


def _graph(
    root: Block, connection: Connection, steps: tuple[Statement, ...], types: dict[str, Type]
) -> Graph:
    """Return the connection as a network of its own, whose weights are stored as they are used."""
    body = tuple(
        step.replace(child=USED) if isinstance(step, Call) and step.child == connection.child else step
        for step in steps
    )
    children = [Child(name=USED, instances=(unmapped(_primitive(root, connection.child)),))]
    children += [root.child(step.child) for step in body if isinstance(step, Call) and step.child != USED]
    values = (connection.taken, *(value for step in body for value in step.outputs))
    block = Block(
        name="connection",
        inputs=(Port(name=connection.taken, value=connection.taken),),
        outputs=(Port(name=connection.given, value=connection.given),),
        children=tuple(children),
        body=body,
        types=tuple((value, types[value]) for value in values),
    )
    return Graph(name=f"connection_{connection.child}", root=block)


def _primitive(root: Block, child: str) -> Primitive:
    (instance,) = root.child(child).instances
    assert isinstance(instance, Primitive)
    return instance


def _held(path: str, primitive: Primitive, name: str) -> Held:
    return Held(path=path, weight=_weight(primitive, name))


def _weight(primitive: Primitive, name: str) -> Weight:
    return next(weight for weight in primitive.weights if weight.name == name)


def _weight_name(primitive: Primitive, contract: Contract) -> str:
    owned = {weight.name for weight in primitive.weights}
    return next(term.tensor for term in contract.terms if term.tensor in owned)


def _is_matrix(primitive: Primitive, contract: Contract) -> bool:
    """Whether it multiplies the last axis of its input by a matrix, and does nothing else."""
    if len(relations(primitive)) != 1 or contract.powers or len(contract.terms) != 2:
        return False
    labels = {term.tensor: term.labels for term in contract.terms}
    inner = labels.pop("in0", ())
    (weight,) = labels.values()
    if not inner or len(weight) != 2 or weight[1] != inner[-1]:
        return False
    return contract.output.labels == (*inner[:-1], weight[0])


def _bias_axis(contract: Contract) -> int | None:
    if contract.bias is None or len(contract.bias.labels) != 1:
        return None
    return contract.output.labels.index(contract.bias.labels[0])
