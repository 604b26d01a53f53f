"""`symmetric` and `skew`: square weights that equal their transpose, or minus their transpose.

The map mirrors the upper triangle of the stored weight, so that entries begin with the spread that the layer's
own initialisation gives them; what is stored below the diagonal is idle. The nearest member to W is (W + W')/2
or (W - W')/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch

_MIRRORED: Mapping[str, str] = {
    "orthogonal": "turning an orthogonal matrix leaves no pattern between its entries in place",
    "normalized": "dividing each row by its own norm would make the two halves differ",
    "topology": "a pattern decides entry by entry, and could keep one of two mirrored entries and drop the other",
    "max_norm": "it bounds the rows as stored, before they are mirrored",
    "simplex": "it looks at the rows as stored, before they are mirrored",
}


class Symmetric(Constraint):
    """Weights that equal their transpose."""

    name = "symmetric"
    doc = "The weight equals its transpose."
    arguments: ClassVar[tuple[Argument, ...]] = (
        Argument(name="diagonal", kind="bool", doc="whether there is one; false: it is zero", default=True),
    )
    kind = "structure"
    refuses: ClassVar[Mapping[str, str]] = _MIRRORED
    keeps = ("mirrored", "permutations", "signs", "scales", "multiples")
    example = "constrain recurrent.weight: symmetric"

    def refusal(self, options: Mapping[str, Any], other: Constraint, theirs: Mapping[str, Any]) -> str | None:
        """Refuse a scale for each row too."""
        if theirs.get("scale") == "channel":
            return "a scale for each row can make the two halves differ"
        return super().refusal(options, other, theirs)

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the mirrored triangle."""
        _ = site.square
        whole = site.options.get("diagonal", True)
        code = Code(file="structure", name=self.name if whole else "hollow")
        keeps = (*self.keeps, "matrices") if whole else self.keeps  # M W M' of a hollow W has a diagonal
        return WeightMap(name=self.name, code=code, keeps=keeps, span=span)

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member."""
        found = (weight + weight.mT) / 2
        return found if site["diagonal"] else found - found.diag().diag()

    def free(self, site: WeightSite) -> int:
        """Return the number of entries above the diagonal and, if there is one, on it."""
        return site.square * (site.square + (1 if site["diagonal"] else -1)) // 2

    def alike(self, site: WeightSite) -> int:
        """Return 2: without a diagonal each number stands at two entries."""
        return 1 if site["diagonal"] else 2


class Skew(Symmetric):
    """Weights that equal minus their transpose."""

    name = "skew"
    doc = "The weight equals minus its transpose; its diagonal is zero."
    arguments = ()
    refuses: ClassVar[Mapping[str, str]] = {
        **_MIRRORED,
        "binary": "the diagonal of a skew matrix is zero, and a binary weight never is",
        "nonnegative": "of two mirrored entries one is negative, unless both are zero",
    }
    example = "constrain recurrent.weight: skew"

    def refusal(self, options: Mapping[str, Any], other: Constraint, theirs: Mapping[str, Any]) -> str | None:
        """Refuse a list of numbers that does not hold zero and each number's opposite."""
        values = theirs.get("values", (0,))
        if other.name == "values" and not {0, *(-value for value in values)} <= set(values):
            return "mirrored entries are opposite, so the list must hold zero and the opposite of each number"
        return super().refusal(options, other, theirs)

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member."""
        return (weight - weight.mT) / 2

    def free(self, site: WeightSite) -> int:
        """Return the number of entries above the diagonal."""
        return site.square * (site.square - 1) // 2

    def alike(self, site: WeightSite) -> int:
        """Return 2: each number stands at one entry, and its opposite at another."""
        return 2
