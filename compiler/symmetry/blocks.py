"""Tensors by the factors of their axes: what the uses of a group compute on.

A tensor whose axes fall into segments is cut into blocks, one for each choice of segments; a block has one axis
for each factor. Coordinates are the numbers of all directions of a system in a row, and each entry of a tensor
moves by a sparse linear function of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, product
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.amounts import Amounts, atoms_of
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import Direction, Grade
from nnspec.compiler.symmetry.places import State, axes_of, degree_of, key_of, on_atoms, on_strand, shape_of
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


class Block(Node):
    """A part of a tensor with one axis for each factor, and the atom of each axis."""

    atoms: tuple[Atom, ...]
    values: Tensor


def blocks(d: Derivation, name: str, values: Tensor) -> list[Block]:
    """Return the blocks of a tensor; between them they hold every entry once."""
    axes = axes_of(d, name)
    found: list[Block] = []
    for chosen in product(*(range(len(d.spaces.layouts[axis])) for axis in axes)):
        part, atoms, sizes = values, list[Atom](), list[int]()
        for axis, segment in zip(axes, chosen, strict=True):
            layout = d.spaces.layouts[axis]
            edges = [0, *accumulate(prod(one) for one in layout)]
            part = part.narrow(axis[1], edges[segment], edges[segment + 1] - edges[segment])
            atoms += d.spaces.atoms(axis)[segment]
            sizes += layout[segment]
        found.append(Block(atoms=tuple(atoms), values=part.reshape(sizes)))
    return found


def seen(
    d: Derivation, strand: Strand, values: Tensor, atoms: tuple[Atom, ...], outer: tuple[Atom, ...]
) -> Tensor:
    """Return what a tensor holds at one place of a strand, as [copies, size, others]."""
    found: list[Tensor] = []

    def look(given: Tensor) -> Tensor:
        found.append(given)
        return given

    on_strand(d, strand, values, (*outer, *atoms), look)
    return found[0]


def places(
    d: Derivation, strand: Strand, state: State, names: Collection[str]
) -> Iterator[tuple[Atom, Tensor]]:
    """Yield what some tensors of a state hold at the places of a strand, by the first atom of each."""
    for atoms, outer in strand.places:
        if atoms[0].tensor in names:
            yield atoms[0], seen(d, strand, state[key_of(atoms[0].tensor)], atoms, outer)


def wide(d: Derivation, strand: Strand) -> tuple[Atom, ...]:
    """Return the spaces whose indices name an entry of one copy of a strand, in the order of [copies, size]."""
    return tuple(space for space in (*strand.outer, *strand.spaces) if d.spaces.sizes[space] > 1)


def along(d: Derivation, system: Unknowns, strand: Strand) -> list[Direction]:
    """Return the directions of a system that are free at each entry of a strand, in each of its copies."""
    spaces = wide(d, strand)
    if len(spaces) < 2:
        equations = system.vectors.get(spaces[0]) if spaces else None
    else:
        equations = system.compounds.get(frozenset(spaces))
    basis = [] if equations is None else equations.basis()
    return [Direction(solution=solution, spaces=spaces) for solution in basis]


class Coordinates:
    """The numbers of some directions in a row: one for each common direction, one an index for each free one."""

    def __init__(self, d: Derivation, given: Sequence[Direction | Grade]) -> None:
        self.d = d
        self.directions = given
        self.shapes = [[d.spaces.sizes[space] for space in one.spaces] for one in given]
        self.starts = [0, *accumulate(prod(shape) for shape in self.shapes)]
        self.count = self.starts[-1]

    @property
    def common(self) -> list[int]:
        """The places of the numbers that are common to whole tensors."""
        pairs = zip(self.starts, self.directions, strict=False)
        return [start for start, one in pairs if not one.spaces]

    def amounts(self, numbers: Tensor) -> Amounts:
        """Return what the numbers say of every tensor."""
        joint: dict[Any, float] = {}
        arrays: dict[str, dict[tuple[Atom, ...], Tensor]] = {}
        for start, shape, one in zip(self.starts, self.shapes, self.directions, strict=False):
            own = one.amounts(self.d, numbers[start : start + prod(shape)].reshape(shape))
            for name, number in own.joint.items():
                joint[name] = joint.get(name, 0.0) + number
            for tensor, found in own.arrays.items():
                kept = arrays.setdefault(tensor, {})
                for atoms, array in found.items():
                    kept[atoms] = kept[atoms] + array if atoms in kept else array
        return Amounts(joint=joint, arrays=arrays)

    def rows(self, name: str) -> Any:
        """Return a sparse matrix: how each entry of a stored tensor, flat, depends on the numbers."""
        import numpy as np
        import torch
        from scipy.sparse import coo_array

        total = prod(shape_of(self.d, name))
        parts: list[tuple[Any, Any, Any]] = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
        for start, one in zip(self.starts, self.directions, strict=False):
            if isinstance(one, Direction) and one.spaces:
                for column, number in self._free(name, one):
                    where = (column >= 0).nonzero()[0]
                    parts.append((where, start + column[where], np.full(len(where), number)))
            else:
                field = one.amounts(self.d, torch.ones(())).field(self.d, name)
                if field is not None:
                    flat = field.numpy().ravel()
                    where = flat.nonzero()[0]
                    parts.append((where, np.full(len(where), start), flat[where]))
        where, column, number = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        shape = (total, self.count)
        return coo_array((number / degree_of(self.d, name), (where, column)), shape=shape).tocsr()

    def _free(self, name: str, one: Direction) -> Iterator[tuple[Any, float]]:
        """Yield for each entry of a tensor which number of a free direction moves it (-1: none), and how much."""
        import torch

        shape = [self.d.spaces.sizes[space] for space in one.spaces]
        index = torch.arange(prod(shape)).reshape(shape)
        for unknown, number in one.solution.items():
            atoms = atoms_of(unknown)
            if atoms and atoms[0].tensor == name:
                order = [one.spaces.index(self.d.spaces.space(atom)) for atom in atoms]
                own = index.permute(order).reshape(-1, 1)
                empty = torch.full(shape_of(self.d, name), -1)
                found = on_atoms(self.d, empty, atoms, lambda given, own=own: own.expand(given.shape))
                yield found.flatten().numpy(), float(number)
