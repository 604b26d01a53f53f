"""`ternary`: every weight is -1, 0 or +1, perhaps times a scale.

The sign of w is kept where |w| is above a threshold: a number, or (`relative`) a multiple of the mean of
|w|. Ternary weight networks (Li and Liu 2016, "Ternary Weight Networks", arXiv:1605.04711) take 0.7 times the
mean, and as the scale the mean of |w| over the entries kept, which is the best one for the entries kept:
`ternary(threshold = 0.7, relative = true, scale = "tensor")`. The gradient of the step is 1 where
|w| <= clip; a scale that is worked out from the weight is differentiated by the product rule, the threshold is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.constraint import Constraint, Misfit, WeightSite
from nnspec.compiler.constraints.scale import (
    CLIP,
    LEARNED,
    SCALE,
    clip_of,
    learned_scale,
    refuse_lone_learned,
    scale_axes,
    scale_count,
)
from nnspec.compiler.ir import Code, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Ternary(Constraint):
    """Weights in {-1, 0, +1} times a scale, with a straight-through gradient."""

    name = "ternary"
    doc = "Weights are -1, 0 or +1, perhaps times a scale: the sign where |w| is above the threshold."
    kind = "values"
    arguments = (
        Argument(
            name="threshold",
            kind="real",
            doc="entries no larger than this become zero",
            default=0.05,
            at_least=0,
            below=1,
        ),
        Argument(
            name="relative",
            kind="bool",
            doc="measure the threshold in means of |w| (of the weight, or of each channel that has a scale)",
            default=False,
        ),
        SCALE,
        LEARNED,
        CLIP,
    )
    keeps = ("permutations", "signs")
    example = 'constrain fc1.weight: ternary(threshold = 0.7, relative = true, scale = "tensor")'

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from stored to effective weight."""
        refuse_lone_learned(site)
        if site["scale"] is not None and not site["relative"]:
            why = "the threshold of scaled weights is measured in means of |w|"
            raise Misfit(why, help="add `relative = true`; Li and Liu (2016) take `threshold = 0.7`")
        name, options, stored, start = "ternary", _options(site), (), None
        if site["relative"]:
            name, options["axes"] = "ternary_relative", scale_axes(site)
        if site["scale"] is not None:
            name = "ternary_scaled"
        if site["learned"]:
            name, stored = "ternary_learned", (learned_scale(site),)
            kept = tuple((key, options[key]) for key in ("threshold", "axes"))
            start = Code(file="discrete", name="ternary_scale", options=kept)
        return WeightMap(
            name=self.name,
            code=Code(file="discrete", name=name, options=tuple(options.items())),
            stored=stored,
            start=start,
            straight_through=True,
            clip=clip_of(site),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member, whatever the threshold."""
        if site["scale"] is None:
            return weight.round().clamp(-1, 1)
        rows = weight.reshape(1 if site["scale"] == "tensor" else len(weight), -1)
        return _nearest_scaled(rows).view_as(weight)

    def members(self, site: WeightSite) -> tuple[float, ...] | None:
        """Return the three values, if nothing scales them and the threshold is a number."""
        plain = site["scale"] is None and not site["relative"]
        return (-1.0, 0.0, 1.0) if plain else None

    def free(self, site: WeightSite) -> int:
        """Return the number of scales: the rest is discrete."""
        return scale_count(site)


def _options(site: WeightSite) -> dict[str, Any]:
    return {"threshold": float(site["threshold"]), "clip": clip_of(site)}


def _nearest_scaled(rows: torch.Tensor) -> torch.Tensor:
    """The nearest scaled ternary vector to each row.

    With the k largest |w| kept, the best scale is their mean m and the squared distance falls by k m^2
    (Li and Liu 2016), so that the best k has the largest k m^2.
    """
    import torch

    sizes = rows.abs().sort(dim=1, descending=True).values
    counts = torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype)
    means = sizes.cumsum(1) / counts
    best = (counts * means.square()).argmax(1, keepdim=True)
    signs = torch.where(rows.abs() >= sizes.gather(1, best), rows.sign(), 0.0)
    return means.gather(1, best) * signs
