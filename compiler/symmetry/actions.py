"""Scales, signs and shifts: each relation of a network as linear equations, in three systems.

Scales are logarithms over the rationals, signs are over GF(2), shifts over the rationals. An equation is
stated at each use of a tensor. Inputs and outputs of the network stand still; so does a weight whose
constraint lets an action not through.
"""

from __future__ import annotations

from collections.abc import Callable

from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Fixed,
    Move,
    Normalize,
    Part,
    Relation,
    Softmax,
    Sum,
    Term,
)
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.relate import Related
from nnspec.compiler.symmetry.spaces import AxisOf, Spaces
from nnspec.compiler.symmetry.unknowns import Unknowns


def scales(spaces: Spaces) -> Unknowns:
    """Return the system of log-scales."""
    system = _start(spaces, None, lambda carrier: carrier.scales)
    for stated in spaces.related.stated:
        _multiplicative(system, stated.relation, signs=False)
    return system


def signs(spaces: Spaces) -> Unknowns:
    """Return the system of sign flips."""
    system = _start(spaces, 2, lambda carrier: carrier.flips)
    for stated in spaces.related.stated:
        _multiplicative(system, stated.relation, signs=True)
    return system


def shifts(spaces: Spaces, forgetting: bool = True) -> Unknowns:
    """Return the system of shifts; without `forgetting`, only those that some map undoes.

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
    for stated in spaces.related.stated:
        _additive(system, stated.relation, biases)
        if not forgetting and isinstance(stated.relation, (Normalize, Softmax)):
            system.still(stated.relation.input)
    biases.agree(system)
    return system


def _start(spaces: Spaces, modulus: int | None, passes: Callable[[object], bool]) -> Unknowns:
    system = Unknowns(spaces, modulus)
    for name in (*spaces.related.inputs, *spaces.related.outputs):
        system.still(name)
    for name, carrier in spaces.related.carriers.items():
        if carrier.action is not None and not passes(carrier.action):
            system.still(name)
    return system


# ------------------------------------------------------------------------------------------ scales and signs


def _multiplicative(system: Unknowns, relation: Relation, *, signs: bool) -> None:
    match relation:
        case Elementwise():
            _elementwise(system, relation, signs)
        case Sum():
            for term in relation.terms:
                system.constants({relation.output.tensor: 1, term.tensor: -1})
                _same_labels(system, (term, relation.output))
        case Contract():
            _contract(system, relation, signs)
        case Move():
            move(system, relation)
        case Part():
            part(system, relation)
        case Normalize():
            _normalize(system, relation, signs)
        case Softmax():
            system.still(relation.input)
            system.still(relation.output)
        case Fixed():
            for axis in relation.axes:
                system.flat((relation.tensor, axis))
        case _:
            raise TypeError(f"no such relation: {type(relation).__name__}")


def _elementwise(system: Unknowns, relation: Elementwise, signs: bool) -> None:
    tensors = [term.tensor for term in relation.terms]
    if len(tensors) == 1 and signs:
        factor = {"odd": 1, "even": 0}.get(relation.parity)
    elif len(tensors) == 1 and relation.degree is not None:
        factor = rational(relation.degree)
    else:
        factor = None
    if factor is None:
        for name in (*tensors, relation.output.tensor):
            system.still(name)
        return
    (term,) = relation.terms
    system.constants({relation.output.tensor: 1, term.tensor: -factor})
    _along_labels(system, (relation.output, term), (1, -factor))


def rational(number: float) -> Number:
    """Return a number as the fraction it is."""
    from fractions import Fraction

    found = Fraction(number).limit_denominator(1 << 20)
    return int(found) if found.denominator == 1 else found


def _same_labels(system: Unknowns, terms: tuple[Term, Term]) -> None:
    """What varies along a label is the same in both; a label that one lacks varies in neither."""
    _along_labels(system, terms, (1, -1))


def _along_labels(system: Unknowns, terms: tuple[Term, ...], factors: tuple[Number, ...]) -> None:
    """Per label, the sum of factor * (what varies along it) is zero over the terms that have it."""
    rows: dict[str, list[tuple[AxisOf, Number]]] = {}
    for term, factor in zip(terms, factors, strict=True):
        for axis, label in enumerate(term.labels):
            if not label or label.startswith("#"):
                system.flat((term.tensor, axis))
            else:
                rows.setdefault(label, []).append(((term.tensor, axis), factor))
    for row in rows.values():
        along(system, row)


def along(system: Unknowns, row: list[tuple[AxisOf, Number]]) -> None:
    """State an equation along axes; if their layouts could not be made to agree, none of them varies."""
    layouts = {system.spaces.layouts[axis] for axis, _ in row}
    if len(layouts) > 1:
        for axis, _ in row:
            system.flat(axis)
    else:
        kept = [(axis, number) for axis, number in row if number != 0]
        system.along(kept)


def _contract(system: Unknowns, relation: Contract, signs: bool) -> None:
    powers: tuple[Number, ...] = relation.powers or (1,) * len(relation.terms)
    powers = tuple(1 for _ in powers) if signs else powers
    row: dict[str, Number] = {relation.output.tensor: -1}
    for term, power in zip(relation.terms, powers, strict=True):
        row[term.tensor] = row.get(term.tensor, 0) + power
    system.constants(row)
    _along_labels(system, (*relation.terms, relation.output), (*powers, -1))
    if relation.bias is not None:
        system.constants({relation.bias.tensor: 1, relation.output.tensor: -1})
        _same_labels(system, (relation.bias, relation.output))


def _normalize(system: Unknowns, relation: Normalize, signs: bool) -> None:
    given, out = relation.input, relation.output
    inside = [(given, axis) for axis in relation.axes]
    others = [axis for axis in system.axes(given) if axis not in inside]
    if relation.group == "unit":
        for axis in (*others, *((out, axis[1]) for axis in others)):
            system.flat(axis)
    elif relation.group == "centred" or not signs:
        for axis in inside:
            system.flat(axis)
    if signs:
        system.proportional(out, given, 1)
    else:
        system.still(out)
    channel = inside[0]
    for buffer, power in ((relation.mean, 1), (relation.variance, 0 if signs else 2)):
        if buffer is not None:
            system.constants({buffer: 1, given: -power})
            along(system, [((buffer, 0), 1), (channel, -power)])
            if power == 0:
                system.still(buffer)


def move(system: Unknowns, relation: Move) -> None:
    """State that the same action stands under other axes."""
    system.constants({relation.output: 1, relation.input: -1})
    for ins, outs in relation.groups:
        left = tuple((relation.input, axis) for axis in ins)
        right = tuple((relation.output, axis) for axis in outs)
        if any(axis in system.spaces.unlinked for axis in (*left, *right)):
            for axis in (*left, *right):
                system.flat(axis)
        else:
            system.moved(left, right)


def part(system: Unknowns, relation: Part) -> None:
    """State that what acts on a part is what acts on the whole there."""
    whole_axes, part_axes = system.axes(relation.whole), system.axes(relation.part)
    others = [axis for axis in whole_axes if axis[1] != relation.axis]
    kept = [axis for axis in part_axes if axis[1] != relation.part_axis]
    for left, right in zip(others, kept, strict=True):
        along(system, [(left, 1), (right, -1)])
    cut = (relation.whole, relation.axis)
    if cut in system.spaces.unlinked or not isinstance(relation.start, int):
        system.constants({relation.whole: 1, relation.part: -1})
        system.flat(cut)
        if relation.part_axis is not None:
            system.flat((relation.part, relation.part_axis))
    else:
        system.part(relation.whole, relation.part, relation.axis, relation.part_axis, relation.start)


# ---------------------------------------------------------------------------------------------------- shifts


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


def _additive(system: Unknowns, relation: Relation, biases: Biases) -> None:
    match relation:
        case Elementwise():
            _shifted_function(system, relation)
        case Sum():
            _sum(system, relation)
        case Contract():
            _map(system, relation, biases)
        case Move():
            move(system, relation)
        case Part():
            part(system, relation)
        case Normalize():
            _forget(system, relation)
        case Softmax():
            system.flat((relation.input, relation.axis))
            system.still(relation.output)
        case Fixed():
            for axis in relation.axes:
                system.flat((relation.tensor, axis))
        case _:
            raise TypeError(f"no such relation: {type(relation).__name__}")


def _shifted_function(system: Unknowns, relation: Elementwise) -> None:
    if len(relation.terms) > 1 or relation.shifts is None:
        for term in (*relation.terms, relation.output):
            system.still(term.tensor)
        return
    factor = rational(relation.shifts)
    (term,) = relation.terms
    system.constants({relation.output.tensor: 1, term.tensor: -factor})
    _along_labels(system, (relation.output, term), (1, -factor))


def _sum(system: Unknowns, relation: Sum) -> None:
    factors = tuple(rational(number) for number in relation.coefficients)
    row: dict[str, Number] = {relation.output.tensor: -1}
    for term, factor in zip(relation.terms, factors, strict=True):
        row[term.tensor] = row.get(term.tensor, 0) + factor
    system.constants(row)
    _along_labels(system, (*relation.terms, relation.output), (*factors, -1))


def _map(system: Unknowns, relation: Contract, biases: Biases) -> None:
    carriers = system.spaces.related.carriers
    live = [term for term in relation.terms if carriers[term.tensor].live]
    if len(live) == 1 and len(relation.terms) == 1 and relation.ones is not None:
        _average(system, live[0], relation.output, rational(relation.ones))
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


def _average(system: Unknowns, given: Term, out: Term, ones: Number) -> None:
    system.constants({out.tensor: 1, given.tensor: -ones})
    gone = [label for label in given.labels if label not in out.labels]
    for axis, label in enumerate(given.labels):
        if label in gone:
            system.flat((given.tensor, axis))
    kept = given.replace(labels=tuple("" if label in gone else label for label in given.labels))
    _along_labels(system, (out, kept), (1, -ones))


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
            along(system, [((relation.mean, 0), 1), (inside[0], -1)])
        if relation.variance is not None:
            system.still(relation.variance)
