"""The units of a network on a probe: which are dead, constant, always on, or doubles of each other.

A unit is one index of a wire on which an elementwise function acts. In: a typed graph with its derived
group, a state and inputs. What a unit does is seen from its values before and after the function; which
weights make it and which read it follows from the relations. No operation is known by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.values import values
from nnspec.compiler.ir import Graph
from nnspec.compiler.relations import Contract, Elementwise, Sum
from nnspec.compiler.symmetry.generators import key_of
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_SAME = 1e-12  # of the largest value of a wire
_ALIKE = 1e-12  # one minus the correlation of two units that are one


class Units(Node):
    """The units of one wire: what each is ("dead", "constant", "always on" or ""), and which are doubles.

    `active` is the share of the probe on which the function's argument is positive; `made` and `read` are the
    entries of a chart's vector that make each unit and that read it, `behind` the biases behind its readers.
    """

    wire: str
    kinds: tuple[str, ...]
    active: tuple[float, ...]
    doubles: tuple[tuple[int, ...], ...]  # groups of units that are multiples of one another
    made: tuple[tuple[int, ...], ...]
    read: tuple[tuple[int, ...], ...]
    behind: tuple[int, ...]
    functions: bool  # an elementwise function acts on it; without, it has no kinds
    is_linear: bool  # nothing but linear maps and norms see it, so that it may have a kernel

    def count(self, kind: str) -> int:
        return self.kinds.count(kind)


def units(
    graph: Graph, group: SymmetryGroup, chart: Chart, point: Tensor, inputs: tuple[Tensor, ...]
) -> tuple[Units, ...]:
    """Return the units of every wire that is not fixed."""
    found = values(chart.graph, chart.state(point), inputs)
    return tuple(_units(group, chart, wire, found) for wire in group.wires if not wire.is_fixed)


def _units(group: SymmetryGroup, chart: Chart, wire: Wire, found: list[Tensor]) -> Units:
    pairs = [
        (_along(group, wire, before, found), _along(group, wire, after, found), bends)
        for before, after, bends in _functions(group, wire)
    ]
    known = [(a, b, bends) for a, b, bends in pairs if a is not None and b is not None]
    made, read = _entries(group, chart, wire)
    kinds = [""] * wire.size
    active = [1.0] * wire.size
    doubles: tuple[tuple[int, ...], ...] = ()
    if known:
        kinds = [
            _kind([(a[unit], b[unit], bends) for a, b, bends in known], known) for unit in range(wire.size)
        ]
        active = (known[0][0] > 0).double().mean(dim=1).tolist()
        doubles = _doubles(known[-1][1], kinds)
    return Units(
        wire=wire.name,
        kinds=tuple(kinds),
        active=tuple(active),
        doubles=doubles,
        made=made,
        read=read,
        behind=_behind(group, chart, wire),
        functions=bool(known),
        is_linear=group.derivation.by_space[wire.space].kind.name != "monomial",
    )


def _functions(group: SymmetryGroup, wire: Wire) -> Iterator[tuple[str, str, bool]]:
    """Yield the values before and after each elementwise function on a wire, and whether it is one that bends."""
    for stated in group.derivation.related.stated:
        relation = stated.relation
        if isinstance(relation, Elementwise) and len(relation.terms) == 1:
            before, after = relation.terms[0].tensor, relation.output.tensor
            if before in wire.tensors and after in wire.tensors:
                yield before, after, relation.shifts is None


def _along(group: SymmetryGroup, wire: Wire, tensor: str, found: list[Tensor]) -> Tensor | None:
    """Return a value as [units, numbers], if the wire is one whole axis of it."""
    spaces = group.derivation.spaces
    if group.derivation.related.carriers[tensor].kind != "value":  # within an activation that learns
        return None
    for atom in group.derivation.classes[wire.space]:
        if atom.tensor == tensor and spaces.layouts[tensor, atom.axis] == ((wire.size,),):
            value = found[int(tensor[1:])]
            if value.dim() == len(spaces.related.carriers[tensor].shape):
                return None  # made of parameters alone: the same for every sample
            return value.movedim(atom.axis + 1, 0).reshape(wire.size, -1).double()
    return None


def _kind(unit: list[tuple[Tensor, Tensor, bool]], wire: list[tuple[Tensor, Tensor, bool]]) -> str:
    """Say what one unit does in all the functions on its wire."""
    scale = max(float(after.abs().max()) for _, after, _ in wire) or 1.0
    if all(float(after.abs().max()) <= _SAME * scale for _, after, _ in unit):
        return "dead"
    if all(float(after.max() - after.min()) <= _SAME * scale for _, after, _ in unit):
        return "constant"
    if all(bends and _is_affine(before, after, scale) for before, after, bends in unit):
        return "always on"
    return ""


def _is_affine(before: Tensor, after: Tensor, scale: float) -> bool:
    x, y = before - before.mean(), after - after.mean()
    slope = float(x @ y) / (float(x @ x) or 1.0)
    return float((y - slope * x).abs().max()) <= 1e-10 * scale


def _doubles(after: Tensor, kinds: list[str]) -> tuple[tuple[int, ...], ...]:
    """Return groups of units whose values are multiples of one another, constants apart."""
    centred = after - after.mean(dim=1, keepdim=True)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-300)
    alike = (unit @ unit.T).abs() > 1 - _ALIKE
    left = [index for index, kind in enumerate(kinds) if kind not in ("dead", "constant")]
    groups: list[tuple[int, ...]] = []
    while left:
        own = tuple(index for index in left if bool(alike[left[0], index]))
        left = [index for index in left if index not in own]
        if len(own) > 1:
            groups.append(own)
    return tuple(groups)


# ------------------------------------------------------------------------------------------- their weights


def _entries(
    group: SymmetryGroup, chart: Chart, wire: Wire
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Return for each unit the entries of a vector that make it, and those that read it."""
    made: list[list[int]] = [[] for _ in range(wire.size)]
    read: list[list[int]] = [[] for _ in range(wire.size)]
    for atom in group.derivation.classes[wire.space]:
        if atom.tensor in wire.weights:
            into = read if _reads(group, atom) else made
            for unit, entries in enumerate(_of_atom(group, chart, atom, wire.size)):
                into[unit] += entries
    return tuple(map(tuple, made)), tuple(map(tuple, read))


