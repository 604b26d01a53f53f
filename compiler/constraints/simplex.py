"""`simplex(axis)`: entries of at least 0 that sum to 1.

After each step every row, or column, moves to the nearest one of the set (Duchi, Shalev-Shwartz, Singer
and Chandra, "Efficient projections onto the l1-ball for learning in high dimensions", ICML 2008, figure 1):
max(v - theta, 0) with the one theta for which the sum is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.stored import PROJECTED, ProjectedConstraint, axis
from nnspec.compiler.ir import Code


class Simplex(ProjectedConstraint):
    name = "simplex"
    doc = """The entries of each row (all weights into one output) are at least 0 and sum to 1, or of each column, or
    all of them: after each step, each vector moves to the nearest such one. Entries that a mask removes take no part."""
    arguments = (axis("what sums to 1"),)
    takes_kept = True
    refuses: ClassVar[Mapping[str, str]] = {
        **PROJECTED,
        "projection": "the way into one set would lead out of the other",
    }
    keeps = ("permutations",)
    example = "constrain mix.weight: simplex"

    def code(self, site: WeightSite) -> Code:
        shape, place = _vectors(site)
        if shape[place] == 1:
            many = 'write `axis = "all"`' if prod(shape) > 1 else None
            raise Misfit("one number by itself could be nothing but 1", help=many)
        return Code(file="simplex", name="simplex", options=(("axis", place), ("shape", shape)))

    def free(self, site: WeightSite) -> int:
        """Return the entries, less one a vector."""
        shape, place = _vectors(site)
        return prod(shape) - prod(shape) // shape[place]


def _vectors(site: WeightSite) -> tuple[tuple[int, ...], int]:
    """Return the weight's shape as vectors, and the axis along which they lie."""
    count, sizes = prod(site.sizes), site.sizes
    if site["axis"] == "all" or not sizes:
        return (count,), 0
    return (sizes[0], count // sizes[0]), 1 if site["axis"] == "rows" else 0
