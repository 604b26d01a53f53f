"""Functional dimension at one point: rank, hidden symmetries by cause, and where they lie.

In: a typed graph, its derived group (None where some operation states no relations) and a state. Norms are
taken without their epsilon, as the group is derived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.causes import CAUSES, beyond, causes, shares
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.opened import unseen
from nnspec.compiler.fibres.probe import draw_probe
from nnspec.compiler.fibres.rank import Spectrum, spectrum
from nnspec.compiler.fibres.tangents import extended, redundant, tangents
from nnspec.compiler.fibres.units import Units, units
from nnspec.compiler.fibres.values import has_values
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.relations import Contract
from nnspec.compiler.rewrites.sloped import sloped
from nnspec.compiler.symmetry.generators import key_of
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_INPUTS = 4000  # on which units are watched


class Hidden(Node):
    """What was found at one point. `causes` and `layers` count what the group does not declare and constraints use."""

    label: str
    parameters: int
    declared: int
    redundant: int  # stored numbers beyond those that say which weight a constraint makes of them
    spectrum: Spectrum
    causes: dict[str, int]
    layers: dict[str, float]  # share of the hidden directions that lies on each tensor
    units: tuple[Units, ...]

    @property
    def hidden(self) -> int:
        return max(0, self.spectrum.nullity - self.declared - self.redundant)

    def json(self) -> dict[str, Any]:
        """Return what was found, JSON-able."""
        gap = self.spectrum.gap
        return {
            "weights": self.label,
            "rank": self.spectrum.rank,
            "nullity": self.spectrum.nullity,
            "redundant": self.redundant,
            "hidden": self.hidden,
            "causes": {cause: count for cause, count in self.causes.items() if count},
            "layers": {key: share for key, share in self.layers.items() if share > 1e-6},
            "inputs": self.spectrum.inputs,
            "settled": self.spectrum.settled,
            "gap": gap if gap != float("inf") else None,
            "spectrum": list(self.spectrum.values),
            "units": [
                {
                    "wire": u.wire,
                    "kinds": list(u.kinds),
                    "active": list(u.active),
                    "duplicates": [list(group) for group in u.doubles],
                }
                for u in self.units
                if u.functions
            ],
        }


def hidden_at(
    graph: Graph,
    group: SymmetryGroup | None,
    state: Mapping[str, Tensor],
    probe: Choice,
    label: str,
    seed: int,
    tolerance: float,
    slopes: bool = False,
) -> Hidden:
    """Return the functional dimension at one state. `graph` is the idealised network.

    With `slopes` it is that of the network in which no homogeneous function has a flat side: see `sloped`.
    """
    plain = Chart(graph, state, seed)
    chart = Chart(sloped(graph), state, seed) if slopes else plain
    found = spectrum(
        chart, lambda more, count: draw_probe(graph, probe, seed + more, count), probe["samples"], tolerance
    )
    declared, stored = (0, 0) if group is None else (group.continuous_dimension, group.redundant)
    counted = dict.fromkeys(CAUSES, 0)
    lie: dict[str, float] = {}
    watched: tuple[Units, ...] = ()
    if group is None:
        counted["unknown"] = found.nullity
    elif not has_values(graph):  # such as states that descend an energy: its units cannot be watched
        counted["unknown"] = max(0, found.nullity - declared - stored)
    else:
        inputs = draw_probe(graph, probe, seed, max(_INPUTS, probe["samples"]))
        watched = units(graph, group, plain, plain.point, inputs)
        if found.nullity > declared + stored:
            moved = tangents(group, chart, chart.point)
            known = extended(moved, list(redundant(group, chart, chart.point)), chart.count)
            expected, maps = declared + stored, tuple(_maps(group, chart))
            cut = _pieces(graph, state, chart)
            counted = causes(chart, found, watched, known, expected, _unused(group, chart), maps, cut)
            lie = shares(chart, beyond(found, known))
    return Hidden(
        label=label,
        parameters=chart.count,
        declared=declared,
        redundant=stored,
        spectrum=found,
        causes=counted,
        layers=lie,
        units=watched,
    )


def _pieces(graph: Graph, state: Mapping[str, Tensor], chart: Chart) -> Iterator[tuple[str, Tensor]]:
    """Yield what the pieces of the cut network do not show, by what is left whole of it.

    Weights that a constraint may stop are inside it as long as they are free to move.
    """
    import torch

    bound = {
        state_key(own.owner, tensor.name)
        for own in constrained_weights(graph)
        for tensor in own.weight.stored
    }
    places = chart.slices()
    for cause, still, leave in (
        ("kernel of a read-out", bound, ""),
        ("inside a constraint", set[str](), ""),
        ("polynomials", set[str](), "powers"),
        ("statistics of a norm", set[str](), "statistics"),
        ("behind a step", set[str](), "steps"),
    ):
        found = unseen(graph, state, still=frozenset(still), leave=leave)
        if found is not None:
            opened, null = found
            basis = torch.zeros(chart.count, null.shape[1], dtype=torch.float64)
            for key, part in zip(opened.keys, null.split(opened.sizes), strict=True):
                basis[places[key]] = part
            yield cause, basis


def _unused(group: SymmetryGroup, chart: Chart) -> tuple[int, ...]:
    places = chart.slices()
    keys = [key_of(held.key) for held in group.derivation.related.unused]
    return tuple(
        entry for key in keys if key in places for entry in range(places[key].start, places[key].stop)
    )


def _maps(group: SymmetryGroup, chart: Chart) -> Iterator[tuple[int, ...]]:
    """Yield the entries of each linear map, with those of its bias."""
    places = chart.slices()
    for stated in group.derivation.related.stated:
        relation = stated.relation
        if isinstance(relation, Contract):
            names = [*relation.terms, *([] if relation.bias is None else [relation.bias])]
            found = [places[key] for key in (key_of(term.tensor) for term in names) if key in places]
            yield tuple(entry for place in found for entry in range(place.start, place.stop))
