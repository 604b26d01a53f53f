"""The symmetry graph: wires, weights and operations as one networkx graph.

Nodes bear `kind` ("wire", "weight", "operation"). A wire has size, group, multiplicity, reason and line; an
edge from a wire to a weight says on which axis the wire's group acts. Attributes are plain, so the graph
can be written as GraphML or JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.relate import terms_of

if TYPE_CHECKING:
    import networkx as nx


def symmetry_graph(group: SymmetryGroup) -> nx.MultiGraph[str]:
    """Return the symmetry graph of a derived group."""
    import networkx as nx

    made: nx.MultiGraph[str] = nx.MultiGraph(name=group.network)
    spaces = group.derivation.spaces
    wires = {wire.space: f"wire {wire.name}" for wire in group.wires}
    for wire in group.wires:
        made.add_node(
            wires[wire.space],
            kind="wire",
            label=f"{wire.name}: {wire.group}",
            size=wire.size,
            group=wire.group,
            multiplicity=wire.multiplicity,
            reason=wire.reason,
            line=0 if wire.line is None else wire.line,
            fixed=wire.is_fixed,
        )
    _add_weights(made, group, wires)
    _add_operations(made, group, wires)
    for space, name in wires.items():
        assert spaces.space(space) == space, name
    return made


def _add_weights(made: Any, group: SymmetryGroup, wires: dict[Any, str]) -> None:
    derivation = group.derivation
    for carrier in derivation.related.carriers.values():
        if carrier.kind != "weight":
            continue
        shape = " x ".join(str(size) for size in carrier.shape)
        made.add_node(f"weight {carrier.name}", kind="weight", label=f"{carrier.name} [{shape}]")
        for wire, axis in _wires_of(group, carrier.name, wires):
            made.add_edge(wire, f"weight {carrier.name}", axis=axis, label=f"axis {axis}")


def _wires_of(group: SymmetryGroup, tensor: str, wires: dict[Any, str]) -> list[tuple[str, int]]:
    spaces = group.derivation.spaces
    rank = len(group.derivation.related.carriers[tensor].shape)
    found = [
        (wires[space], axis)
        for axis in range(rank)
        for segment in spaces.atoms((tensor, axis))
        for atom in segment
        if (space := spaces.space(atom)) in wires
    ]
    return list(dict.fromkeys(found))


def _add_operations(made: Any, group: SymmetryGroup, wires: dict[Any, str]) -> None:
    carriers = group.derivation.related.carriers
    for stated in group.derivation.related.stated:
        node = f"operation {stated.use.path}"
        made.add_node(node, kind="operation", label=stated.use.word)
        for term in terms_of(stated.relation):
            if carriers[term.tensor].kind == "weight":
                made.add_edge(node, f"weight {term.tensor}", label="uses")
            elif carriers[term.tensor].kind == "value":
                for wire, _ in _wires_of(group, term.tensor, wires):
                    if not made.has_edge(node, wire):
                        made.add_edge(node, wire, label="sees")
