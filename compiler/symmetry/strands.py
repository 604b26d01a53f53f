"""Strands: what one group acts on, and with how many copies of itself.

In: index spaces. A space that appears nowhere without another may be acted on in another way at each index of
that one: heads of an attention each have a GL of their own, groups of channels their own permutations. Two
spaces neither of which appears without the other are one set of indices. Every relation has a say: where it
shows an index of one space without the other, or mixes what should stay apart, they are independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from math import prod
from typing import TypeAlias

from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Move,
    Normalize,
    Part,
    Planes,
    Relation,
    Softmax,
    Sum,
)
from nnspec.compiler.symmetry.kinds import LADDER, Kind
from nnspec.compiler.symmetry.relate import Stated, terms_of
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.dsl.node import Node

Pair: TypeAlias = tuple[Atom, Atom]  # of one tensor: an atom, and one that it may come with


class Strand(Node):
    """Spaces that always come together (most often one), and the spaces at each index of which they have a copy.

    `places` lists where they stand: for each, the atoms of the spaces, then those of the outer spaces.
    """

    spaces: tuple[Atom, ...]
    outer: tuple[Atom, ...]
    size: int
    copies: int
    kind: Kind
    is_fixed: bool
    places: tuple[tuple[tuple[Atom, ...], tuple[Atom, ...]], ...]

    @property
    def space(self) -> Atom:
        """The space that stands for the strand."""
        return self.spaces[0]


def strands(spaces: Spaces, kinds: Mapping[Atom, Kind]) -> tuple[Strand, ...]:
    """Return the strands of a network, in order of appearance."""
    companions = _Companions(spaces)
    classes = spaces.classes
    found: list[Strand] = []
    seen: set[Atom] = set()
    for space in classes:
        if space in seen:
            continue
        members, outer = companions.around(space)
        seen.update(members)
        found.append(_strand(spaces, kinds, companions, members, outer, classes))
    return tuple(found)


def _strand(
    spaces: Spaces,
    kinds: Mapping[Atom, Kind],
    companions: _Companions,
    members: tuple[Atom, ...],
    outer: tuple[Atom, ...],
    classes: Mapping[Atom, list[Atom]],
) -> Strand:
    kind = max((kinds[space] for space in members), key=lambda kind: LADDER.index(kind.name))
    places = tuple(
        (
            (atom, *(companions.partner(atom, space) for space in members[1:])),
            tuple(companions.partner(atom, space) for space in outer),
        )
        for atom in classes[members[0]]
    )
    return Strand(
        spaces=members,
        outer=outer,
        size=prod(spaces.sizes[space] for space in members),
        copies=prod(spaces.sizes[space] for space in outer),
        kind=kind,
        is_fixed=members[0] in spaces.fixed,
        places=places,
    )


class _Companions:
    """Which spaces come with which: pairs of atoms, united where a relation takes one to another."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces
        self._parents: dict[Pair, Pair] = {}
        self._pairs_of: dict[str, list[Pair]] = {}
        self._alone: set[Pair] = set()
        for tensor in spaces.related.carriers:
            self._pairs_of[tensor] = list(self._pairs(tensor))
            self._parents.update((pair, pair) for pair in self._pairs_of[tensor])
        for stated in spaces.related.stated:
            self._state(stated)
        alone = {self._root(pair) for pair in self._alone}
        self._partners: dict[Atom, dict[Atom, Atom]] = {}
        for first, second in self._parents:
            if self._root((first, second)) not in alone:
                self._partners.setdefault(first, {}).setdefault(spaces.space(second), second)

    def partner(self, atom: Atom, space: Atom) -> Atom:
        """Return the atom of `space` that an atom comes with."""
        return self._partners[atom][space]

    def around(self, space: Atom) -> tuple[tuple[Atom, ...], tuple[Atom, ...]]:
        """Return the spaces that are one with a space, itself first, and those that it always comes with."""
        atoms = self.spaces.classes_of(space)
        always = [
            other
            for other in self._partners.get(atoms[0], {})
            if other != space and all(other in self._partners.get(atom, {}) for atom in atoms)
        ]
        if space in self.spaces.fixed:
            return (space,), tuple(always)
        members = [other for other in always if other not in self.spaces.fixed and self._mutual(space, other)]
        ordered = tuple(sorted((space, *members), key=lambda one: (one.axis, one.factor)))
        first = (space, *(one for one in ordered if one != space))
        return first, tuple(other for other in always if other not in members)

    def _mutual(self, space: Atom, other: Atom) -> bool:
        return all(
            space in self._partners.get(atom, {})
            and self._partners[self._partners[atom][space]].get(other) == atom
            for atom in self.spaces.classes_of(other)
        )

    # --------------------------------------------------------------------------------------------- pairs

    def _pairs(self, tensor: str) -> Iterator[Pair]:
        """Yield the pairs of atoms of a tensor, of different spaces and no two segments of one axis."""
        rank = len(self.spaces.related.carriers[tensor].shape)
        atoms = [
            atom
            for axis in range(rank)
            for segment in self.spaces.atoms((tensor, axis))
            for atom in segment
            if self.spaces.sizes[atom] > 1
        ]
        for first, second in permutations(atoms, 2):
            cut = len(self.spaces.layouts[tensor, second.axis]) > 1
            same = (first.axis, first.segment) == (second.axis, second.segment)
            if same or (first.axis != second.axis and not cut):
                yield first, second

    def _root(self, pair: Pair) -> Pair:
        while self._parents[pair] != pair:
            self._parents[pair] = self._parents[self._parents[pair]]
            pair = self._parents[pair]
        return pair

    def _unite(self, first: Pair, second: Pair) -> None:
        self._parents[self._root(second)] = self._root(first)

    # ----------------------------------------------------------------------------------------- relations

    def _state(self, stated: Stated) -> None:
        relation = stated.relation
        match relation:
            case Elementwise() | Sum() | Contract():
                self._labels(relation)
            case Normalize() | Softmax() | Planes():
                inside = _inside(relation, len(self.spaces.related.carriers[relation.input].shape))
                self._across(relation.input, relation.output, self._straight(relation), inside)
            case Move():
                self._across(relation.input, relation.output, self._moved(relation), ())
            case Part():
                self._across(relation.whole, relation.part, self._cut(stated), (), within=True)
            case _:
                pass

    def _labels(self, relation: Relation) -> None:
        """A pair of labels is one where every tensor that has the first has the second, too."""
        terms = terms_of(relation)
        found: dict[tuple[object, object], list[Pair]] = {}
        having: dict[object, int] = {}
        for term in terms:
            keys = self._keys(term.tensor, term.labels)
            for key in keys.values():
                having[key] = having.get(key, 0) + 1
            for first, second in self._pairs_of[term.tensor]:
                if first in keys and second in keys:
                    found.setdefault((keys[first], keys[second]), []).append((first, second))
                else:
                    self._alone.add((first, second))
        for (first, _), pairs in found.items():
            for pair in pairs[1:]:
                self._unite(pairs[0], pair)
            if len(pairs) < having[first]:
                self._alone.add(pairs[0])

    def _keys(self, tensor: str, labels: tuple[str, ...]) -> dict[Atom, object]:
        return {
            atom: (label, atom.segment, atom.factor)
            for axis, label in enumerate(labels)
            if label
            for segment in self.spaces.atoms((tensor, axis))
            for atom in segment
            if self.spaces.sizes[atom] > 1
        }

    def _across(
        self,
        left: str,
        right: str,
        same: Mapping[Atom, Atom],
        inside: tuple[int, ...],
        within: bool = False,
    ) -> None:
        """Unite pairs with what they become; `inside` are axes along which a relation mixes entries."""
        made: set[Pair] = set()
        for first, second in self._pairs_of[left]:
            mixed = second.axis in inside and first.axis not in inside
            if first in same and second in same and not mixed:
                image = (same[first], same[second])
                if image in self._parents:
                    made.add(image)
                    self._unite((first, second), image)
                    continue
            if not (within and first not in same):
                self._alone.add((first, second))
        self._alone.update(pair for pair in self._pairs_of[right] if pair not in made)

    def _straight(self, relation: Normalize | Softmax | Planes) -> dict[Atom, Atom]:
        rank = len(self.spaces.related.carriers[relation.input].shape)
        found: dict[Atom, Atom] = {}
        for axis in range(rank):
            pairs = zip(
                self.spaces.atoms((relation.input, axis)),
                self.spaces.atoms((relation.output, axis)),
                strict=False,
            )
            for ours, theirs in pairs:
                found |= dict(zip(ours, theirs, strict=False))
        return found

    def _moved(self, relation: Move) -> dict[Atom, Atom]:
        found: dict[Atom, Atom] = {}
        for ins, outs in relation.groups:
            left = tuple((relation.input, axis) for axis in ins)
            right = tuple((relation.output, axis) for axis in outs)
            if any(axis in self.spaces.unlinked for axis in (*left, *right)):
                continue
            for ours, theirs in zip(self.spaces.merged(left), self.spaces.merged(right), strict=False):
                found |= dict(zip(ours, theirs, strict=False))
        return found

    def _cut(self, stated: Stated) -> dict[Atom, Atom]:
        found: dict[Atom, Atom] = {}
        for constraint in self.spaces.constraints_of(stated):
            found |= dict(self.spaces.matched(constraint))
        return found


def _inside(relation: Normalize | Softmax | Planes, rank: int) -> tuple[int, ...]:
    """Return the axes along which a relation mixes entries: those of a norm, the others of one over them."""
    match relation:
        case Normalize():
            over = relation.group != "unit"
            return tuple(axis for axis in range(rank) if (axis in relation.axes) == over)
        case Softmax():
            return (relation.axis,)
        case Planes():
            return (relation.plane,)
