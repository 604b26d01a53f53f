"""Which tensors move with a wire, and which dually.

A matrix M that acts on a wire acts as M on what is mapped into it, and as the inverse transpose of M on what
reads it. In: index spaces. Where entries are summed over, the two sides are dual; everywhere else they move
alike. A space that is its own dual (a transposed tie) has no such sense; only rotations act on it.
"""

from __future__ import annotations

from nnspec.compiler.relations import Contract, Move, Normalize, Part, Planes, Relation, Softmax
from nnspec.compiler.symmetry.relate import Stated, terms_of
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Spaces


class Orientations:
    """For each atom of a space, 1 or -1: whether it moves with the first value that has the space, or dually."""

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces
        self._above: dict[Atom, tuple[Atom, int]] = {}
        for stated in spaces.related.stated:
            self._state(stated)
        self._first: dict[Atom, Atom] = {}
        for space, atoms in spaces.classes.items():
            live = [atom for atom in atoms if spaces.related.carriers[atom.tensor].live]
            self._first[space] = (live or atoms)[0]

    def of(self, atom: Atom) -> int:
        """Return 1 for an atom that moves with its space, -1 for one that moves dually."""
        root, sign = self._root(atom)
        first, own = self._root(self._first[self.spaces.space(atom)])
        return sign * own if root == first else 1

    def _root(self, atom: Atom) -> tuple[Atom, int]:
        sign = 1
        while atom in self._above:
            atom, turn = self._above[atom]
            sign *= turn
        return atom, sign

    def _link(self, left: Atom, right: Atom, turn: int) -> None:
        (one, ours), (other, theirs) = self._root(left), self._root(right)
        if one != other:
            self._above[other] = (one, ours * theirs * turn)

    def _link_axes(self, left: AxisOf, right: AxisOf, turn: int = 1) -> None:
        for ours, theirs in zip(self.spaces.atoms(left), self.spaces.atoms(right), strict=False):
            for a, b in zip(ours, theirs, strict=False):
                self._link(a, b, turn)

    def _state(self, stated: Stated) -> None:
        relation = stated.relation
        match relation:
            case Move() | Part():
                for constraint in self.spaces.constraints_of(stated):
                    for left, right in self.spaces.matched(constraint):
                        self._link(left, right, 1)
            case Normalize() | Softmax() | Planes():
                for axis in range(len(self.spaces.related.carriers[relation.input].shape)):
                    self._link_axes((relation.input, axis), (relation.output, axis))
            case _:
                self._labels(stated, relation)

    def _labels(self, stated: Stated, relation: Relation) -> None:
        """Link equal labels; a label that a product sums over has two sides."""
        first: dict[str, AxisOf] = {}
        kept = relation.output.labels if isinstance(relation, Contract) else None
        for term in terms_of(relation):
            for axis, label in enumerate(term.labels):
                if not label or (stated.gain and term is stated.gain.given and label == stated.gain.label):
                    continue
                other = first.setdefault(label, (term.tensor, axis))
                if other != (term.tensor, axis):
                    dual = kept is not None and label not in kept
                    self._link_axes(other, (term.tensor, axis), -1 if dual else 1)
