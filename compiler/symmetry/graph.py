"""The symmetry graph: wires, weights and operations as one networkx graph.

In: a derived group. Out: a multigraph whose nodes bear `kind` ("wire", "weight", "operation") and whose edges bear
`action`. From a wire to a weight it says what the wire's group does along which axis: it permutes, scales, flips,
multiplies by a matrix of GL or O or (dual) by its inverse, or leaves it fixed. Operations are joined to the weights that
they use and the wires that they see. Attributes are plain, so that GraphML and JSON hold all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.relate import Carrier, terms_of
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand

if TYPE_CHECKING:
    import networkx as nx

_MATRICES = {
    "linear": "GL",
    "orthogonal": "O",
    "centred": "O that fixes the ones",
    "complex": "complex scales",
}


def symmetry_graph(group: SymmetryGroup) -> nx.MultiGraph[str]:
    """Return the symmetry graph of a derived group."""
    import networkx as nx

    made: nx.MultiGraph[str] = nx.MultiGraph(name=group.network)
    wires = {space: wire for wire in group.wires for space in _strand(group, wire).spaces}
    for wire in group.wires:
        made.add_node(_name(wire), **_wire_attributes(group, wire))
    _add_weights(made, group)
    _add_operations(made, group, wires)
    return made


def graphml(group: SymmetryGroup) -> str:
    """Return the symmetry graph as GraphML, which `networkx.read_graphml` reads back whole."""
    import networkx as nx

    library: Any = nx
    return "\n".join(library.generate_graphml(symmetry_graph(group))) + "\n"


def node_link(group: SymmetryGroup) -> dict[str, Any]:
    """Return the symmetry graph as JSON, which `networkx.node_link_graph(data, edges="edges")` reads back whole."""
    import networkx as nx

    library: Any = nx
    return library.node_link_data(symmetry_graph(group), edges="edges")


def _name(wire: Wire) -> str:
    return f"wire {wire.name}"


def _strand(group: SymmetryGroup, wire: Wire) -> Strand:
    return group.derivation.by_space[wire.space]


def _wire_attributes(group: SymmetryGroup, wire: Wire) -> dict[str, Any]:
    return {
        "kind": "wire",
        "label": f"{wire.name}: {wire.group}",
        "size": wire.size,
        "copies": wire.copies,
        "group": wire.group,
        "multiplicity": wire.multiplicity,
        "reason": wire.reason,
        "line": 0 if wire.line is None else wire.line,
        "file": wire.file or "",
        "fixed": wire.group == "1",
    }


# ---------------------------------------------------------------------------------------------------- weights


def _add_weights(made: Any, group: SymmetryGroup) -> None:
    d = group.derivation
    for carrier in d.related.carriers.values():
        if carrier.kind in ("weight", "buffer"):
            made.add_node(f"weight {carrier.name}", **_weight_attributes(carrier))
    for wire in group.wires:
        strand = _strand(group, wire)
        is_dual = d.groups[strand.space] in ("linear", "complex")
        for atoms, _ in strand.places:
            carrier = d.related.carriers[atoms[0].tensor]
            if carrier.kind in ("weight", "buffer"):
                action = _action(d, wire, strand, atoms[0], d.orientations.of(atoms[0]) if is_dual else 1)
                axes = sorted({atom.axis for atom in atoms})
                made.add_edge(
                    _name(wire),
                    f"weight {carrier.name}",
                    axis=axes[0],
                    action=action,
                    label=f"axis {', '.join(map(str, axes))}: {action}",
                )


def _weight_attributes(carrier: Carrier) -> dict[str, Any]:
    shape = " x ".join(str(size) for size in carrier.shape)
    names = () if carrier.action is None else carrier.action.names
    return {
        "kind": "weight",
        "label": f"{carrier.name} [{shape}]",
        "shape": shape,
        "learned": carrier.kind == "weight",
        "constraint": " & ".join(names),
    }


def _action(d: Derivation, wire: Wire, strand: Strand, atom: Atom, dual: int) -> str:
    """Say what the group of a wire does along an axis of a weight."""
    kind = d.groups[strand.space]
    if kind in _MATRICES:
        apart = ", each copy by its own" if strand.copies > 1 else ""
        return ("dual of " if dual < 0 else "") + _MATRICES[kind] + apart
    if wire.group == "1":
        return "fixed"
    done = [] if kind == "fixed" or wire.size == 1 else ["permutes"]
    power = _power(d, d.scales, strand.space, atom)
    words = {"1": "scales by d", "-1": "scales by 1/d"}
    done += [words.get(f"{power:g}", f"scales by d^{power:g}")] if power else []
    done += ["flips"] if _power(d, d.signs, strand.space, atom) else []
    return ", ".join(done) or "fixed"


def _power(d: Derivation, system: Any, space: Atom, atom: Atom) -> float:
    """Return the power of a unit's own number with which it acts along an axis; 0 where it does not.

    The number is taken as it acts on the first value that the wire flows through.
    """
    equations = system.vectors.get(space)
    if equations is None:
        return 0.0
    for solution in equations.basis():
        if atom in solution:
            live = [a for a in d.classes[space] if a in solution and d.related.carriers[a.tensor].live]
            return float(solution[atom] / (solution[live[0]] if live else 1))
    return 0.0


# -------------------------------------------------------------------------------------------------- operations


def _add_operations(made: Any, group: SymmetryGroup, wires: dict[Atom, Wire]) -> None:
    d = group.derivation
    for stated in d.related.stated:
        node = f"operation {stated.use.path}"
        line = 0 if stated.use.span is None else stated.use.span.line
        made.add_node(node, kind="operation", label=stated.use.word, path=stated.use.path, line=line)
        for term in terms_of(stated.relation):
            kind = d.related.carriers[term.tensor].kind
            if kind in ("weight", "buffer"):
                _join(made, node, f"weight {term.tensor}", "uses")
            elif kind == "value":
                for wire in _seen(d, term.tensor, wires):
                    _join(made, node, _name(wire), "sees")


def _seen(d: Derivation, tensor: str, wires: dict[Atom, Wire]) -> list[Wire]:
    rank = len(d.related.carriers[tensor].shape)
    spaces = [
        d.spaces.space(atom)
        for axis in range(rank)
        for segment in d.spaces.atoms((tensor, axis))
        for atom in segment
    ]
    return [wires[space] for space in dict.fromkeys(spaces) if space in wires]


def _join(made: Any, one: str, other: str, action: str) -> None:
    if not made.has_edge(one, other):
        made.add_edge(one, other, action=action, label=action)