def _of_atom(group: SymmetryGroup, chart: Chart, atom: Atom, size: int) -> list[list[int]]:
    """Return which entries of a vector stand at each index of a factor of an axis of a weight."""
    import torch

    key = key_of(atom.tensor)
    place = chart.slices().get(key)
    carrier = group.derivation.related.carriers[atom.tensor]
    if place is None or tuple(chart.shapes[chart.keys.index(key)]) != carrier.shape:
        return [[] for _ in range(size)]
    layout = group.derivation.spaces.layouts[atom.tensor, atom.axis]
    labels: list[Tensor] = []
    for index, segment in enumerate(layout):
        own = torch.full(tuple(segment), -1)
        if index == atom.segment:
            view = [1] * len(segment)
            view[atom.factor] = -1
            own = torch.arange(segment[atom.factor]).view(view).expand(*segment)
        labels.append(own.reshape(-1))
    shape = chart.shapes[chart.keys.index(key)]
    numbers = torch.arange(place.start, place.stop).view(shape).movedim(atom.axis, 0)
    along = torch.cat(labels)
    return [numbers[along == unit].reshape(-1).tolist() for unit in range(size)]


def _reads(group: SymmetryGroup, atom: Atom) -> bool:
    """Return whether a weight's axis meets the values that flow in, rather than making those that flow out."""
    for stated in group.derivation.related.stated:
        relation = stated.relation
        if isinstance(relation, Contract):
            for term in relation.terms:
                if term.tensor == atom.tensor:
                    return term.labels[atom.axis] not in relation.output.labels
    return False


def _behind(group: SymmetryGroup, chart: Chart, wire: Wire) -> tuple[int, ...]:
    """Return the entries of the biases behind the maps that read a wire: in the maps, or added to what they make."""
    places = chart.slices()
    carriers = group.derivation.related.carriers
    reached: set[str] = set()
    biases: list[str] = []
    for stated in group.derivation.related.stated:
        relation = stated.relation
        if isinstance(relation, Contract):
            if any(carriers[t.tensor].live and t.tensor in wire.tensors for t in relation.terms):
                biases += [] if relation.bias is None else [relation.bias.tensor]
                reached.add(relation.output.tensor)
        elif isinstance(relation, Sum) and any(term.tensor in reached for term in relation.terms):
            biases += [t.tensor for t in relation.terms if carriers[t.tensor].kind == "weight"]
            reached.add(relation.output.tensor)
    found = [places[key] for key in map(key_of, biases) if key in places]
    return tuple(dict.fromkeys(entry for place in found for entry in range(place.start, place.stop)))
