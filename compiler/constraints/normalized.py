"""`normalized(axis)`: every row of the weight has norm 1, or every column.

A row holds all weights into one output. The map divides by the norms, as weight normalisation does
(Salimans and Kingma 2016, equation 2, with g = 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Normalized(Constraint):
    """Rows or columns on the unit sphere."""

    name = "normalized"
    doc = "Every row of the weight (all weights into one output) has norm 1, or every column."
    kind = "manifold"
    arguments = (
        Argument(
            name="axis",
            kind="choice",
            doc="what has norm 1: the weights into one output, or those out of one input",
            default="rows",
            choices=("rows", "columns"),
        ),
    )
    keeps = ("permutations", "signs")
    example = 'constrain head.weight: normalized(axis = "rows")'

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the division by the norms."""
        _ = site.matrix
        return WeightMap(
            name=self.name,
            code=Code(file="norms", name="normalized", options=(("axes", _axes(site)),)),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member; of rows of zeros, which all members are equally near to, an even one."""
        import torch

        axes = _axes(site)
        norms = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
        some = torch.where(norms > 0, weight, 1.0)
        return some / torch.linalg.vector_norm(some, dim=axes, keepdim=True)

    def free(self, site: WeightSite) -> int:
        """Return one less than its length for each row."""
        rows, columns = site.matrix
        return rows * (columns - 1) if site["axis"] == "rows" else columns * (rows - 1)


def _axes(site: WeightSite) -> tuple[int, ...]:
    return tuple(range(1, len(site.shape))) if site["axis"] == "rows" else (0,)
