"""Masks in numpy's file format, read without numpy, which `check` does not import, and without pickle.

In: the bytes of a file as `numpy.save` writes it (numpy.lib.format, versions 1 to 3). Out: its shape, and one
byte, 0 or 1, for each entry, row by row. `BadMask` says why a file is no mask.
"""

from __future__ import annotations

import ast
from array import array
from math import prod
from typing import Any

_MAGIC = b"\x93NUMPY"
_MOST_HEADER = 10_000
# Kinds of numbers by numpy's letter and size: the code of `array`.
_CODES = {
    "b1": "B",
    "u1": "B",
    "i1": "b",
    "u2": "H",
    "i2": "h",
    "u4": "I",
    "i4": "i",
    "u8": "Q",
    "i8": "q",
    "f4": "f",
    "f8": "d",
}


class BadMask(Exception):
    """Raised with the reason why a file is no mask."""


def read_mask(data: bytes) -> tuple[tuple[int, ...], bytes]:
    """Return the shape of a mask and its entries, row by row."""
    kind, shape, by_columns, start = _header(data)
    code = _CODES.get(kind[1:])
    if code is None:
        raise BadMask(f"its entries are of numpy's kind `{kind}`, not truth values or the numbers 0 and 1")
    numbers = array(code)
    if len(data) - start != prod(shape) * numbers.itemsize:
        raise BadMask("it ends too early or too late for its shape")
    numbers.frombytes(data[start:])
    if kind[0] == ">":
        numbers.byteswap()
    found = set(numbers)
    if not found <= {0, 1}:
        odd = next(iter(found - {0, 1}))
        raise BadMask(f"it has the entry {odd:g}; a mask has truth values, or the numbers 0 and 1")
    entries = bytes(map(int, numbers))
    return shape, _by_rows(entries, shape) if by_columns and len(shape) > 1 else entries


def packed(entries: bytes) -> str:
    """Return a mask as text: base64 of zlib of eight entries to a byte, the first in the highest bit."""
    import base64
    import zlib

    whole = entries + bytes(-len(entries) % 8)
    digits = whole.translate(bytes.maketrans(b"\0\1", b"01"))
    bits = int(digits or b"0", 2).to_bytes(len(whole) // 8, "big")
    return base64.b64encode(zlib.compress(bits, 9)).decode("ascii")


def _header(data: bytes) -> tuple[str, tuple[int, ...], bool, int]:
    """Return the kind of number, the shape, whether columns come first, and where the entries start."""
    if data[:6] != _MAGIC or len(data) < 12:
        raise BadMask("it is not in numpy's format")
    wide = data[6] > 1
    size = int.from_bytes(data[8 : 12 if wide else 10], "little")
    start = 12 if wide else 10
    if size > _MOST_HEADER:
        raise BadMask("its header is too long")
    try:
        header: Any = ast.literal_eval(data[start : start + size].decode("utf-8"))
        kind, shape, by_columns = header["descr"], header["shape"], header["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise BadMask("its header cannot be read") from None
    if not isinstance(kind, str) or len(kind) < 2:
        raise BadMask("its entries are records, not truth values or the numbers 0 and 1")
    sizes: tuple[Any, ...] = shape if isinstance(shape, tuple) else (None,)
    if not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise BadMask("its header cannot be read")
    return kind, sizes, bool(by_columns), start + size


def _by_rows(entries: bytes, shape: tuple[int, ...]) -> bytes:
    """Turn entries whose first index varies fastest into ones whose last index does."""
    if len(shape) == 1:
        return entries
    rest = _by_rows_of_rest(entries, shape)
    return b"".join(_by_rows(part, shape[1:]) for part in rest)


def _by_rows_of_rest(entries: bytes, shape: tuple[int, ...]) -> list[bytes]:
    return [entries[first :: shape[0]] for first in range(shape[0])]
