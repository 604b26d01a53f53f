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
    Relation,
    Softmax,
    Sum,
    Term,
)
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.maps import Action
from nnspec.compiler.symmetry.spaces import AxisOf, Spaces
from nnspec.compiler.symmetry.unknowns import Unknowns


def scales(spaces: Spaces) -> Unknowns:
    """Return the system of log-scales."""
    system = _start(spaces, None, lambda action: action.scales)
    for stated in spaces.related.stated:
        _multiplicative(system, stated.relation, signs=False)
    return system


def signs(spaces: Spaces) -> Unknowns:
    """Return the system of sign flips."""
    system = _start(spaces, 2, lambda action: action.flips)
    for stated in spaces.related.stated:
        _multiplicative(system, stated.relation, signs=True)
    return system


def _start(spaces: Spaces, modulus: int | None, passes: Callable[[Action], bool]) -> Unknowns:
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
    term = relation.terms[0]
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


def along_labels(system: Unknowns, terms: tuple[Term, ...], factors: tuple[Number, ...]) -> None:
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
    along_labels(system, (*relation.terms, relation.output), (*powers, -1))
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
