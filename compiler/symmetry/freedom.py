"""How much of a group of matrices on a strand really moves the weights.

A matrix that fixes everything that is mapped into the wire and everything that reads it moves no weight.
For one wire that is linear algebra; for wires next to each other the argument goes from wire to wire,
beginning where nothing acts.
"""

from __future__ import annotations

from math import prod

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.layout import total
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node


def pinned_strands(derivation: Derivation) -> set[Atom]:
    """Return the strands of GL, O and complex numbers on which no element but the identity fixes all weights.

    True of a strand with more vectors mapped into it (or read from it) than it is wide, over weights whose
    other axes are certainly not moved, but for scales.
    """
    pinned: set[Atom] = set()
    still = _still(derivation)
    waiting = derivation.of_group("linear", "complex", "orthogonal", "centred")
    waiting += [derivation.by_space[space] for space in derivation.incidences]
    vectors = {strand.space: _vectors(derivation, strand) for strand in waiting}
    while True:
        found = [
            strand
            for strand in waiting
            if any(held.count > strand.size and held.others <= still for held in vectors[strand.space])
        ]
        if not found:
            return pinned
        pinned.update(strand.space for strand in found)
        still |= pinned
        waiting = [strand for strand in waiting if strand.space not in pinned]


def orthogonal_dimension(derivation: Derivation, strand: Strand, acting: int, pinned: set[Atom]) -> int:
    """Return the least dimension of an orbit of O(acting) on what the weights hold along a strand, a copy.

    Only weights count between the strand and spaces on which nothing else acts, but for scales.
    """
    still = _still(derivation) | pinned
    held = sum(item.count for item in _vectors(derivation, strand) if item.others <= still)
    left = max(0, acting - held)
    return acting * (acting - 1) // 2 - left * (left - 1) // 2


def _still(derivation: Derivation) -> set[Atom]:
    """Return the strands on which no matrices act, but for scales."""
    groups = derivation.groups.items()
    return {space for space, group in groups if group in ("fixed", "monomial")} - derivation.incidences.keys()


class _Vectors(Node):
    """How many vectors along a strand a weight holds, for each copy, and the strands of its other axes."""

    count: int
    others: frozenset[Atom]


def _vectors(derivation: Derivation, strand: Strand) -> list[_Vectors]:
    found: list[_Vectors] = []
    for atoms, outer in strand.places:
        carrier = derivation.related.carriers[atoms[0].tensor]
        if carrier.kind != "weight" or (carrier.action is not None and carrier.action.is_masked):
            continue
        own = {*atoms, *outer}
        segments = {atom.axis: atom.segment for atom in own}  # a part of a packed weight
        rest: list[Atom] = []
        count = 1
        for axis in range(len(carrier.shape)):
            layout = derivation.spaces.layouts[carrier.name, axis]
            for index, segment in enumerate(derivation.spaces.atoms((carrier.name, axis))):
                if segments.get(axis, index) == index:
                    rest += [atom for atom in segment if atom not in own]
            count *= prod(layout[segments[axis]]) if axis in segments else total(layout)
        others = frozenset(derivation.by_space[derivation.spaces.space(atom)].space for atom in rest)
        if strand.space in others:
            continue
        found.append(_Vectors(count=count // (strand.size * strand.copies), others=others))
    return found
