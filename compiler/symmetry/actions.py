"""Scales and signs: each relation of a network as linear equations, in two systems.

Scales are logarithms over the rationals, signs are over GF(2). An equation is
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
    Planes,
    Softmax,
    Sum,
    Term,
)
from nnspec.compiler.symmetry.layout import Layout
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.maps import Action
from nnspec.compiler.symmetry.relate import Gain, Stated
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Spaces
from nnspec.compiler.symmetry.unknowns import Unknowns


def scales(spaces: Spaces) -> Unknowns:
    """Return the system of log-scales."""
    system = _start(spaces, None, lambda action: action.scales)
    for stated in spaces.related.stated:
        _multiplicative(system, stated, signs=False)
    return system


def signs(spaces: Spaces, flipped: frozenset[str] = frozenset()) -> Unknowns:
    """Return the system of sign flips; `flipped` are outputs of functions that are odd about a constant."""
    system = _start(spaces, 2, lambda action: action.flips)
    for stated in spaces.related.stated:
        relation = stated.relation
        if isinstance(relation, Elementwise) and relation.output.tensor in flipped:
            relation = relation.replace(parity="odd")
        _multiplicative(system, stated.replace(relation=relation), signs=True)
    return system


def _start(spaces: Spaces, modulus: int | None, passes: Callable[[Action], bool]) -> Unknowns:
    system = Unknowns(spaces, modulus)
    for name in (*spaces.related.inputs, *spaces.related.outputs):
        system.still(name)
    for name, carrier in spaces.related.carriers.items():
        if carrier.action is None or passes(carrier.action):
            continue
        if carrier.action.multiples:
            for axis in system.axes(name):
                system.flat(axis)
        else:
            system.still(name)
    return system


# ------------------------------------------------------------------------------------------ scales and signs


def _multiplicative(system: Unknowns, stated: Stated, *, signs: bool) -> None:
    relation = stated.relation
    match relation:
        case Elementwise():
            _elementwise(system, relation, signs)
        case Sum():
            for term in relation.terms:
                system.constants({relation.output.tensor: 1, term.tensor: -1})
                _same_labels(system, (term, relation.output))
        case Contract():
            _contract(system, relation, signs, stated.gain)
        case Move():
            move(system, relation)
        case Part():
            part(system, relation)
        case Normalize():
            _normalize(system, relation, signs)
        case Softmax():
            system.still(relation.input)
            system.still(relation.output)
        case Planes():
            system.proportional(relation.output, relation.input, 1)
            system.flat((relation.input, relation.plane))
        case Fixed():
            for axis in relation.axes:
                system.flat((relation.tensor, axis))
        case _:
            raise TypeError(f"no such relation: {type(relation).__name__}")


def _elementwise(system: Unknowns, relation: Elementwise, signs: bool) -> None:
    if signs:
        factor = {"odd": 1, "even": 0}.get(relation.parity) if len(relation.terms) == 1 else None
    else:
        factor = None if relation.degree is None else rational(relation.degree)
    each(system, relation, factor)


def each(system: Unknowns, relation: Elementwise, factor: Number | None) -> None:
    """State that what acts on the output is `factor` times what acts on every term; None: nothing acts on any."""
    if factor is None:
        for term in (*relation.terms, relation.output):
            system.still(term.tensor)
        return
    for term in relation.terms:
        system.constants({relation.output.tensor: 1, term.tensor: -factor})
        along_labels(system, (relation.output, term), (1, -factor))


def rational(number: float) -> Number:
    """Return a number as the fraction it is."""
    from fractions import Fraction

    found = Fraction(number).limit_denominator(1 << 20)
    return int(found) if found.denominator == 1 else found


def _same_labels(system: Unknowns, terms: tuple[Term, Term]) -> None:
    """What varies along a label is the same in both; a label that one lacks varies in neither."""
    along_labels(system, terms, (1, -1))


def along_labels(
    system: Unknowns, terms: tuple[Term, ...], factors: tuple[Number, ...], free: AxisOf | None = None
) -> None:
    """Per label, the sum of factor * (what varies along it) is zero over the terms that have it.

    Nothing is said of what varies along `free`.
    """
    rows: dict[str, list[tuple[AxisOf, Number]]] = {}
    for term, factor in zip(terms, factors, strict=True):
        for axis, label in enumerate(term.labels):
            if (term.tensor, axis) == free:
                continue
            if not label or label.startswith("#"):
                system.flat((term.tensor, axis))
            else:
                rows.setdefault(label, []).append(((term.tensor, axis), factor))
    for row in rows.values():
        along(system, row)
    _along_cells(system, terms, factors, free)


def _along_cells(
    system: Unknowns, terms: tuple[Term, ...], factors: tuple[Number, ...], free: AxisOf | None
) -> None:
    """State the same of what varies along several labels at once."""
    cells = system.spaces.cells
    if not any(cells(term.tensor) for term in terms):
        return
    layouts: dict[str, set[Layout]] = {}
    for term in terms:
        for axis, label in enumerate(term.labels):
            layouts.setdefault(label, set()).add(system.spaces.layouts[term.tensor, axis])
    plain = {
        label for label, found in layouts.items() if label and not label.startswith("#") and len(found) == 1
    }
    system.cells(
        (term.tensor, {a: label for a, label in enumerate(term.labels) if label in plain}, factor, free)
        for term, factor in zip(terms, factors, strict=True)
    )


def along(system: Unknowns, row: list[tuple[AxisOf, Number]]) -> None:
    """State an equation along axes; if their layouts could not be made to agree, none of them varies."""
    layouts = [system.spaces.layouts[axis] for axis, _ in row]
    if any(layout != layouts[0] for layout in layouts):
        for axis, _ in row:
            system.flat(axis)
    else:
        kept = [(axis, number) for axis, number in row if number != 0]
        system.along(kept)


def _contract(system: Unknowns, relation: Contract, signs: bool, gain: Gain | None) -> None:
    powers: tuple[Number, ...] = relation.powers or (1,) * len(relation.terms)
    powers = tuple(1 for _ in powers) if signs else powers
    terms = relation.terms
    if gain is not None:  # what acts along its label before it is undone by the maps behind it
        labels = tuple("" if label == gain.label else label for label in gain.given.labels)
        terms = tuple(term.replace(labels=labels) if term is gain.given else term for term in terms)
    free = None if gain is None else (gain.given.tensor, gain.given.labels.index(gain.label))
    row: dict[str, Number] = {relation.output.tensor: -1}
    for term, power in zip(relation.terms, powers, strict=True):
        row[term.tensor] = row.get(term.tensor, 0) + power
    system.constants(row)
    along_labels(system, (*terms, relation.output), (*powers, -1), free)
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
            follow(system, (buffer, 0), channel, power)
            if power == 0:
                system.still(buffer)


def follow(system: Unknowns, statistic: AxisOf, channel: AxisOf, power: Number) -> None:
    """State that what varies along a statistic is a power of what varies along the channels it is of."""
    along(system, [(statistic, 1), (channel, -power)])
    (own, axis), (given, place) = statistic, channel
    system.cells([(own, {axis: "c"}, 1, None), (given, {place: "c"}, -power, None)])


def move(system: Unknowns, relation: Move) -> None:
    """State that the same action stands under other axes."""
    if relation.output != relation.input:  # a weight that is its own mirror image may be multiplied
        system.constants({relation.output: 1, relation.input: -1})
    same: dict[Atom, Atom] = {}
    for ins, outs in relation.groups:
        left = tuple((relation.input, axis) for axis in ins)
        right = tuple((relation.output, axis) for axis in outs)
        if any(axis in system.spaces.unlinked for axis in (*left, *right)):
            for axis in (*left, *right):
                system.flat(axis)
        else:
            same |= system.moved(left, right)
    system.mapped_cells(relation.input, relation.output, same)


def part(system: Unknowns, relation: Part) -> None:
    """State that what acts on a part is what acts on the whole there."""
    whole_axes, part_axes = system.axes(relation.whole), system.axes(relation.part)
    others = [axis for axis in whole_axes if axis[1] != relation.axis]
    kept = [axis for axis in part_axes if axis[1] != relation.part_axis]
    same: dict[Atom, Atom] = {}
    for left, right in zip(others, kept, strict=True):
        along(system, [(left, 1), (right, -1)])
        if system.spaces.layouts[left] == system.spaces.layouts[right]:
            pairs = zip(system.wide_atoms(left), system.wide_atoms(right), strict=True)
            same |= dict(pairs)
    cut = (relation.whole, relation.axis)
    if cut in system.spaces.unlinked or not isinstance(relation.start, int):
        system.constants({relation.whole: 1, relation.part: -1})
        system.flat(cut)
        if relation.part_axis is not None:
            system.flat((relation.part, relation.part_axis))
    else:
        same |= system.part(relation.whole, relation.part, relation.axis, relation.part_axis, relation.start)
    system.mapped_cells(relation.whole, relation.part, same, within=True)
