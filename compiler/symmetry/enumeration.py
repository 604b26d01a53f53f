"""Orbits under permutations, exchanges and sign flips, element by element, for small networks.

Their generators permute the numbers of the weights in force and multiply them by constants, once functions that are
odd about a constant are read as odd ones: each is an index and a factor for every number, and an orbit is what they
reach. The two components of GL and O wires are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import log10
from typing import Any, TypeAlias

from nnspec.compiler.symmetry.canonical import exact
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import directions, every_unit, graded_signs
from nnspec.compiler.symmetry.generators import permutations
from nnspec.compiler.symmetry.moves import AnyMove, Multiply, centring, in_force
from nnspec.compiler.symmetry.places import State, key_of, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.weights import TooLargeToEnumerate

Array: TypeAlias = Any

_DIGITS = 9  # of a number over the largest, by which two members are told apart


def orbit_size(group: SymmetryGroup, state: State, limit: int) -> int:
    """Return how many different weights permutations and flips make of some: their number over that of the stabiliser.

    SpecError if the order of the component group is above `limit`.
    """
    if group.log10_order > log10(limit) + 1e-9:
        digits = f"{group.log10_order:.1f}"
        error = TooLargeToEnumerate(None, network=group.network, digits=digits, limit=f"{limit:,}")
        raise SpecError((error,))
    return reached(group.derivation, [(move,) for move in _generating(group)], state)


def reached(d: Derivation, elements: Iterable[tuple[AnyMove, ...]], state: State) -> int:
    """Return how many weights are products of some permutations and flips, each given by its moves, of some weights."""
    import numpy as np

    used = in_force(d, exact(state))
    used = centring(d, -1.0).apply(d, used)
    names = stored(d, used)
    acting = [_monomial(d, moves, used, names) for moves in elements]
    frontier: Array = _flat(used, names)[None]
    unit = 10.0**-_DIGITS * (float(np.abs(frontier).max(initial=0.0)) or 1.0)
    known = set(_keys(frontier, unit))
    while acting and len(frontier):
        found = np.concatenate([factor * frontier[:, index] for index, factor in acting])
        fresh = {key: place for key, place in _keys(found, unit).items() if key not in known}
        known |= fresh.keys()
        frontier = found[list(fresh.values())]
    return len(known)


def _keys(rows: Array, unit: float) -> dict[bytes, int]:
    """Return the places of different rows, by their rounded numbers."""
    import numpy as np

    rounded: Array = np.round(rows / unit) + 0.0
    return {row.tobytes(): place for place, row in enumerate(rounded)}


def _flat(state: State, names: list[str]) -> Array:
    import numpy as np

    return np.concatenate([state[key_of(name)].numpy().ravel() for name in names])


def _generating(group: SymmetryGroup) -> Iterator[AnyMove]:
    """Yield moves that generate all permutations and flips."""
    d = group.derivation
    for _, move in permutations(group):
        yield move
    for direction in (*directions(d, d.own_signs), *graded_signs(d)):
        for given in every_unit(d, direction, first=0):
            yield Multiply(given=given, sign=True)


def _monomial(d: Derivation, moves: Iterable[AnyMove], state: State, names: list[str]) -> tuple[Array, Array]:
    """Return for each number where it comes from, and by what it is multiplied."""
    import numpy as np
    import torch

    ones, places, start = dict(state), dict(state), 1
    for name in names:
        own = state[key_of(name)]
        ones[key_of(name)] = torch.ones_like(own)
        places[key_of(name)] = torch.arange(start, start + own.numel()).to(own).reshape(own.shape)
        start += own.numel()
    for move in moves:
        own = move.replace(is_centred=True) if isinstance(move, Multiply) else move
        ones, places = own.apply(d, ones), own.apply(d, places)
    factor = _flat(ones, names)
    index: Array = np.round(_flat(places, names) / factor)
    return index.astype(int) - 1, factor
