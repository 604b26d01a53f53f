"""Which sign flips make the largest entries positive: linear equations over GF(2), as the bits of whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_SAME = 1e-9  # relative difference of magnitudes that counts as none


def chosen(entries: Tensor, first: Tensor, masks: list[int], count: int) -> list[float]:
    """Return which flips make the largest entries positive that are free of larger ones; `first` come first.

    `masks` has for each entry the flips that change it, as bits. Equations are kept in echelon form, the wanted
    parity in front of all bits.
    """
    import torch

    wanted = 1 << count
    pivots: dict[int, int] = {}
    # Entries of one size, such as a bias and a mean that share a shift, come in their own order.
    sizes = (entries.abs().log() / _SAME).round().masked_fill(first, float("inf"))
    for place in torch.argsort(sizes, descending=True, stable=True).tolist():
        row = masks[place]
        if row == 0 or entries[place] == 0:
            continue
        row = _reduced(row | (wanted if entries[place] < 0 else 0), pivots, wanted)
        if row & (wanted - 1):
            pivots[(row & (wanted - 1)).bit_length() - 1] = row
    return _solution(pivots, count, wanted)


def masks_of(rows: Any) -> list[int]:
    """Return the unknowns that flip each entry, as the bits of whole numbers."""
    found: list[int] = []
    for start, stop in zip(rows.indptr[:-1].tolist(), rows.indptr[1:].tolist(), strict=True):
        mask = 0
        for column, number in zip(rows.indices[start:stop].tolist(), rows.data[start:stop], strict=True):
            mask ^= (int(number) & 1) << column
        found.append(mask)
    return found


def carried(mask: int, copied: tuple[tuple[int, int, int], ...], end: int) -> int:
    """Return which flips change an entry, those behind gains counted as those before them."""
    for start, before, count in copied:
        mask ^= (mask >> start & ((1 << count) - 1)) << before
    return mask & ((1 << end) - 1)


def _reduced(row: int, pivots: dict[int, int], wanted: int) -> int:
    rest = row & (wanted - 1)
    while rest:
        bit = rest.bit_length() - 1
        row ^= pivots.get(bit, 0)
        rest = row & ((1 << bit) - 1)
    return row


def _solution(pivots: dict[int, int], count: int, wanted: int) -> list[float]:
    """Return one solution of the equations; unknowns that none decides are 0."""
    found = 0
    for bit in sorted(pivots):
        row = pivots[bit]
        value = (row & wanted != 0) ^ ((row & found & ((1 << bit) - 1)).bit_count() & 1)
        found |= int(value) << bit
    return [float(found >> bit & 1) for bit in range(count)]
