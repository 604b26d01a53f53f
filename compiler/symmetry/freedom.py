"""How much of GL(n) or O(n) on a wire really moves the weights.

A matrix that fixes everything that is mapped into the wire and everything that reads it moves no weight.
For one wire that is linear algebra; for GL wires next to each other the argument goes from wire to wire,
beginning where nothing acts.
"""

from __future__ import annotations

from math import prod

from nnspec.compiler.symmetry.relate import Related
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.dsl.node import Node


def free_spaces(related: Related, spaces: Spaces, groups: dict[Atom, str]) -> set[Atom]:
    """Return the GL spaces on which no matrix but the identity fixes all weights.

    True of a wire with as many numbers mapped into it (or read from it) as it is wide, over weights whose
    other axes are certainly not moved.
    """
    still = {space for space, group in groups.items() if group in ("fixed", "monomial")}
    neighbours = _weights_along(related, spaces)
    waiting = [space for space, group in groups.items() if group == "linear"]
    while True:
        pinned = [space for space in waiting if _pinned(neighbours.get(space, []), space, spaces, still)]
        if not pinned:
            break
        still.update(pinned)
        waiting = [space for space in waiting if space not in still]
    return {space for space, group in groups.items() if group == "linear" and space in still}


def orthogonal_dimension(
    related: Related, spaces: Spaces, space: Atom, acting: int, trusted: frozenset[str], still: set[Atom]
) -> int:
    """Return the least dimension of an orbit of O(n) on what the weights hold along a wire.

    Only weights count that a network sees as they are (`trusted`), between the wire and spaces on which
    nothing else acts (`still`).
    """
    held = 0
    for weight in _weights_along(related, spaces).get(space, []):
        others = frozenset[Atom]().union(*weight.spaces) - {space}
        if weight.name in trusted and others <= still:
            held += prod(weight.shape) // spaces.sizes[space]
    left = max(0, acting - held)
    return acting * (acting - 1) // 2 - left * (left - 1) // 2


class _Axes(Node):
    """A weight: its sizes and the spaces of each of its axes."""

    name: str
    shape: tuple[int, ...]
    spaces: tuple[frozenset[Atom], ...]


def _weights_along(related: Related, spaces: Spaces) -> dict[Atom, list[_Axes]]:
    """Return the weights that have a space on some axis, by space."""
    found: dict[Atom, list[_Axes]] = {}
    for carrier in related.carriers.values():
        if carrier.kind != "weight":
            continue
        axes = tuple(
            frozenset(spaces.space(a) for segment in spaces.atoms((carrier.name, axis)) for a in segment)
            for axis in range(len(carrier.shape))
        )
        shape = tuple(size if isinstance(size, int) else 1 for size in carrier.shape)
        for space in frozenset[Atom]().union(*axes):
            found.setdefault(space, []).append(_Axes(name=carrier.name, shape=shape, spaces=axes))
    return found


def _pinned(weights: list[_Axes], space: Atom, spaces: Spaces, still: set[Atom]) -> bool:
    """Whether some weight holds enough vectors along the wire, none of which anything else moves."""
    for weight in weights:
        own = [axis for axis, found in enumerate(weight.spaces) if space in found]
        others = frozenset[Atom]().union(*(f for axis, f in enumerate(weight.spaces) if axis not in own))
        if len(own) != 1 or weight.spaces[own[0]] != frozenset((space,)) or not others <= still:
            continue
        if prod(weight.shape) // weight.shape[own[0]] >= spaces.sizes[space]:
            return True
    return False
