"""Sets of indices as the bits of whole numbers: of the rows of a mask, and of the axes of a tensor.

Bit k is set if index k is in the set; -1 is the set of all. Imports neither torch nor numpy.
"""

from __future__ import annotations

from math import prod

from nnspec.dsl.dimensions import Size

Rows = tuple[int, ...]  # bits of the second axis, for each index of the first
Bits = list[int]  # for each axis of a tensor, the bits of its indices; EVERY stands for all of them

_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")


def bits_of(row: bytes, depth: int) -> int:
    """Return the bits of a row of 0 and 1; of `depth` entries each any."""
    if depth > 1:
        row = bytes(any(row[at : at + depth]) for at in range(0, len(row), depth))
    return int(row[::-1].translate(_TO_DIGITS), 2)


def meeting(rows: Rows, bits: int) -> int:
    """Return the bits of the rows that share a bit with these."""
    digits = "".join("1" if row & bits else "0" for row in reversed(rows))
    return int(digits, 2)


def union(rows: Rows, bits: int) -> int:
    """Return the bits of all rows whose own bit is set."""
    found = 0
    for number, row in enumerate(rows):
        if bits >> number & 1:
            found |= row
    return found


def turned_rows(rows: Rows, columns: Size) -> Rows:
    assert isinstance(columns, int)
    return tuple(meeting(rows, 1 << column) for column in range(columns))


def merged(parts: list[int], sizes: list[int]) -> int:
    """Return the bits of axes in row-major order as one axis."""
    found, width = 1, 1
    for bits, size in zip(reversed(parts), reversed(sizes), strict=True):
        own = bits & ((1 << size) - 1)
        found = sum(found << index * width for index in range(size) if own >> index & 1)
        width *= size
    return found


def split(bits: int, sizes: list[int]) -> Bits:
    """Return the bits of each axis of which one axis is made: an index is set if any entry with it is."""
    found = [0] * len(sizes)
    for entry in range(prod(sizes)):
        if bits >> entry & 1:
            rest = entry
            for axis in range(len(sizes) - 1, -1, -1):
                rest, index = divmod(rest, sizes[axis])
                found[axis] |= 1 << index
    return found
