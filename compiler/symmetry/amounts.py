"""Numbers for every entry of every tensor: what a solution of a system of equations multiplies or adds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from math import prod
from typing import TYPE_CHECKING, cast

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.places import axes_of, on_atoms, shape_of
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


class Amounts(Node):
    """A number for each entry of each tensor: what the joint unknowns take, and arrays along atoms.

    A tensor's number is k + (offset of the segment) + (one of each factor's index) + (one of each cell's), as
    in `Unknowns`; here arrays need not vanish where an index is 0. `arrays` are by tensor, then by the atoms
    of their axes.
    """

    joint: Mapping[Hashable, float]
    arrays: Mapping[str, Mapping[tuple[Atom, ...], Tensor]]

    def times(self, factor: float) -> Amounts:
        """Return all numbers times a factor."""
        joint = {name: factor * number for name, number in self.joint.items()}
        arrays = {
            tensor: {atoms: factor * array for atoms, array in own.items()}
            for tensor, own in self.arrays.items()
        }
        return Amounts(joint=joint, arrays=arrays)

    def field(self, d: Derivation, tensor: str) -> Tensor | None:
        """Return the numbers of a tensor, an array of its shape; None if all are zero."""
        import torch

        shape = shape_of(d, tensor)
        total = torch.full(shape, self.joint.get(("k", tensor), 0.0), dtype=torch.float64)
        for node in axes_of(d, tensor):
            start = 0
            for index, segment in enumerate(d.spaces.layouts[node]):
                offset = self.joint.get(("e", *node, index), 0.0)
                if offset:
                    total.narrow(node[1], start, prod(segment)).add_(offset)
                start += prod(segment)
        for atoms, array in self.arrays.get(tensor, {}).items():
            total = on_atoms(d, total, atoms, lambda given, array=array: given + array.reshape(-1, 1))
        return total if bool((total != 0).any()) else None


def amounts(
    d: Derivation, solution: Mapping[Hashable, Number], indices: Mapping[Atom, int] | None = None
) -> Amounts:
    """Return the amounts of a solution of a system: joint unknowns as they are, others at one index a space."""
    import torch

    def one(atoms: tuple[Atom, ...], number: Number) -> Tensor:
        array = torch.zeros([d.spaces.sizes[atom] for atom in atoms], dtype=torch.float64)
        array[tuple((indices or {}).get(d.spaces.space(atom), 0) for atom in atoms)] = float(number)
        return array

    return amounts_of(d, solution, one)


def amounts_of(
    d: Derivation,
    solution: Mapping[Hashable, Number],
    array: Callable[[tuple[Atom, ...], Number], Tensor],
) -> Amounts:
    """Return the amounts of a solution; `array` gives the numbers along the atoms of an unknown."""
    arrays: dict[str, dict[tuple[Atom, ...], Tensor]] = {}
    joint: dict[Hashable, float] = {}
    for name, number in solution.items():
        atoms = atoms_of(name)
        if atoms:
            arrays.setdefault(atoms[0].tensor, {})[atoms] = array(atoms, number)
        else:
            joint[name] = float(number)
    return Amounts(joint=joint, arrays=arrays)


def atoms_of(unknown: Hashable) -> tuple[Atom, ...]:
    """Return the atoms along which an unknown varies; () of a joint one."""
    if isinstance(unknown, Atom):
        return (unknown,)
    return tuple(sorted(cast("frozenset[Atom]", unknown))) if isinstance(unknown, frozenset) else ()
