"""Index spaces: which axes, and which factors of axes, are one set of indices.

In: the relations of a network. Layouts of axes that hold the same entries are refined until they agree;
then their factors (`Atom`s) are united, and each class is a space on which one permutation acts. A space is
fixed where a position is told apart. Costs are linear in the number of axes, whatever their sizes.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from itertools import combinations
from typing import NamedTuple, TypeAlias

from nnspec.compiler.relations import Fixed, Move, Normalize, Part, Planes, Relation, Softmax
from nnspec.compiler.symmetry.layout import Layout, cut_at, join, meet, total, unjoin, whole
from nnspec.compiler.symmetry.relate import SEALED, Related, Stated, terms_of
from nnspec.dsl.node import Node

AxisOf: TypeAlias = tuple[str, int]  # tensor, axis

MOST_CELLS = 256  # of a tensor; one with more of them has no action on combinations of its factors


class Atom(NamedTuple):
    """A factor of a segment of an axis of a tensor; a named tuple, for there are many."""

    tensor: str
    axis: int
    segment: int
    factor: int


Cell: TypeAlias = frozenset[Atom]  # two factors or more of one tensor


class Why(Node):
    """What decided something: a use, or (None) the network's own border; and in words."""

    stated: Stated | None
    text: str


class Together(Node):
    """A constraint on layouts: two lists of axes that, merged, hold the same entries."""

    left: tuple[AxisOf, ...]
    right: tuple[AxisOf, ...]
    stated: Stated
    start: int | None = None  # the right is the part of the left axis from here on


