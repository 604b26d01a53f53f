"""What is left of the connections between units after pruning: a directed graph, its dead units, and its symmetry group.

In: the wiring of a network at some weights. Out: a networkx graph, units that reach no output or that no input reaches, and
the group of the network that has these connections alone, with its orbits on the units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.checks.wiring import Wiring
from nnspec.compiler.rewrites.survivors import survivors
from nnspec.compiler.symmetry.record import SymmetryGroup

if TYPE_CHECKING:
    import networkx
    from torch import Tensor


class Survival(NamedTuple):
    """What is left at some weights. Units are numbers among all; `orbits` those of two units or more."""

    label: str
    wiring: Wiring
    edges: tuple[tuple[int, int, float], ...]  # from, to, weight
    dead: tuple[int, ...]  # hidden units from which no way leads to an output
    unfed: tuple[int, ...]  # units that are no inputs, and that no way from an input leads to
    group: SymmetryGroup
    orbits: tuple[tuple[int, ...], ...]

    @property
    def allowed(self) -> int:
        """How many connections there may be."""
        return int(self.wiring.possible.sum())

    def kind(self, unit: int) -> str:
        return self.wiring.group(unit).kind


def survival(label: str, wiring: Wiring, below: float = 0.0) -> Survival:
    """Return what is left; connections of a magnitude of at most `below` count as gone."""
    from nnspec.compiler.symmetry.group import symmetry_group

    there = wiring.matrix.abs() > below
    edges = tuple(_edges(wiring.matrix, there))
    graph = directed(wiring, edges)
    group = symmetry_group(survivors(wiring.graph, _entries(wiring, there)))
    return Survival(
        label=label,
        wiring=wiring,
        edges=edges,
        dead=tuple(_cut(graph.reverse(copy=False), wiring, "output", ("hidden",))),
        unfed=tuple(_cut(graph, wiring, "input", ("hidden", "output"))),
        group=group,
        orbits=_orbits(group, wiring),
    )


def directed(wiring: Wiring, edges: tuple[tuple[int, int, float], ...]) -> networkx.DiGraph[int]:
    """Return the units and connections as a networkx graph."""
    import networkx

    graph: networkx.DiGraph[int] = networkx.DiGraph()
    for group in wiring.groups:
        graph.add_nodes_from(group.units, group=group.name, kind=group.kind)
    graph.add_weighted_edges_from(edges)
    return graph


def _edges(matrix: Tensor, there: Tensor) -> Iterator[tuple[int, int, float]]:
    pairs: Any = there.mT.nonzero()
    for source, target in pairs.tolist():
        yield source, target, float(matrix[target, source])


def _cut(graph: networkx.DiGraph[int], wiring: Wiring, begin: str, of: tuple[str, ...]) -> Iterator[int]:
    """Yield the units of some kinds to which no way leads from those of the kind `begin`."""
    import networkx

    library: Any = networkx
    ends = [unit for group in wiring.groups if group.kind == begin for unit in group.units]
    reached: set[int] = set(ends).union(*(library.descendants(graph, unit) for unit in ends))
    for group in wiring.groups:
        if group.kind in of:
            yield from (unit for unit in group.units if unit not in reached)


def _entries(wiring: Wiring, there: Tensor) -> dict[str, Any]:
    """Return which entries of each weight that is a matrix are left, by its path.

    Where two weights join the same units, an entry of either counts as left if their sum is.
    """
    import torch

    places = {group.name: list(group.units) for group in wiring.groups}
    found: dict[str, Any] = {}
    for link in wiring.links:
        rows = torch.tensor([unit for name in link.targets for unit in places[name]])
        columns = torch.tensor([unit for name in link.sources for unit in places[name]])
        if link.is_matrix:
            found[f"{link.child}.{link.weight}"] = there[rows][:, columns].numpy()
    return found


def _orbits(group: SymmetryGroup, wiring: Wiring) -> tuple[tuple[int, ...], ...]:
    """Return which units the group exchanges, as far as matrices say what wire they are on."""
    from nnspec.compiler.symmetry.orbits import indices, orbits

    spaces, known = group.derivation.spaces, orbits(group, group.derivation.neurons)
    places = {own.name: list(own.units) for own in wiring.groups}
    found: dict[Any, set[int]] = {}
    for link in wiring.links:
        for axis, names in ((0, link.targets), (1, link.sources)):
            node = (f"{link.child}.{link.weight}", axis)
            if not link.is_matrix or node not in spaces.layouts:
                continue
            units = [unit for name in names for unit in places[name]]
            for unit, own in zip(units, indices(spaces, node), strict=True):
                if len(own) == 1 and own[0][0] in known:
                    ((space, index),) = own
                    orbit = next(n for n, part in enumerate(known[space]) if index in part)
                    found.setdefault((space, orbit), set()).add(unit)
    return tuple(sorted(tuple(sorted(units)) for units in found.values() if len(units) > 1))
