"""Which networks that were found are one network under the derived group: canonical members, and their classes.

What `canonical` leaves undone (equal units, wires that are wider than what they read) can only make two classes
of one: a class here is never too large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.symmetry.canonical import canonical
from nnspec.compiler.symmetry.record import SymmetryGroup

if TYPE_CHECKING:
    from torch import Tensor

_SAME = 1e-5  # largest difference of canonical members, relative to their size


def classes(group: SymmetryGroup | None, chart: Chart, vectors: Tensor) -> list[int]:
    """Return a class number for each of [K, p] weights, in the order of first appearance."""
    firsts: list[Tensor] = []
    found: list[int] = []
    for vector in vectors:
        own = (
            vector
            if group is None
            else chart.vector(canonical(group, chart.state(vector), is_tried=False).state)
        )
        for number, first in enumerate(firsts):
            if float((own - first).abs().max()) <= _SAME * (1 + float(first.abs().max())):
                found.append(number)
                break
        else:
            firsts.append(own)
            found.append(len(firsts) - 1)
    return found