class Spaces:
    """Atoms, their classes, and which are fixed. Classes are named by one of their atoms."""

    def __init__(self, related: Related) -> None:
        self.related = related
        self.layouts: dict[AxisOf, Layout] = {}
        self.symbolic: set[AxisOf] = set()
        self.fixed_axes: dict[AxisOf, Why] = {}
        self.broken: set[int] = set()  # constraints that no layout satisfies
        self.unlinked: set[AxisOf] = set()  # their axes
        self.constraints: list[Together] = []
        self._parents: dict[Atom, Atom] = {}
        self._atoms: dict[AxisOf, list[list[Atom]]] = {}
        self._wide: dict[AxisOf, list[Atom]] = {}
        self._merged: dict[tuple[AxisOf, ...], list[list[Atom]]] = {}
        self._cells: dict[str, list[Cell]] = {}
        self.spaces_of: dict[Cell, frozenset[Atom]] = {}  # of the cells asked for so far
        self.sizes: dict[Atom, int] = {}
        self.fixed: dict[Atom, Why] = {}  # by class
        self.masked: dict[Atom, Why] = {}  # the classes of these that nothing but masks fixes
        self._masks: dict[AxisOf, Why] = {}
        self._collect()
        self._refine()
        self._unite()

    def atoms(self, axis: AxisOf) -> list[list[Atom]]:
        """Return the atoms of an axis by segment; its layout is final."""
        found = self._atoms.get(axis)
        if found is None:
            found = self._atoms[axis] = [
                [Atom(tensor=axis[0], axis=axis[1], segment=s, factor=f) for f in range(len(segment))]
                for s, segment in enumerate(self.layouts[axis])
            ]
        return found

    def wide_atoms(self, axis: AxisOf) -> list[Atom]:
        """Return the atoms of an axis that have more than one index."""
        if axis not in self._wide:
            self._wide[axis] = [a for segment in self.atoms(axis) for a in segment if self.sizes[a] > 1]
        return self._wide[axis]

    def cells(self, tensor: str) -> list[Cell]:
        """Return the combinations of two atoms or more of a tensor that hold more than one index each.

        At most one segment of an axis is in a combination, and no space twice.
        """
        if tensor not in self._cells:
            rank = len(self.related.carriers[tensor].shape)
            self._cells[tensor] = self._combined([(tensor, axis) for axis in range(rank)])
        return self._cells[tensor]

    def _combined(self, axes: list[AxisOf]) -> list[Cell]:
        wide = [[[a for a in segment if self.sizes[a] > 1] for segment in self.atoms(axis)] for axis in axes]
        if sum(max(map(len, segments), default=0) for segments in wide) < 2:
            return []
        found: list[tuple[Atom, ...]] = [()]
        for segments in wide:
            chosen = [
                part
                for segment in segments
                for size in range(1, len(segment) + 1)
                for part in combinations(segment, size)
            ]
            found += [(*cell, *part) for cell in found for part in chosen]
            if len(found) > MOST_CELLS:
                return []
        several = {frozenset(cell): frozenset(map(self.space, cell)) for cell in found if len(cell) > 1}
        apart = {cell: spaces for cell, spaces in several.items() if len(spaces) == len(cell)}
        self.spaces_of |= apart
        return list(apart)

    def classes_of(self, space: Atom) -> list[Atom]:
        """Return the atoms of a class."""
        return self.classes[space]

    def constraints_of(self, stated: Stated) -> list[Together]:
        """Return what a use says of layouts, but for what no layout satisfies."""
        return self._stated.get(id(stated), [])

    @cached_property
    def _stated(self) -> dict[int, list[Together]]:
        found: dict[int, list[Together]] = {}
        for index, constraint in enumerate(self.constraints):
            if index not in self.broken:
                found.setdefault(id(constraint.stated), []).append(constraint)
        return found

    def space(self, atom: Atom) -> Atom:
        """Return the atom that stands for the class of an atom."""
        root = self._parents[atom]
        if self._parents[root] is root:
            return root
        while self._parents[root] is not root:
            root = self._parents[root]
        while self._parents[atom] is not root:
            self._parents[atom], atom = root, self._parents[atom]
        return root

    @cached_property
    def classes(self) -> dict[Atom, list[Atom]]:
        """Every class with its atoms, in order of appearance."""
        found: dict[Atom, list[Atom]] = {}
        for atom in self._parents:
            found.setdefault(self.space(atom), []).append(atom)
        return found

    # ------------------------------------------------------------------------------------------ constraints

    def _collect(self) -> None:
        for carrier in self.related.carriers.values():
            for axis, size in enumerate(carrier.shape):
                node = (carrier.name, axis)
                self.layouts[node] = whole(size if isinstance(size, int) else 1)
                if not isinstance(size, int):
                    self.symbolic.add(node)
                    self._fix(node, None, "its size is not known yet")
                elif carrier.action is not None and carrier.action.is_masked:
                    self._masks[node] = Why(stated=None, text=f"the constraint {carrier.action.names[-1]}")
                elif carrier.action is not None and not carrier.action.entrywise:
                    self._fix(node, None, f"the constraint {carrier.action.names[-1]}")
        for names, text in ((self.related.inputs, "an input"), (self.related.outputs, "an output")):
            for name in names:
                sealed = self.related.sealed.get(name)
                why = f"{text} of the network" if sealed is None else SEALED
                for axis in range(len(self.related.carriers[name].shape)):
                    self._fix((name, axis), sealed, why)
        for stated in self.related.stated:
            self._relation(stated.relation, stated)

    def _fix(self, node: AxisOf, stated: Stated | None, text: str) -> None:
        self.fixed_axes.setdefault(node, Why(stated=stated, text=text))

    def _relation(self, relation: Relation, stated: Stated) -> None:
        match relation:
            case Move():
                for ins, outs in relation.groups:
                    left = tuple((relation.input, axis) for axis in ins)
                    right = tuple((relation.output, axis) for axis in outs)
                    self._together(left, right, stated)
            case Part():
                self._part(relation, stated)
            case Normalize():
                for axis in range(len(self.related.carriers[relation.input].shape)):
                    self._together(((relation.input, axis),), ((relation.output, axis),), stated)
                for buffer in (relation.mean, relation.variance):
                    if buffer is not None:
                        self._together(((relation.input, relation.axes[0]),), ((buffer, 0),), stated)
            case Softmax() | Planes():
                for axis in range(len(self.related.carriers[relation.input].shape)):
                    self._together(((relation.input, axis),), ((relation.output, axis),), stated)
                if isinstance(relation, Planes):
                    node = (relation.input, relation.frequency)
                    self._fix(node, stated, "each plane turns at a speed of its own")
            case Fixed():
                for axis in relation.axes:
                    self._fix((relation.tensor, axis), stated, relation.why)
            case _:
                self._labels(relation, stated)

    def _labels(self, relation: Relation, stated: Stated) -> None:
        first: dict[str, AxisOf] = {}
        for term in terms_of(relation):
            for axis, label in enumerate(term.labels):
                node = (term.tensor, axis)
                if stated.gain is not None and term is stated.gain.given and label == stated.gain.label:
                    continue  # before the gain and behind it are two spaces
                if label.startswith("#"):
                    self._fix(node, stated, "its positions are told apart")
                elif label:
                    other = first.setdefault(label, node)
                    if other != node:
                        self._together((other,), (node,), stated)

    def _part(self, relation: Part, stated: Stated) -> None:
        rank = len(self.related.carriers[relation.whole].shape)
        others = [axis for axis in range(rank) if axis != relation.axis]
        kept = [
            axis
            for axis in range(len(self.related.carriers[relation.part].shape))
            if axis != relation.part_axis
        ]
        for left, right in zip(others, kept, strict=True):
            self._together(((relation.whole, left),), ((relation.part, right),), stated)
        right_side = () if relation.part_axis is None else ((relation.part, relation.part_axis),)
        start = relation.start if isinstance(relation.start, int) else 0
        self._together(((relation.whole, relation.axis),), right_side, stated, start)

    def _together(
        self,
        left: tuple[AxisOf, ...],
        right: tuple[AxisOf, ...],
        stated: Stated,
        start: int | None = None,
    ) -> None:
        self.constraints.append(Together(left=left, right=right, stated=stated, start=start))

    # --------------------------------------------------------------------------------------------- layouts

    def _refine(self) -> None:
        readers: dict[AxisOf, list[int]] = {}
        for index, constraint in enumerate(self.constraints):
            for node in (*constraint.left, *constraint.right):
                readers.setdefault(node, []).append(index)
        waiting = deque(range(len(self.constraints)))
        queued = set(waiting)
        while waiting:
            index = waiting.popleft()
            queued.discard(index)
            if index in self.broken:
                continue
            changes = self._agree(self.constraints[index])
            if changes is None:
                self._break(index)
                continue
            for node, layout in changes:
                if layout != self.layouts[node]:
                    self.layouts[node] = layout
                    for reader in readers[node]:
                        if reader not in queued:
                            queued.add(reader)
                            waiting.append(reader)

    def _break(self, index: int) -> None:
        """Give up linking these axes: then nothing but the identity may act on them."""
        self.broken.add(index)
        constraint = self.constraints[index]
        for node in (*constraint.left, *constraint.right):
            self._fix(node, constraint.stated, "its entries are regrouped across blocks")
            self.unlinked.add(node)

    def _agree(self, constraint: Together) -> list[tuple[AxisOf, Layout]] | None:
        """Return refined layouts of the axes of a constraint, None if they cannot agree."""
        alone = len(constraint.left) == 1 == len(constraint.right) and constraint.start is None
        if alone and self.layouts[constraint.left[0]] == self.layouts[constraint.right[0]]:
            return []
        nodes = (*constraint.left, *constraint.right)
        if any(node in self.symbolic for node in nodes):
            return [] if len(constraint.left) == len(constraint.right) == 1 else None
        if constraint.start is not None:
            return self._agree_part(constraint, constraint.start)
        sides = (constraint.left, constraint.right)
        joined = [join([self.layouts[node] for node in side]) for side in sides]
        if joined[0] is None or joined[1] is None:
            return None
        agreed = meet(joined[0], joined[1])
        if agreed is None:
            return None
        found: list[tuple[AxisOf, Layout]] = []
        for side in sides:
            if not side:
                continue
            sizes = [total(self.layouts[node]) for node in side]
            pieces = unjoin(agreed, sizes)
            if pieces is None:
                return None
            for node, piece in zip(side, pieces, strict=True):
                met = meet(self.layouts[node], piece)
                if met is None:
                    return None
                found.append((node, met))
        return found

    def _agree_part(self, constraint: Together, start: int) -> list[tuple[AxisOf, Layout]] | None:
        (node,) = constraint.left
        given = self.layouts[node]
        part = self.layouts[constraint.right[0]] if constraint.right else ((1,),)
        size = total(part)
        cut = cut_at(given, start, size)
        if cut is None:
            return None
        first, last = segments_between(cut, start, size)
        met = meet(cut[first:last], part)
        if met is None:
            return None
        changes = [(node, (*cut[:first], *met, *cut[last:]))]
        if constraint.right:
            changes.append((constraint.right[0], met))
        return changes

    # --------------------------------------------------------------------------------------------- classes

    def _unite(self) -> None:
        for node, layout in self.layouts.items():
            for segment, atoms in zip(layout, self.atoms(node), strict=True):
                for size, atom in zip(segment, atoms, strict=True):
                    self._parents[atom] = atom
                    self.sizes[atom] = size
        for index, constraint in enumerate(self.constraints):
            if index not in self.broken:
                for left, right in self.matched(constraint):
                    self._parents[self.space(right)] = self.space(left)
        for node, why in self.fixed_axes.items():
            for segment in self.atoms(node):
                for atom in segment:
                    self.fixed.setdefault(self.space(atom), why)
        for node, why in self._masks.items():
            for segment in self.atoms(node):
                for atom in segment:
                    if self.space(atom) not in self.fixed:
                        self.masked.setdefault(self.space(atom), why)
        self.fixed.update(self.masked)

    def matched(self, constraint: Together) -> list[tuple[Atom, Atom]]:
        """Return the pairs of atoms that a constraint makes one."""
        if constraint.start is not None:
            return self._matched_part(constraint, constraint.start)
        sides = [self.merged(side) for side in (constraint.left, constraint.right)]
        return [
            pair
            for left, right in zip(*sides, strict=False)
            for pair in zip(left, right, strict=False)
            if self.sizes[pair[0]] == self.sizes[pair[1]]
        ]

    def merged(self, nodes: tuple[AxisOf, ...]) -> list[list[Atom]]:
        """Return the atoms of axes merged in row-major order, by segment; those of size 1 left out."""
        if nodes not in self._merged:
            self._merged[nodes] = self._in_order(nodes)
        return self._merged[nodes]

    def _in_order(self, nodes: tuple[AxisOf, ...]) -> list[list[Atom]]:
        wide = [node for node in nodes if total(self.layouts[node]) != 1]
        if not wide:
            return [self.atoms(node)[0] for node in nodes[:1]]
        inner = [atom for node in wide[1:] for atom in self.atoms(node)[0]]
        found: list[list[Atom]] = []
        for segment in self.atoms(wide[0]):
            outer = [atom for atom in segment if len(wide) == 1 or self.sizes[atom] != 1]
            found.append([*outer, *inner])
        return found

    def _matched_part(self, constraint: Together, start: int) -> list[tuple[Atom, Atom]]:
        if not constraint.right:
            return []
        (node,) = constraint.left
        first, last = segments_between(self.layouts[node], start, total(self.layouts[constraint.right[0]]))
        outer = self.atoms(node)[first:last]
        inner = self.atoms(constraint.right[0])
        return [pair for a, b in zip(outer, inner, strict=True) for pair in zip(a, b, strict=True)]


def segments_between(layout: Layout, start: int, size: int) -> tuple[int, int]:
    """Return the numbers of the segments that make up entries `start` to `start + size`, end excluded."""
    edges = [0]
    for segment in layout:
        edges.append(edges[-1] + total((segment,)))
    return edges.index(start), edges.index(start + size)
