"""`spectral(bound)`: the largest singular value of the weight is at most `bound`.

The weight, as a matrix of outputs by everything else, is W / max(1, s / bound) with its largest singular value s
(Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz continuity"). A weight beyond the
bound is so divided by s as in spectral normalisation (Miyato et al. 2018), which has every weight at the bound. s is
exact, by a singular value decomposition in each forward pass: the estimate of a power iteration is
below s, and would let the weight exceed the bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Spectral(Constraint):
    """The ball of the spectral norm."""

    name = "spectral"
    doc = "The largest singular value of the weight is at most `bound`."
    kind = "manifold"
    arguments = (Argument(name="bound", kind="real", doc="the bound", default=1.0, above=0),)
    refuses: ClassVar[Mapping[str, str]] = {
        "binary": "signs have a singular value of at least the root of the longer side, whatever the bound",
        "normalized": "dividing rows by their norms can make the largest singular value larger",
        "values": "rounding the entries can make the largest singular value larger",
        "topology": "setting entries to zero can make the largest singular value larger",
    }
    keeps = ("permutations", "signs", "rotations")
    example = "constrain every dense.weight: spectral(bound = 1)"

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the division by the excess."""
        _ = site.matrix
        return WeightMap(
            name=self.name,
            code=Code(file="norms", name="spectral", options=(("bound", float(site["bound"])),)),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member: singular values beyond the bound are cut down to it."""
        import torch

        outer, values, inner = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        return ((outer * values.clamp(max=site["bound"])) @ inner).view_as(weight)
