"""Which indices of a wire the group exchanges.

In: a derived group. Out: for each space that weights have, its indices in orbits of the component group.
"""

from __future__ import annotations

from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.spaces import Atom


def orbits(group: SymmetryGroup) -> dict[Atom, list[list[int]]]:
    """Return the orbits of the indices of every space that weights have."""
    d = group.derivation
    found: dict[Atom, list[list[int]]] = {}
    for space in d.used:
        size = d.spaces.sizes[space]
        still = d.by_space[space].is_fixed or d.groups[space] == "fixed"
        found[space] = [[index] for index in range(size)] if still else [list(range(size))]
    return found
