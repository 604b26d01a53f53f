"""Shifts: which constants may be added to values, because the biases behind take them up again.

In: the spaces and relations of a network. Out: a system of equations over the rationals. Shifts add where
values add, pass maps that have a bias of their own, and vanish under functions of entries.
"""

from __future__ import annotations

from collections.abc import Mapping

from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Fixed,
    Move,
    Normalize,
    Part,
    Planes,
    Relation,
    Softmax,
    Sum,
    Term,
)
from nnspec.compiler.symmetry.actions import along, along_labels, each, follow, move, part, rational
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.relate import Related
from nnspec.compiler.symmetry.spaces import AxisOf, Spaces
from nnspec.compiler.symmetry.unknowns import Unknowns


def shifts(spaces: Spaces, free: frozenset[str] = frozenset()) -> Unknowns:
    """Return the system of shifts; those of `free`, outputs of functions, may be any.

    A shift x + c is undone by the bias behind each map that reads it. Where a map has no bias of its own
    for that, or its bias serves several uses, shifts could still pass as W c for some c, depending on the
    weights: the sound subgroup has none there.
    """
    system = Unknowns(spaces)
    for name in (*spaces.related.inputs, *spaces.related.outputs):
        system.still(name)
    biases = Biases(spaces.related)
    looked_up = _lookups(spaces.related)
    for name, carrier in spaces.related.carriers.items():
        if carrier.kind == "weight" and not (carrier.is_free and name in looked_up):
            system.still(name)
    totals = _totals(spaces.related)
    for stated in spaces.related.stated:
        relation = stated.relation
        if isinstance(relation, Elementwise) and relation.output.tensor in free:
            for term in relation.terms:
                system.still(term.tensor)
        else:
            _additive(system, relation, biases, totals)
    biases.agree(system)
    return system


class Biases:
    """Which biases take up shifts: learned, unconstrained ones; one that serves several uses ties them."""

    def __init__(self, related: Related) -> None:
        self.related = related
        self.origin: dict[str, str] = {}
        self.uses: dict[str, list[Contract]] = {}
        for stated in related.stated:
            relation = stated.relation
            if isinstance(relation, Move) and not related.carriers[relation.output].live:
                self.origin[relation.output] = self.source(relation.input)
        for stated in related.stated:
            relation = stated.relation
            if isinstance(relation, Contract) and relation.bias is not None:
                self.uses.setdefault(self.source(relation.bias.tensor), []).append(relation)

    def source(self, tensor: str) -> str:
        """Return the stored tensor of which this is a view."""
        return self.origin.get(tensor, tensor)

    def takes_up(self, relation: Contract) -> bool:
        """Whether the bias of a map can undo any constant behind it."""
        if relation.bias is None or not self.related.carriers[self.source(relation.bias.tensor)].is_free:
            return False
        made = {
            label
            for term in relation.terms
            if not self.related.carriers[term.tensor].live
            for label in term.labels
            if label in relation.output.labels
        }
        return made <= set(relation.bias.labels)

    def agree(self, system: Unknowns) -> None:
        """A bias that serves several uses sees the same shifts, before and behind, at each."""
        for uses in self.uses.values():
            first = uses[0]
            for other in uses[1:]:
                pairs = zip((*first.terms, first.output), (*other.terms, other.output), strict=False)
                for ours, theirs in pairs:
                    if ours.tensor != theirs.tensor and len(ours.labels) == len(theirs.labels):
                        _equal_shifts(system, ours.tensor, theirs.tensor)


def _equal_shifts(system: Unknowns, left: str, right: str) -> None:
    system.constants({left: 1, right: -1})
    for ours, theirs in zip(system.axes(left), system.axes(right), strict=True):
        along(system, [(ours, 1), (theirs, -1)])


def _lookups(related: Related) -> set[str]:
    """Return the weights whose entries are looked up and never multiplied: they take up shifts."""
    found: set[str] = set()
    multiplied: set[str] = set()
    for stated in related.stated:
        relation = stated.relation
        if isinstance(relation, Sum):
            found.update(term.tensor for term in relation.terms)
        elif isinstance(relation, Contract):
            multiplied.update(term.tensor for term in relation.terms)
        elif isinstance(relation, Move):
            multiplied.add(relation.input)
    return found - multiplied


