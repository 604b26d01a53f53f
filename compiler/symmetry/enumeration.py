"""The component group element by element, for small networks: permutations and sign flips, and orbits under them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from math import log10, prod

from nnspec.compiler.symmetry.blocks import Coordinates
from nnspec.compiler.symmetry.canonical import exact
from nnspec.compiler.symmetry.elements import AnyMove, Element, act, directions
from nnspec.compiler.symmetry.moves import Multiply, Permute
from nnspec.compiler.symmetry.places import State, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.weights import TooLargeToEnumerate


def elements(group: SymmetryGroup, state: State, limit: int) -> Iterator[Element]:
    """Yield every permutation with every sign flip; SpecError if there are more than `limit`.

    The two components of GL and O wires, and units that change their branch, are not among them.
    """
    d = group.derivation
    wires = [strand for strand in d.of_group("monomial") if strand.size > 1]
    flips = _flips(group, state)
    digits = sum(_log10_factorial(strand.size) * strand.copies for strand in wires) + len(flips) * log10(2)
    digits += 0.0 if d.masked is None else d.masked.group.log10_order
    if digits > log10(limit) + 1e-9:
        error = TooLargeToEnumerate(None, network=group.network, digits=f"{digits:.1f}", limit=f"{limit:,}")
        raise SpecError((error,))
    wires.sort(key=lambda strand: -len(strand.outer))
    places = [(strand, copy) for strand in wires for copy in range(strand.copies)]
    every = [list(permutations(range(strand.size))) for strand, _ in places]
    kept: list[list[AnyMove]] = [[]]
    if d.masked is not None:
        kept = [[d.masked.move(member)] for member in d.masked.group.members()]
    for orders, by_masks in product(product(*every), kept):
        moves: list[AnyMove] = [
            Permute(space=strand.space, order=order, copy=copy)
            for (strand, copy), order in zip(places, orders, strict=True)
        ]
        for used in product((False, True), repeat=len(flips)):
            signs = [flip for flip, use in zip(flips, used, strict=True) if use]
            yield Element(moves=(*moves, *by_masks, *signs))


def orbit_size(group: SymmetryGroup, state: State, limit: int) -> int:
    """Return how many different weights the component group makes of some: its order over that of the stabiliser."""
    state = exact(state)
    found: set[bytes] = set()
    for element in elements(group, state, limit):
        moved = act(group.derivation, element, state)
        found.add(b"".join((moved[key] + 0.0).numpy().tobytes() for key in sorted(moved)))
    return len(found)


def _flips(group: SymmetryGroup, state: State) -> list[Multiply]:
    """Return sign flips that are independent on the weights."""
    import torch

    from nnspec.compiler.symmetry.parity import masks_of

    d = group.derivation
    coordinates = Coordinates(d, list(directions(d, d.signs)))
    rows = [mask for name in stored(d, state) for mask in masks_of(coordinates.rows(name))]
    columns = [0] * coordinates.count  # the entries that each flip changes, as bits
    for place, mask in enumerate(rows):
        while mask:
            bit = mask.bit_length() - 1
            columns[bit] |= 1 << place
            mask ^= 1 << bit
    pivots: dict[int, int] = {}
    kept: list[Multiply] = []
    for number, column in enumerate(columns):
        while column and (top := column.bit_length() - 1) in pivots:
            column ^= pivots[top]
        if column:
            pivots[column.bit_length() - 1] = column
            one = torch.zeros(coordinates.count, dtype=torch.float64)
            one[number] = 1.0
            kept.append(Multiply(given=coordinates.amounts(one), sign=True))
    return kept


def _log10_factorial(n: int) -> float:
    return log10(prod(range(1, n + 1))) if n < 100 else sum(log10(i) for i in range(1, n + 1))
