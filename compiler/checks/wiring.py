"""The units of a network and what joins them: one matrix W[to, from] over all units, group by group.

In: a typed graph that is a system, or a chain that can be read as one, and a state. Out: groups of units (inputs, hidden
states, outputs), the weights in use between them, and which there may be. A connection that is used both ways joins both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.ir import Apply, Call, Graph, Primitive
from nnspec.compiler.relations import Move
from nnspec.compiler.rewrites.system import NotAChain, as_system, is_system
from nnspec.compiler.rules.settled.hearing import read_states
from nnspec.compiler.rules.settled.scheme import loop_of, system_scheme
from nnspec.compiler.solvers import default_word
from nnspec.compiler.synapses import linear_weight, relations
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.written.scheme import Junction

    State = Mapping[str, Tensor]

MOST_UNITS = 1_000


class Misfit(Exception):
    """A network that has no matrix of units, and why."""


class Group(Node):
    """Units of one state, input or output; the first is number `begin` of all units."""

    name: str
    kind: str  # "input", "hidden", "output"
    begin: int
    size: int

    @property
    def units(self) -> range:
        return range(self.begin, self.begin + self.size)

    def unit(self, number: int) -> str:
        """Return the name of a unit by its number among all."""
        return f"{self.name}[{number - self.begin}]"


class Link(Node):
    """A weight that joins groups: those laid end to end before it, and those behind it."""

    child: str
    weight: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    both: bool  # carries back, too, by its transpose
    is_matrix: bool = True  # its weight is the matrix; else its linear map is written out as one


class Wiring(NamedTuple):
    """W[to, from] over all units, and where there may be an entry."""

    graph: Graph
    groups: tuple[Group, ...]
    links: tuple[Link, ...]
    matrix: Tensor
    possible: Tensor

    def group(self, unit: int) -> Group:
        return next(own for own in self.groups if unit in own.units)

    def name(self, unit: int) -> str:
        return self.group(unit).unit(unit)

    @property
    def units(self) -> int:
        return sum(own.size for own in self.groups)


def read_as_units(graph: Graph) -> Graph:
    """Return the network as a system; Misfit where it is none and no chain."""
    if is_system(graph):
        return graph
    try:
        return as_system(graph, False, default_word("fixed_point"))
    except NotAChain as refused:
        raise Misfit(refused.why) from None


def structure(graph: Graph) -> tuple[Graph, tuple[Group, ...], tuple[Link, ...]]:
    """Return the system, its groups of units and what joins them. Raises Misfit."""
    own = read_as_units(graph)
    loop, types = loop_of(own), dict(own.root.types)
    before = {state.before: state.name for state in loop.carried}
    links = [
        Link(
            child=junction.path,
            weight=junction.names[0],
            sources=tuple(before.get(value, value) for value in connection.sources),
            targets=connection.targets,
            both=connection.both and not junction.within,
            is_matrix=junction.matrix,
        )
        for connection, junction in zip(loop.connections, system_scheme(own).junctions, strict=False)
    ]
    readouts = dict(_readouts(own))
    links += [link for link, _ in readouts.values()]
    sizes = {state.name: size(state.declared) for state in loop.carried}
    outside = [name for link in links for name in link.sources if name not in sizes]
    groups: list[tuple[str, str, int]] = [
        (name, "input", size(types[name])) for name in dict.fromkeys(outside)
    ]
    read = () if readouts else read_states(own)
    groups += [(name, "output" if name in read else "hidden", size) for name, size in sizes.items()]
    groups += [(name, "output", size) for name, (_, size) in readouts.items()]
    return own, _laid(own, groups), tuple(links)


def _laid(graph: Graph, groups: list[tuple[str, str, int]]) -> tuple[Group, ...]:
    total = sum(size for _, _, size in groups)
    if total > MOST_UNITS:
        raise Misfit(f"it has {total:,} units, and a picture of them shows at most {MOST_UNITS:,}")
    found: list[Group] = []
    for name, kind, size in groups:
        found.append(Group(name=name, kind=kind, begin=sum(own.size for own in found), size=size))
    return tuple(found)


def _readouts(graph: Graph) -> Iterator[tuple[str, tuple[Link, int]]]:
    """Yield the linear maps behind the loop that lead from states to an output: its name, the link, its size."""
    loop, root = loop_of(graph), graph.root
    types = dict(root.types)
    states = {state.result: state.name for state in loop.carried}
    ports = {port.value: port.name for port in root.outputs}
    for statement in root.body[root.body.index(loop) + 1 :]:
        if not isinstance(statement, Call | Apply) or not set(statement.inputs) <= set(states):
            continue
        instance = statement.operation if isinstance(statement, Apply) else _instance(graph, statement.child)
        linear = None if not isinstance(instance, Primitive) else linear_weight(instance)
        if isinstance(instance, Primitive) and linear is None:
            if all(isinstance(relation, Move) for relation in relations(instance)):
                states |= dict.fromkeys(statement.outputs, states[statement.inputs[0]])
        elif linear is not None and isinstance(statement, Call) and statement.outputs[0] in ports:
            assert isinstance(instance, Primitive)
            name, (source,) = ports[statement.outputs[0]], statement.inputs
            weight = _weight_name(instance)
            link = Link(
                child=statement.child, weight=weight, sources=(states[source],), targets=(name,), both=False
            )
            yield name, (link, size(types[statement.outputs[0]]))


def _instance(graph: Graph, child: str) -> object:
    return graph.root.child(child).instances[0]


def _weight_name(primitive: Primitive) -> str:
    linear = linear_weight(primitive)
    owned = {weight.name for weight in primitive.weights}
    assert linear is not None
    return next(term.tensor for term in linear.terms if term.tensor in owned)


def size(kind: Any) -> int:
    """Return how many numbers a type has."""
    return prod(int(str(size)) for size in kind.shape)


# ---------------------------------------------------------------------------------------------- with weights


def wiring(graph: Graph, state: State) -> Wiring:
    """Return the weights in use between all units. Raises Misfit."""
    import torch

    own, groups, links = structure(graph)
    count = sum(group.size for group in groups)
    places = {group.name: group.units for group in groups}
    matrix, possible = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, count).bool()
    maps = {junction.path: junction for junction in system_scheme(own).junctions}
    for link in links:
        rows = [unit for name in link.targets for unit in places[name]]
        columns = [unit for name in link.sources for unit in places[name]]
        weight, there = _between(own, link, maps.get(link.child), state)
        if weight.shape != (len(rows), len(columns)):
            raise Misfit(f"what enters `{link.child}` is no longer unit by unit what its sources are")
        at = torch.tensor(rows).unsqueeze(1), torch.tensor(columns)
        matrix[at] += weight
        possible[at] |= there
        if link.both:
            matrix[at[1].unsqueeze(1), at[0].squeeze(1)] += weight.mT
            possible[at[1].unsqueeze(1), at[0].squeeze(1)] |= there.mT
    return Wiring(own, groups, links, matrix, possible)


def _between(graph: Graph, link: Link, junction: Junction | None, state: State) -> tuple[Tensor, Tensor]:
    """Return the matrix of a link, [targets, sources], and where it may have entries."""
    import torch

    from nnspec.compiler.emit.load import effective_weight

    primitive = _instance(graph, link.child)
    assert isinstance(primitive, Primitive)
    weight = next(own for own in primitive.weights if own.name == link.weight)
    used: Any = effective_weight(weight, link.child, dict(state)).detach().cpu().double()
    there = _kept(graph, link, state)
    kept = torch.ones_like(used) if there is None else there.double()
    if junction is None or link.is_matrix:
        return used, kept != 0
    _refuse_curved(graph, link)
    return _as_matrix(junction, used), _as_matrix(junction, kept) != 0


def _as_matrix(junction: Junction, weight: Tensor) -> Tensor:
    """Return a linear map as a matrix: what it makes of each unit by itself."""
    import torch

    from nnspec.compiler.rules.written.maps import LinearMap

    shape = tuple(int(str(size)) for size in junction.pre.shape)
    one = torch.eye(prod(shape), dtype=weight.dtype).reshape(-1, *shape)
    with torch.no_grad():
        return LinearMap(junction).forward(one, weight, None).flatten(1).mT


def _refuse_curved(graph: Graph, link: Link) -> None:
    from nnspec.compiler.emit.system import system

    if not system(graph).connections.linear[link.child]:
        raise Misfit(f"`{link.child}` is not linear: what it carries between two units depends on the others")


def _kept(graph: Graph, link: Link, state: State) -> Tensor | None:
    """Return which entries of a weight its topology leaves; None for all."""
    from nnspec.compiler.constrained import constrained_weights
    from nnspec.compiler.runtime.constrained_state import WeightState

    path = f"{link.child}.{link.weight}"
    own = next((one for one in constrained_weights(graph) if one.path == path), None)
    known = None if own is None else WeightState(own).kept(state)
    return None if known is None else known.cpu()
