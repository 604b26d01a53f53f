"""The unknowns of scales, signs and shifts, and how relations between tensors become equations.

An action on a tensor adds up over its axes: k + (offset of the segment) + (one number for each index of each
factor). Each number at index 0 is zero, so that an action is written in one way only. What is the same for
all indices goes into one joint system; the numbers at index i of a space obey the same equations for
every i > 0, so one system for a space stands for (size - 1) copies. The cost is thus that of the layers,
not of the neurons.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from nnspec.compiler.symmetry.layout import total
from nnspec.compiler.symmetry.linear import Equations, Number
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Spaces, segments_between

Coefficients = Iterable[tuple[str, Number]]


class Unknowns:
    """One kind of action (scale, sign or shift) on every tensor."""

    def __init__(self, spaces: Spaces, modulus: int | None = None) -> None:
        self.spaces = spaces
        self.modulus = modulus
        self.joint = Equations(modulus)
        self.vectors: dict[Atom, Equations] = {}
        for name, carrier in spaces.related.carriers.items():
            self.joint.unknown(("k", name))
            for axis in range(len(carrier.shape)):
                self.joint.unknown(*self.offsets((name, axis)))
                for atom in self.wide_atoms((name, axis)):
                    self.vector(atom).unknown(atom)

    # --------------------------------------------------------------------------------------------- unknowns

    def vector(self, atom: Atom) -> Equations:
        """Return the system of the space of an atom."""
        space = self.spaces.space(atom)
        if space not in self.vectors:
            self.vectors[space] = Equations(self.modulus)
        return self.vectors[space]

    def offsets(self, axis: AxisOf) -> list[Hashable]:
        """Return the unknowns of the segments of an axis after the first."""
        return [("e", *axis, segment) for segment in range(1, len(self.spaces.layouts[axis]))]

    def wide_atoms(self, axis: AxisOf) -> list[Atom]:
        """Return the atoms of an axis that have more than one index."""
        return [
            atom for segment in self.spaces.atoms(axis) for atom in segment if self.spaces.sizes[atom] > 1
        ]

    def axes(self, tensor: str) -> list[AxisOf]:
        return [(tensor, axis) for axis in range(len(self.spaces.related.carriers[tensor].shape))]

    def joint_unknowns(self, tensor: str) -> list[Hashable]:
        """Return the unknowns of a tensor in the joint system."""
        return [("k", tensor), *(name for axis in self.axes(tensor) for name in self.offsets(axis))]

    def tensor_atoms(self, tensor: str) -> list[Atom]:
        return [atom for axis in self.axes(tensor) for atom in self.wide_atoms(axis)]

    # -------------------------------------------------------------------------------------------- equations

    def still(self, tensor: str) -> None:
        """Nothing acts on a tensor."""
        for name in self.joint_unknowns(tensor):
            self.joint.zero(name)
        for atom in self.tensor_atoms(tensor):
            self.vector(atom).zero(atom)

    def flat(self, axis: AxisOf) -> None:
        """The action is the same all along an axis."""
        for name in self.offsets(axis):
            self.joint.zero(name)
        for atom in self.wide_atoms(axis):
            self.vector(atom).zero(atom)

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

    def proportional(self, left: str, right: str, factor: Number) -> None:
        """What acts on `left` is factor times what acts on `right`, axis by axis."""
        self.constants({left: 1} if factor == 0 else {left: 1, right: -factor})
        for ours, theirs in zip(self.axes(left), self.axes(right), strict=True):
            if factor == 0:
                self.flat(ours)
            else:
                self.along([(ours, 1), (theirs, -factor)])

    def moved(self, left: tuple[AxisOf, ...], right: tuple[AxisOf, ...]) -> None:
        """What varies along merged axes is the same on both sides."""
        heads = [self._head(side) for side in (left, right)]
        if heads[0] is not None and heads[1] is not None:
            self._equal_all(self.offsets(heads[0]), self.offsets(heads[1]))
        for ours, theirs in zip(self.spaces.merged(left), self.spaces.merged(right), strict=False):
            for a, b in zip(ours, theirs, strict=False):
                if self.spaces.sizes[a] > 1 and self.spaces.sizes[b] > 1:
                    self.vector(a).equal(a, b)

    def _head(self, side: tuple[AxisOf, ...]) -> AxisOf | None:
        return next((node for node in side if total(self.spaces.layouts[node]) != 1), None)

    def _equal_all(self, left: list[Hashable], right: list[Hashable]) -> None:
        for a, b in zip(left, right, strict=True):
            self.joint.equal(a, b)

    def part(self, whole: str, part: str, axis: int, part_axis: int | None, start: int) -> None:
        """What acts on a part is what acts on the whole there. Only the cut axis is treated."""
        node = (whole, axis)
        right = None if part_axis is None else (part, part_axis)
        size = 1 if right is None else total(self.spaces.layouts[right])
        first, last = segments_between(self.spaces.layouts[node], start, size)
        base: dict[Hashable, Number] = {} if first == 0 else {("e", *node, first): 1}
        self.joint.add({("k", part): 1, ("k", whole): -1, **{name: -n for name, n in base.items()}})
        if right is None:
            return
        for index, segment in enumerate(range(first + 1, last), start=1):
            row: dict[Hashable, Number] = {("e", *right, index): 1, ("e", *node, segment): -1}
            self.joint.add({**row, **base})
        outer = self.spaces.atoms(node)[first:last]
        for ours, theirs in zip(outer, self.spaces.atoms(right), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                if self.spaces.sizes[a] > 1:
                    self.vector(a).equal(a, b)