def _additive(system: Unknowns, relation: Relation, biases: Biases, totals: Mapping[AxisOf, float]) -> None:
    match relation:
        case Elementwise():
            _shifted_function(system, relation)
        case Sum():
            _sum(system, relation)
        case Contract():
            _map(system, relation, biases, totals)
        case Move():
            move(system, relation)
        case Part():
            part(system, relation)
        case Normalize():
            _forget(system, relation)
        case Softmax():
            system.flat((relation.input, relation.axis))
            system.still(relation.output)
        case Planes():
            system.still(relation.input)
            system.still(relation.output)
        case Fixed():
            for axis in relation.axes:
                system.flat((relation.tensor, axis))
        case _:
            raise TypeError(f"no such relation: {type(relation).__name__}")


def _shifted_function(system: Unknowns, relation: Elementwise) -> None:
    each(system, relation, None if relation.shifts is None else rational(relation.shifts))


def _sum(system: Unknowns, relation: Sum) -> None:
    factors = tuple(rational(number) for number in relation.coefficients)
    row: dict[str, Number] = {relation.output.tensor: -1}
    for term, factor in zip(relation.terms, factors, strict=True):
        row[term.tensor] = row.get(term.tensor, 0) + factor
    system.constants(row)
    along_labels(system, (*relation.terms, relation.output), (*factors, -1))


def _map(system: Unknowns, relation: Contract, biases: Biases, totals: Mapping[AxisOf, float]) -> None:
    carriers = system.spaces.related.carriers
    live = [term for term in relation.terms if carriers[term.tensor].live]
    if len(live) == 1 and len(relation.terms) == 1 and relation.ones is not None:
        _average(system, live[0], relation.output, rational(relation.ones))
        return
    if len(live) == 2 == len(relation.terms) and not relation.powers:
        weighted = _weighted_mean(relation, totals)
        if weighted is not None:
            _average(system, weighted[0], relation.output, rational(weighted[1]))
            return
    taken_up = len(live) == 1 and len(relation.terms) > 1 and biases.takes_up(relation)
    if not taken_up:
        for term in (*live, relation.output):
            system.still(term.tensor)
        return
    assert relation.bias is not None
    (given,) = live
    absorbed = set(relation.bias.labels)
    if not relation.uniform:
        system.still(given.tensor)
    for axis, label in enumerate(given.labels):
        passes = label in relation.output.labels
        if not label or label.startswith("#") or (passes and label not in absorbed):
            system.flat((given.tensor, axis))
    for axis, label in enumerate(relation.output.labels):
        if label not in absorbed:
            system.flat((relation.output.tensor, axis))


def _weighted_mean(relation: Contract, totals: Mapping[AxisOf, float]) -> tuple[Term, float] | None:
    """Return the term whose mean is taken, and the sum of the weights, where the other term is weights alone."""
    for weights, given in (relation.terms, relation.terms[::-1]):
        summed = [label for label in given.labels if label not in relation.output.labels]
        if len(summed) != 1 or summed[0] not in weights.labels:
            continue
        total = totals.get((weights.tensor, weights.labels.index(summed[0])))
        if total is not None and all(x in relation.output.labels for x in weights.labels if x != summed[0]):
            return given, total
    return None


def _totals(related: Related) -> dict[AxisOf, float]:
    """Return the axes along which the entries of a live tensor sum to a constant, and the constant."""
    found: dict[AxisOf, float] = {}
    for stated in related.stated:
        relation = stated.relation
        if isinstance(relation, Softmax) and relation.total is not None:
            found[relation.output, relation.axis] = relation.total
        elif isinstance(relation, Move):
            for ins, outs in relation.groups:
                if len(ins) == len(outs) == 1 and (relation.input, ins[0]) in found:
                    found[relation.output, outs[0]] = found[relation.input, ins[0]]
    return found


def _average(system: Unknowns, given: Term, out: Term, ones: Number) -> None:
    system.constants({out.tensor: 1, given.tensor: -ones})
    gone = [label for label in given.labels if label not in out.labels]
    for axis, label in enumerate(given.labels):
        if label in gone:
            system.flat((given.tensor, axis))
    kept = given.replace(labels=tuple("" if label in gone else label for label in given.labels))
    along_labels(system, (out, kept), (1, -ones))


def _forget(system: Unknowns, relation: Normalize) -> None:
    given, out = relation.input, relation.output
    system.still(out)
    inside = [(given, axis) for axis in relation.axes]
    if relation.group == "orthogonal":
        system.still(given)
    elif relation.group == "centred":
        for axis in inside:
            system.flat(axis)
    else:
        for axis in system.axes(given):
            if axis not in inside:
                system.flat(axis)
        if relation.mean is not None:
            system.constants({relation.mean: 1, given: -1})
            follow(system, (relation.mean, 0), inside[0], 1)
        if relation.variance is not None:
            system.still(relation.variance)
