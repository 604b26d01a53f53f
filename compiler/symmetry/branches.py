"""Branches that may change places: factors of a product, terms of a sum or of a maximum, made alike.

In: the relations of a network. Two terms of a relation that does not tell them apart are made by branches of one
shape if their relations match, tensor by tensor, down to what both read; then the weights of one branch may be those of
the other. Where everything in the branches is done index by index along one axis, that holds for every index by itself.
The terms of a difference change places if what is behind takes the sign.
Sums of branches without a function between are left out: what only adds up is connected by shifts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from nnspec.compiler.operations.registry import operation
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
from nnspec.compiler.symmetry.actions import signs
from nnspec.compiler.symmetry.parallel import done_by, labels_of, roles_of
from nnspec.compiler.symmetry.pieces import Piece, cut_pieces, stacked_axes
from nnspec.compiler.symmetry.relate import Related, Stated, terms_of
from nnspec.compiler.symmetry.swaps import Branches

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.derivation import Derivation
    from nnspec.compiler.symmetry.elements import Direction


def alike_branches(d: Derivation) -> tuple[Branches, ...]:
    """Return the sets of branches that may change places, in order of appearance."""
    return tuple(_Reader(d).run())


class _Reader:
    def __init__(self, d: Derivation) -> None:
        self.d = d
        self.related: Related = d.related
        self.made: dict[str, Stated] = {}
        self.about: dict[str, list[Stated]] = {}
        for stated in self.related.stated:
            made = self._makes(stated.relation)
            if made is not None:
                self.made[made] = stated
            for tensor in dict.fromkeys(name for _, name in roles_of(stated.relation)):
                self.about.setdefault(tensor, []).append(stated)
        self.cuts: dict[str, dict[Piece, int] | None] = {}  # the pieces that make a part of a value
        self.along = 0  # the axis of the last branches that were found by index
        self.parallel = {strand.space for item in d.parallel for strand in item.strands}

    def run(self) -> Iterator[Branches]:
        inner: set[int] = set()
        for stated in reversed(self.related.stated):
            if id(stated) in inner:
                continue
            yield from self.difference(stated)
            yield from self.stacked(stated)
            yield from self.among(stated, self.leaves(stated, inner))

    def among(self, stated: Stated, leaves: list[str], whole: bool = False) -> Iterator[Branches]:
        """Yield the sets of leaves that are made alike."""
        while len(leaves) > 1:
            first, *rest = leaves
            alike = [(name, found) for name in rest if (found := self.match(first, name, leaves))]
            if alike:
                yield from self.branches(stated, first, dict(alike), whole)
            leaves = [name for name in rest if name not in dict(alike)]

    def stacked(self, stated: Stated) -> Iterator[Branches]:
        """Yield branches that are stacked, with what else is stored for their places: the rows of a router."""
        relation = stated.relation
        if not isinstance(relation, Part) or relation.part_axis is not None or relation.start != 0:
            return
        parts = [
            s.relation
            for s in self.about[relation.whole]
            if isinstance(s.relation, Part) and s.relation.whole == relation.whole
        ]
        if relation.whole in self.made or any(part.part not in self.made for part in parts):
            return
        places = {part.part: part.start for part in parts if isinstance(part.start, int)}
        axes = stacked_axes(self.related, relation.whole, relation.axis)
        if axes is None or len(places) < len(parts):
            return
        for item in self.among(stated, list(places), whole=True):
            behind = (
                tuple(Piece(tensor=name, axis=axis, start=places[leaf], size=1) for name, axis in axes)
                for leaf in item.leaves
            )
            pieces = zip(item.pieces, behind, strict=True)
            yield item.replace(pieces=tuple((*own, *more) for own, more in pieces))

    def difference(self, stated: Stated) -> Iterator[Branches]:
        """Yield the two terms of a difference, if its indices may change sign by themselves."""
        relation = stated.relation
        if not isinstance(relation, Sum) or len(relation.terms) != 2 or sum(relation.coefficients):
            return
        terms = [term.tensor for term in relation.terms]
        if any(
            t.labels != relation.output.labels or not self.related.carriers[t.tensor].live
            for t in relation.terms
        ):
            return
        found = self.match(terms[0], terms[1], terms) if terms[0] != terms[1] else None
        for item in () if found is None else self.branches(stated, terms[0], {terms[1]: found}):
            axis = None if item.axes is None else self.along
            flips = None if axis is None else self._flips(stated, found or {}, relation.output.tensor, axis)
            if flips is not None:
                yield item.replace(behind=flips)

    def _flips(self, stated: Stated, found: Mapping[str, str], out: str, axis: int) -> Direction | None:
        """Return flips of what stands behind a relation, at single indices of its output, the branches being still."""
        from nnspec.compiler.symmetry.elements import Direction

        spaces = copy(self.d.spaces)
        spaces.related = self.related.replace(stated=tuple(s for s in self.related.stated if s is not stated))
        system = signs(spaces)
        for name in (*found, *found.values()):
            system.still(name)
        atoms = spaces.wide_atoms((out, axis))
        if len(atoms) != 1 or len(spaces.atoms((out, axis))) != 1:
            return None
        space = spaces.space(atoms[0])
        for solution in system.vector(atoms[0]).basis():
            if solution.get(atoms[0]):
                return Direction(solution=solution, spaces=(space,))
        return None

    def leaves(self, stated: Stated, inner: set[int]) -> list[str]:
        """Return the values that a relation takes and does not tell apart, with those of equal relations before it."""
        relation = stated.relation
        terms = self.told_alike(relation)
        found: list[str] = []
        for name in terms:
            before = self.made.get(name)
            once = len(self.about[name]) == 2 and name not in self.related.outputs
            if before is not None and once and _same_kind(relation, before.relation):
                own = self.leaves(before, inner)
                if own:
                    inner.add(id(before))
                    found += own
                    continue
            found.append(name)
        return found if len(set(found)) == len(found) else []

    def told_alike(self, relation: Relation) -> list[str]:
        """Return the live terms of a relation in which their order does not count."""
        if not isinstance(relation, (Sum, Contract, Elementwise)) or len(relation.terms) < 2:
            return []
        terms = relation.terms
        if any(t.labels != terms[0].labels or not self.related.carriers[t.tensor].live for t in terms):
            return []
        match relation:
            case Sum():
                alike = len(set(relation.coefficients)) == 1
            case Contract():
                alike = len(set(relation.powers)) < 2 and relation.bias is None
            case _:
                alike = relation.is_symmetric
        return [term.tensor for term in terms] if alike else []

    # ------------------------------------------------------------------------------------------- matching

    def match(self, one: str, other: str, leaves: list[str]) -> dict[str, str] | None:
        """Return the tensors of one branch with those of another; None if they are not made alike."""
        found: dict[str, str] = {}
        if not self._match(one, other, found):
            return None
        ours, theirs = set(found), set(found.values())
        if len(theirs) < len(found) or ours & theirs or not (self._stored(found) or self._cut(found)):
            return None
        inside = [self.made[name] for name in found if name in self.made]
        return found if self._apart(ours, inside, leaves) and self._apart(theirs, None, leaves) else None

    def _match(self, one: str, other: str, found: dict[str, str]) -> bool:
        if one == other:
            return True
        if one in found:
            return found[one] == other
        ours, theirs = self.related.carriers[one], self.related.carriers[other]
        if (ours.shape, ours.kind, ours.live) != (theirs.shape, theirs.kind, theirs.live):
            return False
        found[one] = other
        if ours.kind in ("weight", "buffer"):
            return ours.kind == "buffer" or (ours.is_free and theirs.is_free)
        first, second = self.made.get(one), self.made.get(other)
        if first is None or second is None or operation(first.use.primitive.operation).draws:
            return False
        if type(first.relation) is not type(second.relation) or done_by(first) != done_by(second):
            return False
        if isinstance(first.relation, Part) and isinstance(second.relation, Part):
            if first.relation.whole == second.relation.whole:
                return self._alike_cuts(first.relation, second.relation)
            if first.relation.start != second.relation.start:
                return False
        pairs = list(zip(roles_of(first.relation), roles_of(second.relation), strict=False))
        if len(roles_of(first.relation)) != len(roles_of(second.relation)):
            return False
        taken = zip(first.takes, second.takes, strict=True)  # some stand in no relation, such as words
        if not all(self._match(a, b, found) for a, b in taken):
            return False
        return all(
            role == same
            and labels_of(first.relation, role) == labels_of(second.relation, same)
            and self._match(a, b, found)
            for (role, a), (same, b) in pairs
        )

    def _alike_cuts(self, one: Part, other: Part) -> bool:
        """Whether two parts of a value are made by pieces of the same weights."""
        made = {name: stated.relation for name, stated in self.made.items()}
        for cut in (one, other):
            if cut.part not in self.cuts:
                self.cuts[cut.part] = cut_pieces(self.related, made, cut)
        ours, theirs = self.cuts[one.part], self.cuts[other.part]
        return ours is not None and theirs is not None and one.axis == other.axis

    def _cut(self, found: Mapping[str, str]) -> list[str]:
        """Return the tensors of a branch that are parts of a value of which the other branch has another part."""
        return [
            name
            for name, other in found.items()
            if self.cuts.get(name) is not None and self.cuts.get(other) is not None
        ]

    def _makes(self, relation: Relation) -> str | None:
        """Return what a relation makes; of a value and a part of it the part, unless that was there before."""
        if not isinstance(relation, Part):
            return _made(relation)
        known = relation.part in self.made or relation.part in self.related.inputs
        own = self.made.get(relation.part)
        return relation.part if not known or (own is not None and own.relation is relation) else None

    def _stored(self, found: Mapping[str, str]) -> list[str]:
        return [name for name in found if self.related.carriers[name].kind in ("weight", "buffer")]

    def _apart(self, names: set[str], inside: list[Stated] | None, leaves: list[str]) -> bool:
        """Whether nothing reads what a branch makes or stores but the branch itself, and what takes its end."""
        for name in names:
            if name in self.related.outputs or name in self.related.inputs:
                return False
            readers = [s for s in self.about[name] if self._makes(s.relation) != name]
            if name in leaves:
                if len(readers) != 1:
                    return False
            elif any(self._makes(s.relation) not in names for s in readers):
                return False
        return True

    # ------------------------------------------------------------------------------------------- branches

    def branches(
        self, stated: Stated, first: str, alike: Mapping[str, dict[str, str]], whole: bool = False
    ) -> Iterator[Branches]:
        """Yield what branches hold that are made like the first; `whole`: none of their indices apart."""
        found = next(iter(alike.values()))
        if any(set(own) != set(found) for own in alike.values()):
            return
        if isinstance(stated.relation, Sum) and not self._is_curved(found):
            return
        stored = tuple(sorted(self._stored(found)))
        names = [{name: name for name in found}, *alike.values()]
        cut = self._cut(found)
        pieces = tuple(
            (
                *(Piece(tensor=own[name]) for name in stored),
                *(piece for name in cut for piece in self.cuts[own[name]] or ()),
            )
            for own in names
        )
        leaves = (first, *alike)
        rank = 0 if whole else len(self.related.carriers[first].shape)
        for axis in range(rank):
            size = self.related.carriers[first].shape[axis]
            places: dict[str, int] = {}
            if not isinstance(size, int) or size == 1 or self._is_turned(first, axis):
                continue
            if self._by_index(first, axis, found, places):
                self.along = axis
                along = (
                    *(places[name] for name in stored),
                    *(a for name in cut for a in (self.cuts[name] or {}).values()),
                )
                yield Branches(pieces=pieces, leaves=leaves, axes=along, size=size)
                return
        touched = {
            self.d.spaces.space(atom)
            for name in found
            for axis in range(len(self.related.carriers[name].shape))
            for segment in self.d.spaces.atoms((name, axis))
            for atom in segment
        }
        strands = {self.d.by_space[space].space for space in touched}
        if not strands & self.parallel:  # there, units change places one by one
            yield Branches(pieces=pieces, leaves=leaves, axes=None, size=1)

    def _is_turned(self, name: str, axis: int) -> bool:
        """Whether matrices act along an axis: with them, exchanges of single indices make a larger group."""
        spaces = [self.d.spaces.space(a) for segment in self.d.spaces.atoms((name, axis)) for a in segment]
        strands = [self.d.by_space[space].space for space in spaces]
        return any(self.d.groups.get(strand, "fixed") not in ("monomial", "fixed") for strand in strands)

    def _is_curved(self, found: Mapping[str, str]) -> bool:
        """Whether a branch is no linear map."""
        relations = [self.made[name].relation for name in found if name in self.made]
        return any(
            isinstance(r, (Elementwise, Normalize, Softmax))
            or (isinstance(r, Contract) and sum(self.related.carriers[t.tensor].live for t in r.terms) > 1)
            for r in relations
        )

    def _by_index(self, name: str, axis: int, found: Mapping[str, str], places: dict[str, int]) -> bool:
        """Whether a branch does the same at each index of an axis; note where the axis is in its tensors."""
        if name not in found:
            return True
        if name in places:
            return places[name] == axis
        places[name] = axis
        if name not in self.made:
            return True
        relation = self.made[name].relation
        match relation:
            case Elementwise() | Sum() | Contract():
                return self._by_label(relation, axis, found, places)
            case Normalize():
                alone = relation.group == "unit" and relation.axes == (axis,)
                if not alone and (relation.group == "unit" or axis in relation.axes):
                    return False
                kept = [buffer for buffer in (relation.mean, relation.variance) if buffer is not None]
                return all(self._by_index(b, 0, found, places) for b in kept) and self._by_index(
                    relation.input, axis, found, places
                )
            case Part():
                return axis == relation.axis and self.cuts.get(name) is not None
            case Softmax():
                return axis != relation.axis and self._by_index(relation.input, axis, found, places)
            case Move():
                given = [ins for ins, outs in relation.groups if outs == (axis,) and len(ins) == 1]
                return bool(given) and self._by_index(relation.input, given[0][0], found, places)
            case _:
                return False

    def _by_label(self, relation: Any, axis: int, found: Mapping[str, str], places: dict[str, int]) -> bool:
        label = relation.output.labels[axis]
        if not label or label.startswith("#"):
            return False
        for term in terms_of(relation):
            if term is relation.output or term.tensor not in found:
                continue
            own = [place for place, one in enumerate(term.labels) if one == label]
            if len(own) != 1 or not self._by_index(term.tensor, own[0], found, places):
                return False
        return True


def _same_kind(one: Relation, other: Relation) -> bool:
    """Whether two relations in a row are one of more terms."""
    match one, other:
        case Sum(), Sum():
            return set(one.coefficients) == {1.0} == set(other.coefficients)
        case Contract(), Contract():
            kept = other.terms[0].labels == other.output.labels and one.terms[0].labels == one.output.labels
            return kept and not one.powers and not other.powers
        case _:
            return False


def _made(relation: Relation) -> str | None:
    match relation:
        case Sum() | Contract() | Elementwise():
            return relation.output.tensor
        case Normalize() | Softmax() | Planes() | Move():
            return relation.output
        case _:
            return None
