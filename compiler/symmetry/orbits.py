"""Which indices of a wire the group exchanges.

In: a derived group, and where patterns of weights tell units apart, the permutations that keep these. Out: for each
space that weights have, its indices in orbits of the component group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from nnspec.compiler.symmetry.neurons import NeuronGroup
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Spaces


def orbits(group: SymmetryGroup, neurons: NeuronGroup | None = None) -> dict[Atom, list[list[int]]]:
    """Return the orbits of the indices of every space that weights have."""
    d = group.derivation
    found: dict[Atom, list[list[int]]] = {}
    for space in d.used:
        size = d.spaces.sizes[space]
        patterned = None if neurons is None else _among(neurons, group, space)
        if patterned is not None and neurons is not None:
            all_orders = [shuffle.orders for shuffle in neurons.generators]
            moves = [orders[patterned] for orders in all_orders if patterned in orders]
            found[space] = classes(size, moves)
        elif d.by_space[space].is_fixed or d.groups[space] == "fixed":
            found[space] = [[index] for index in range(size)]
        else:
            found[space] = [list(range(size))]
    return found


def indices(spaces: Spaces, axis: AxisOf) -> list[tuple[tuple[Atom, int], ...]]:
    """Return for each index of an axis its space and the index in it: of several factors, those that have more than one."""
    found: list[tuple[tuple[Atom, int], ...]] = []
    for segment in spaces.atoms(axis):
        factors = [spaces.space(atom) for atom in segment]
        for place in product(*(range(spaces.sizes[space]) for space in factors)):
            pairs = tuple(zip(factors, place, strict=True))
            found.append(tuple(pair for pair in pairs if spaces.sizes[pair[0]] > 1) or pairs[:1])
    return found


def classes(size: int, permutations: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the orbits of what some permutations generate."""
    first = list(range(size))

    def root(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    for permutation in permutations:
        for new, old in enumerate(permutation):
            first[root(old)] = root(new)
    found: dict[int, list[int]] = {}
    for index in range(size):
        found.setdefault(root(index), []).append(index)
    return list(found.values())


def _among(neurons: NeuronGroup, group: SymmetryGroup, space: Atom) -> Atom | None:
    """Return the space of the graph of neurons that this one is, None if patterns do not touch it."""
    other, own = neurons.all_spaces, group.derivation.spaces
    for atom in group.derivation.weight_atoms[space]:
        axis = (atom.tensor, atom.axis)
        if axis in other.layouts and other.layouts[axis] == own.layouts[axis]:
            same = other.space(atom)
            if same in neurons.spaces:
                return same
    return None
