"""`toeplitz` and `circulant`: weights with constant diagonals; circulant ones go on at the other end.

What is stored are the numbers on the diagonals: m + n - 1 of an m x n Toeplitz matrix, W[i, j] = t[i - j + n - 1],
and the first column of a circulant matrix, W[i, j] = c[(i - j) mod n] (Gray 2006, "Toeplitz and circulant matrices: a
review"). They start from the first row and column of the initial weight, and so with the spread that the layer's own
initialisation gives. The nearest member holds the mean of each diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, Tensor, WeightMap
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Toeplitz(Constraint):
    """Matrices of any shape with constant diagonals."""

    name = "toeplitz"
    doc = "Each diagonal of the weight holds one number: W[i, j] depends on i - j."
    kind = "structure"
    refuses: ClassVar[Mapping[str, str]] = {
        "orthogonal": "turning an orthogonal matrix leaves no pattern between its entries in place",
        "normalized": "dividing each row by its own norm would make a diagonal's entries differ",
        "topology": "a pattern decides entry by entry, and could drop some entries of a diagonal",
    }
    keeps = ("multiples",)
    example = "constrain filter.weight: toeplitz"

    def refusal(self, options: Mapping[str, Any], other: Constraint, theirs: Mapping[str, Any]) -> str | None:
        """Refuse a scale for each row too."""
        if theirs.get("scale") == "channel":
            return "a scale for each row can make a diagonal's entries differ"
        return super().refusal(options, other, theirs)

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the matrix of the stored diagonals."""
        rows, columns = site.flat
        return WeightMap(
            name=self.name,
            code=Code(file="structure", name="toeplitz", options=(("columns", columns),)),
            stored=(Tensor(name=site.stored("diagonals"), shape=(rows + columns - 1,)),),
            replaces=True,
            start=Code(file="structure", name="toeplitz_diagonals"),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member: the mean of each diagonal."""
        import torch

        rows, columns = weight.shape
        return _mean_of_alike(weight, torch.arange(rows)[:, None] - torch.arange(columns) + columns - 1)

    def free(self, site: WeightSite) -> int:
        """Return the number of diagonals."""
        return sum(site.flat) - 1


class Circulant(Toeplitz):
    """Square matrices whose columns are shifts of the first."""

    name = "circulant"
    doc = "Each column of the weight is the one before it shifted down, its end coming in at the top."
    refuses: ClassVar[Mapping[str, str]] = {
        key: why for key, why in Toeplitz.refuses.items() if key != "normalized"
    }
    example = "constrain ring.weight: circulant"

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the matrix of the stored column."""
        return WeightMap(
            name=self.name,
            code=Code(file="structure", name="circulant"),
            stored=(Tensor(name=site.stored("column"), shape=(site.square,)),),
            replaces=True,
            start=Code(file="structure", name="first_column"),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member: the mean of each diagonal, going on at the other end."""
        import torch

        places = torch.arange(len(weight))
        return _mean_of_alike(weight, (places[:, None] - places) % len(weight))

    def free(self, site: WeightSite) -> int:
        """Return the length of a column."""
        return site.square


def _mean_of_alike(weight: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    """Give each entry the mean of those with its number in `alike`."""
    places = alike.flatten()
    sums = weight.new_zeros(int(places.max()) + 1).index_add(0, places, weight.flatten())
    counts = weight.new_zeros(len(sums)).index_add(0, places, weight.new_ones(len(places)))
    return (sums / counts)[alike]
