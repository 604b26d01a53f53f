"""The unknowns of scales, signs and shifts, and how relations between tensors become equations.

An action on a tensor adds up: k + (offset of the segment) + (one number for each index of each factor) + (one
for each combination of indices of several factors, a `Cell`). Each number at which some index is 0 is zero, so
that an action is written in one way only. What is the same for all indices goes into one joint system; the
numbers at index i of a space obey the same equations for every i > 0, so one system for a space stands for
(size - 1) copies, and one for a combination of spaces for the product of these. The cost is thus that of
the layers, not of the neurons. Most cells are 0 because some relation sees one of their factors alone; only
those that are left get equations.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from copy import copy
from functools import cached_property
from math import prod

from nnspec.compiler.symmetry.layout import total
from nnspec.compiler.symmetry.linear import Equations, Number
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Cell, Spaces, segments_between

Coefficients = Iterable[tuple[str, Number]]
Combination = frozenset[Atom]  # the spaces of a cell


class Unknowns:
    """One kind of action (scale, sign or shift) on every tensor."""

    def __init__(self, spaces: Spaces, modulus: int | None = None) -> None:
        self.spaces = spaces
        self.modulus = modulus
        self.joint = Equations(modulus)
        self.vectors: dict[Atom, Equations] = {}
        self._rows: list[dict[Cell, Number]] = []
        self._dead: set[Cell] = set()
        for name, carrier in spaces.related.carriers.items():
            self.joint.unknown(("k", name))
            for axis in range(len(carrier.shape)):
                self.joint.unknown(*self.offsets((name, axis)))
                for atom in self.wide_atoms((name, axis)):
                    self.vector(atom).unknown(atom)

    def copy(self) -> Unknowns:
        """Return the same system, to which equations may be added."""
        made = copy(self)
        made.joint = self.joint.copy()
        made.vectors = {space: equations.copy() for space, equations in self.vectors.items()}
        made._rows, made._dead = list(self._rows), set(self._dead)
        made.__dict__.pop("compounds", None)
        return made

    # --------------------------------------------------------------------------------------------- unknowns

    def vector(self, atom: Atom) -> Equations:
        """Return the system of the space of an atom."""
        space = self.spaces.space(atom)
        if space not in self.vectors:
            self.vectors[space] = Equations(self.modulus)
        return self.vectors[space]

    def offsets(self, axis: AxisOf) -> list[Hashable]:
        """Return the unknowns of the segments of an axis after the first."""
        segments = len(self.spaces.layouts[axis])
        return [("e", *axis, segment) for segment in range(1, segments)] if segments > 1 else []

    def wide_atoms(self, axis: AxisOf) -> list[Atom]:
        """Return the atoms of an axis that have more than one index."""
        return self.spaces.wide_atoms(axis)

    def axes(self, tensor: str) -> list[AxisOf]:
        return [(tensor, axis) for axis in range(len(self.spaces.related.carriers[tensor].shape))]

    def joint_unknowns(self, tensor: str) -> list[Hashable]:
        """Return the unknowns of a tensor in the joint system."""
        return [("k", tensor), *(name for axis in self.axes(tensor) for name in self.offsets(axis))]

    def tensor_atoms(self, tensor: str) -> list[Atom]:
        return [atom for axis in self.axes(tensor) for atom in self.wide_atoms(axis)]

    def total_rank(self, tensors: Iterable[str]) -> int:
        """Return the dimension of what acts on some tensors."""
        wanted = list(tensors)
        found = self.joint.rank([name for tensor in wanted for name in self.joint_unknowns(tensor)])
        atoms: dict[Atom, list[Atom]] = {}
        cells: dict[Combination, list[Cell]] = {}
        for tensor in wanted:
            for atom in self.tensor_atoms(tensor):
                atoms.setdefault(self.spaces.space(atom), []).append(atom)
            for cell in self.spaces.cells(tensor):
                cells.setdefault(self.combination(cell), []).append(cell)
        found += sum((self.spaces.sizes[s] - 1) * self.vectors[s].rank(own) for s, own in atoms.items())
        return found + sum(self.copies(c) * self.compound_rank(c, own) for c, own in cells.items())

    def compound_rank(self, combination: Combination, cells: Iterable[Cell]) -> int:
        """Return how many independent actions a combination of indices has on some cells."""
        if combination not in self.compounds:
            return 0
        return self.compounds[combination].rank(cell for cell in cells if cell not in self._dead)

    @cached_property
    def compounds(self) -> dict[Combination, Equations]:
        """The systems of the combinations of spaces; equations about cells are stated before this is asked."""
        rows = self._living_rows()
        found: dict[Combination, Equations] = {}
        for tensor in self.spaces.related.carriers:
            for cell in self.spaces.cells(tensor):
                if cell not in self._dead:
                    found.setdefault(self.combination(cell), Equations(self.modulus)).unknown(cell)
        for row in rows:
            added: dict[Hashable, Number] = {**row}
            found[self.combination(next(iter(row)))].add(added)
        return found

    def _living_rows(self) -> list[dict[Cell, Number]]:
        """Return the rows between cells that are not 0, after what follows from rows of a single cell."""
        dead, modulus = self._dead, self.modulus
        rows = [
            {c: n for c, n in row.items() if c not in dead and (n % modulus if modulus else n)}
            for row in self._rows
        ]
        where: dict[Cell, list[int]] = {}
        for index, row in enumerate(rows):
            for cell in row:
                where.setdefault(cell, []).append(index)
        waiting = [next(iter(row)) for row in rows if len(row) == 1]
        while waiting:
            cell = waiting.pop()
            if cell in self._dead:
                continue
            self._dead.add(cell)
            for index in where[cell]:
                rows[index].pop(cell, None)
                if len(rows[index]) == 1:
                    waiting.append(next(iter(rows[index])))
        self._rows = [row for row in rows if row]
        return self._rows

    def combination(self, cell: Cell) -> Combination:
        """Return the spaces of a cell."""
        return self.spaces.spaces_of[cell]

    def copies(self, combination: Combination) -> int:
        """Return for how many combinations of indices the system of a combination stands."""
        return prod(self.spaces.sizes[space] - 1 for space in combination)

    # -------------------------------------------------------------------------------------------- equations

    def still(self, tensor: str) -> None:
        """Nothing acts on a tensor."""
        for name in self.joint_unknowns(tensor):
            self.joint.zero(name)
        for atom in self.tensor_atoms(tensor):
            self.vector(atom).zero(atom)
        self._dead.update(self.spaces.cells(tensor))

    def close(self, tensor: str, atoms: Iterable[Atom]) -> None:
        """Nothing acts on a tensor that varies along these atoms alone, or along none."""
        listed = list(atoms)
        inside = {atom for atom in listed if self.spaces.sizes[atom] > 1}
        offsets = {("e", tensor, atom.axis, atom.segment) for atom in listed if atom.segment}
        self.joint.add({("k", tensor): 1, **dict.fromkeys(offsets, 1)})
        for atom in inside:
            self.vector(atom).zero(atom)
        self._dead.update(cell for cell in self.spaces.cells(tensor) if cell <= inside)

    def flat(self, axis: AxisOf) -> None:
        """The action is the same all along an axis."""
        for name in self.offsets(axis):
            self.joint.zero(name)
        for atom in self.wide_atoms(axis):
            self.vector(atom).zero(atom)
        for cell in self.spaces.cells(axis[0]):
            if any(atom.axis == axis[1] for atom in cell):
                self._dead.add(cell)

    def constants(self, row: Mapping[str, Number]) -> None:
        """The sum of coefficient * k over tensors is zero."""
        added: dict[Hashable, Number] = {}
        for name, number in row.items():
            added[("k", name)] = number
        self.joint.add(added)

    def along(self, row: Iterable[tuple[AxisOf, Number]]) -> None:
        """The sum of coefficient * (what varies along an axis) is zero; the axes have one layout."""
        listed = list(row)
        if not listed:
            return
        for offsets in zip(*(self.offsets(axis) for axis, _ in listed), strict=True):
            self._add(self.joint, offsets, listed)
        for atoms in zip(*(self.wide_atoms(axis) for axis, _ in listed), strict=True):
            self._add(self.vector(atoms[0]), atoms, listed)

    def _add(self, system: Equations, names: Iterable[Hashable], listed: list[tuple[AxisOf, Number]]) -> None:
        added: dict[Hashable, Number] = {}
        for name, (_, number) in zip(names, listed, strict=True):
            added[name] = added.get(name, 0) + number
        system.add(added)

    def cells(self, sides: Iterable[tuple[str, Mapping[int, Hashable], Number, AxisOf | None]]) -> None:
        """The sum of coefficient * (what varies along a combination of labels) is zero.

        A side is a tensor, the labels of its axes by number, the coefficient, and an axis along which cells
        are free. A cell with another axis that has no label is 0.
        """
        rows: dict[frozenset[Hashable], dict[Cell, Number]] = {}
        for tensor, labels, number, free in sides:
            for cell in self.spaces.cells(tensor):
                if free is not None and any((tensor, atom.axis) == free for atom in cell):
                    continue
                if any(atom.axis not in labels for atom in cell):
                    self._dead.add(cell)
                    continue
                key = frozenset((labels[atom.axis], atom.segment, atom.factor) for atom in cell)
                row = rows.setdefault(key, {})
                row[cell] = row.get(cell, 0) + number
        self._rows.extend(rows.values())

    def mapped_cells(self, left: str, right: str, atoms: Mapping[Atom, Atom], within: bool = False) -> None:
        """Each cell of `left` is that of `right` on the atoms that `atoms` names, and 0 if there is none.

        `within`: the right is a part of the left, and the left's other cells are free.
        """
        images = set(self.spaces.cells(right))
        for cell in self.spaces.cells(left):
            image = frozenset(atoms[atom] for atom in cell if atom in atoms)
            if len(image) == len(cell) and image in images:
                images.discard(image)
                self._rows.append({cell: 1, image: -1})
            elif not within:
                self._dead.add(cell)
        self._dead |= images

    def proportional(self, left: str, right: str, factor: Number) -> None:
        """What acts on `left` is factor times what acts on `right`, axis by axis."""
        self.constants({left: 1} if factor == 0 else {left: 1, right: -factor})
        for ours, theirs in zip(self.axes(left), self.axes(right), strict=True):
            if factor == 0:
                self.flat(ours)
            else:
                self.along([(ours, 1), (theirs, -factor)])
        axes = {axis: axis for axis in range(len(self.axes(left)))}
        self.cells([(left, axes, 1, None), (right, axes, -factor, None)])

    def moved(self, left: tuple[AxisOf, ...], right: tuple[AxisOf, ...]) -> dict[Atom, Atom]:
        """What varies along merged axes is the same on both sides. Return which atoms are the same."""
        same: dict[Atom, Atom] = {}
        heads = [self._head(side) for side in (left, right)]
        if heads[0] is not None and heads[1] is not None:
            self._equal_all(self.offsets(heads[0]), self.offsets(heads[1]))
        for ours, theirs in zip(self.spaces.merged(left), self.spaces.merged(right), strict=False):
            for a, b in zip(ours, theirs, strict=False):
                if self.spaces.sizes[a] > 1 and self.spaces.sizes[b] > 1:
                    self.vector(a).equal(a, b)
                    same[a] = b
        return same

    def _head(self, side: tuple[AxisOf, ...]) -> AxisOf | None:
        return next((node for node in side if total(self.spaces.layouts[node]) != 1), None)

    def _equal_all(self, left: list[Hashable], right: list[Hashable]) -> None:
        for a, b in zip(left, right, strict=True):
            self.joint.equal(a, b)

    def part(self, whole: str, part: str, axis: int, part_axis: int | None, start: int) -> dict[Atom, Atom]:
        """What acts on a part is what acts on the whole there. Only the cut axis is treated.

        Return which atoms of the whole are those of the part.
        """
        same: dict[Atom, Atom] = {}
        node = (whole, axis)
        right = None if part_axis is None else (part, part_axis)
        size = 1 if right is None else total(self.spaces.layouts[right])
        first, last = segments_between(self.spaces.layouts[node], start, size)
        base: dict[Hashable, Number] = {} if first == 0 else {("e", *node, first): 1}
        self.joint.add({("k", part): 1, ("k", whole): -1, **{name: -n for name, n in base.items()}})
        if right is None:
            return same
        for index, segment in enumerate(range(first + 1, last), start=1):
            row: dict[Hashable, Number] = {("e", *right, index): 1, ("e", *node, segment): -1}
            self.joint.add({**row, **base})
        outer = self.spaces.atoms(node)[first:last]
        for ours, theirs in zip(outer, self.spaces.atoms(right), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                if self.spaces.sizes[a] > 1:
                    self.vector(a).equal(a, b)
                    same[a] = b
        return same
