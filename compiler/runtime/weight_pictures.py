"""A weight as numbers that a report draws: a histogram, and for what has a pattern its matrix.

In: a weight before and after training. Out: plain data, small whatever the size of the weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_BINS = 48  # at most
_VALUES = 32  # different values up to which each has a bar of its own
_SIDE = 96  # rows and columns of a pattern at most
_PATTERNS = ("structure", "manifold", "topology", "penalty")  # kinds whose pattern says something


def picture(before: Tensor, after: Tensor, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return the histogram of a weight before and after, and its pattern after if it has one to show."""
    old, new = (tensor.detach().cpu().double().numpy() for tensor in (before, after))
    found: dict[str, Any] = {"histogram": histogram(old.ravel(), new.ravel())}
    if any(kind in _PATTERNS for kind in kinds) and new.ndim > 1:
        found["pattern"] = pattern(new.reshape(len(new), -1))
    return found


def histogram(before: Array, after: Array) -> dict[str, Any]:
    """Return counts: for each value where there are few, else in bins; exact zeros apart from bins.

    `before` and `after` are counts; with `edges` between which they lie, or with the `values` that they are of.
    """
    import numpy as np

    values = np.unique(np.concatenate((before, after)) + 0.0)  # -0 is 0
    if len(values) <= _VALUES < after.size:
        counts = [[int((own == value).sum()) for value in values] for own in (before, after)]
        return {"values": values.tolist(), "before": counts[0], "after": counts[1]}
    present = [own[own != 0] for own in (before, after)]
    bins = min(_BINS, max(12, int(after.size**0.5)))
    edges = np.histogram_bin_edges(np.concatenate(present), bins)
    counts = [np.histogram(own, edges)[0].tolist() for own in present]
    zeros = [int((own == 0).sum()) for own in (before, after)]
    return {"edges": edges.tolist(), "before": counts[0], "after": counts[1], "zeros": zeros}


def pattern(matrix: Array) -> dict[str, Any]:
    """Return a matrix; a large one in cells.

    A cell has the entry of greatest magnitude, or where entries are exactly 0 the share of those that are not.
    """
    import numpy as np

    rows, columns = matrix.shape
    tall, wide = -(-rows // _SIDE), -(-columns // _SIDE)
    data: dict[str, Any] = {"rows": rows, "columns": columns, "cell": [tall, wide]}
    has_zeros = bool((matrix == 0).any())
    cells = [
        [matrix[i : i + tall, j : j + wide] for j in range(0, columns, wide)] for i in range(0, rows, tall)
    ]
    if has_zeros and tall * wide > 1:
        shares = [[round(float((cell != 0).mean()), 4) for cell in row] for row in cells]
        return {**data, "of": "shares", "values": shares}
    largest = [[float(f"{cell.flat[np.abs(cell).argmax()]:.4g}") for cell in row] for row in cells]
    return {**data, "of": "entries", "values": largest}
