"""How much of GL(n) or O(n) on a wire really moves the weights.

A matrix that fixes everything that is mapped into the wire and everything that reads it moves no weight.
For one wire that is linear algebra; for GL wires next to each other the argument goes from wire to wire,
beginning where nothing acts.
"""

from __future__ import annotations

from math import prod

from nnspec.compiler.symmetry.relate import Related
from nnspec.compiler.symmetry.spaces import Atom, Spaces


def free_spaces(related: Related, spaces: Spaces, groups: dict[Atom, str]) -> set[Atom]:
    """Return the GL spaces on which no matrix but the identity fixes all weights.

    True of a wire with as many numbers mapped into it (or read from it) as it is wide, over weights whose
    other axes are certainly not moved.
    """
    still = {space for space, group in groups.items() if group != "linear"}
    waiting = [space for space in groups if space not in still]
    changed = True
    while changed:
        changed = False
        for space in list(waiting):
            if _pinned(related, spaces, space, still):
                still.add(space)
                waiting.remove(space)
                changed = True
    return {space for space, group in groups.items() if group == "linear" and space in still}


def orthogonal_dimension(related: Related, spaces: Spaces, space: Atom, acting: int) -> int:
    """Return the dimension of an orbit of O(n) on the vectors that the weights hold along a wire."""
    size = spaces.sizes[space]
    held = sum(
        prod(n for n in carrier.shape if isinstance(n, int)) // size
        for carrier in related.carriers.values()
        if carrier.kind == "weight" and _has(spaces, carrier.name, len(carrier.shape), space)
    )
    left = max(0, acting - held)
    return acting * (acting - 1) // 2 - left * (left - 1) // 2


def _has(spaces: Spaces, tensor: str, rank: int, space: Atom) -> bool:
    return any(
        spaces.space(atom) == space
        for axis in range(rank)
        for segment in spaces.atoms((tensor, axis))
        for atom in segment
    )


def _pinned(related: Related, spaces: Spaces, space: Atom, still: set[Atom]) -> bool:
    """Whether some weight holds enough vectors along the wire, none of which anything else moves."""
    for carrier in related.carriers.values():
        if carrier.kind != "weight":
            continue
        axes = [
            {spaces.space(atom) for segment in spaces.atoms((carrier.name, axis)) for atom in segment}
            for axis in range(len(carrier.shape))
        ]
        own = [axis for axis, found in enumerate(axes) if space in found]
        others = set[Atom]().union(*(found for axis, found in enumerate(axes) if axis not in own))
        if len(own) != 1 or axes[own[0]] != {space} or not others <= still:
            continue
        count = prod(n for axis, n in enumerate(carrier.shape) if axis != own[0] and isinstance(n, int))
        if count >= spaces.sizes[space]:
            return True
    return False
