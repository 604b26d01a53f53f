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
from math import factorial
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import state_key
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Elementwise, Move, Normalize, Planes, Relation, Softmax, Sum
from nnspec.compiler.symmetry.actions import signs
from nnspec.compiler.symmetry.parallel import done_by, labels_of, roles_of
from nnspec.compiler.symmetry.relate import Related, Stated, terms_of
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.symmetry.derivation import Derivation
    from nnspec.compiler.symmetry.elements import Direction


class Branches(Node):
    """Branches in the place of each other: by branch, the tensors that it stores, in one order.

    `axes` are those along which an index may be exchanged by itself, one for each tensor; None: whole branches are.
    """

    tensors: tuple[tuple[str, ...], ...]
    axes: tuple[int, ...] | None
    size: int  # indices that are exchanged apart
    behind: Direction | None = None  # flips of single indices that an exchange asks for

    @property
    def order(self) -> int:
        return factorial(len(self.tensors)) ** self.size

    def swaps(self) -> Iterator[Swap]:
        """Yield moves that, with permutations of the axis, make all others."""
        count = len(self.tensors)
        for other in range(1, count):
            order = tuple({0: other, other: 0}.get(place, place) for place in range(count))
            for index in range(self.size):
                yield Swap(item=self, order=order, index=index)


class Swap(Node):
    """A move: branch i takes what branch `order[i]` held, all of it or what it held at one index of the axes."""

    item: Branches
    order: tuple[int, ...]
    index: int = 0

    def apply(self, d: Derivation, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        changed = dict(state)
        for place, names in enumerate(zip(*self.item.tensors, strict=True)):
            keys = [state_key(name, "") for name in names]
            for key, other in zip(keys, self.order, strict=True):
                if self.item.axes is None:
                    changed[key] = state[keys[other]]
                    continue
                changed[key] = state[key].clone()
                axis = self.item.axes[place]
                changed[key].select(axis, self.index).copy_(state[keys[other]].select(axis, self.index))
        if self.item.behind is None or self.order == (0, 1):  # a difference has two terms
            return changed
        from nnspec.compiler.symmetry.elements import unit
        from nnspec.compiler.symmetry.moves import Multiply

        given = unit(d, self.item.behind, (self.index,))
        return Multiply(given=given, sign=True, is_centred=True).apply(d, changed)

    def inverse(self) -> Swap:
        return self.replace(order=inverted(self.order))


def inverted(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the inverse of a permutation."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


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
            made = _made(stated.relation)
            if made is not None:
                self.made[made] = stated
            for tensor in dict.fromkeys(name for _, name in roles_of(stated.relation)):
                self.about.setdefault(tensor, []).append(stated)
        self.along = 0  # the axis of the last branches that were found by index
        self.parallel = {strand.space for item in d.parallel for strand in item.strands}

    def run(self) -> Iterator[Branches]:
        inner: set[int] = set()
        for stated in reversed(self.related.stated):
            if id(stated) in inner:
                continue
            yield from self.difference(stated)
            leaves = self.leaves(stated, inner)
            while len(leaves) > 1:
                first, *rest = leaves
                alike = [(name, found) for name in rest if (found := self.match(first, name, leaves))]
                if alike:
                    yield from self.branches(stated, first, dict(alike))
                leaves = [name for name in rest if name not in dict(alike)]

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
        if len(theirs) < len(found) or ours & theirs or not self._stored(found):
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

    def _stored(self, found: Mapping[str, str]) -> list[str]:
        return [name for name in found if self.related.carriers[name].kind in ("weight", "buffer")]

    def _apart(self, names: set[str], inside: list[Stated] | None, leaves: list[str]) -> bool:
        """Whether nothing reads what a branch makes or stores but the branch itself, and what takes its end."""
        for name in names:
            if name in self.related.outputs or name in self.related.inputs:
                return False
            readers = [s for s in self.about[name] if _made(s.relation) != name]
            if name in leaves:
                if len(readers) != 1:
                    return False
            elif any(_made(s.relation) not in names for s in readers):
                return False
        return True

    # ------------------------------------------------------------------------------------------- branches

    def branches(self, stated: Stated, first: str, alike: Mapping[str, dict[str, str]]) -> Iterator[Branches]:
        found = next(iter(alike.values()))
        if any(set(own) != set(found) for own in alike.values()):
            return
        if isinstance(stated.relation, Sum) and not self._is_curved(found):
            return
        stored = tuple(sorted(self._stored(found)))
        tensors = (stored, *(tuple(own[name] for name in stored) for own in alike.values()))
        rank = len(self.related.carriers[first].shape)
        for axis in range(rank):
            size = self.related.carriers[first].shape[axis]
            places: dict[str, int] = {}
            if not isinstance(size, int) or size == 1 or self._is_turned(first, axis):
                continue
            if self._by_index(first, axis, found, places):
                self.along = axis
                yield Branches(tensors=tensors, axes=tuple(places[name] for name in stored), size=size)
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
            yield Branches(tensors=tensors, axes=None, size=1)

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
