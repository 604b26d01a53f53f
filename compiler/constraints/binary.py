"""`binary`: every weight is -1 or +1.

The effective weight is `where(w >= 0, 1, -1)`; `sign` would map an exact zero, which random
initialisation does produce, to zero. The gradient passes straight through to the stored weight where
|w| <= clip (Hubara et al. 2016, "Binarized Neural Networks", eq. 4).

A scale multiplies the signs: the mean of |w|, over the whole weight or over each channel, which gives the scaled
signs nearest to w (Rastegari et al. 2016, "XNOR-Net", arXiv:1603.05279), or a learned number that starts there. The
mean is differentiated by the product rule, with the derivative of the signs as above; the paper keeps of it
the terms of each entry's own gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
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
from nnspec.compiler.ir import Apply, Block, Code, Port, Primitive, WeightMap
from nnspec.compiler.operations.registry import operation
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Binary(Constraint):
    """Weights in {-1, +1} with a straight-through gradient."""

    name = "binary"
    doc = "Weights are -1 or +1, `where(w >= 0, 1, -1)`, perhaps times a scale; gradients pass where |w| <= clip."
    kind = "values"
    arguments = (CLIP, SCALE, LEARNED)
    keeps = ("permutations", "signs")
    example = 'constrain fc1.weight: binary(scale = "channel")'

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from stored to effective weight."""
        refuse_lone_learned(site)
        clip = clip_of(site)
        made = WeightMap(name=self.name, straight_through=True, clip=clip, keeps=self.keeps, span=span)
        if site["scale"] is None:
            return made.replace(block=_sign_block())
        axes = (("axes", scale_axes(site)),)
        if not site["learned"]:
            options = (*axes, ("clip", clip))
            return made.replace(code=Code(file="discrete", name="binary_scaled", options=options))
        return made.replace(
            code=Code(file="discrete", name="binary_learned", options=(("clip", clip),)),
            stored=(learned_scale(site),),
            start=Code(file="discrete", name="mean_size", options=axes),
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member."""
        import torch

        signs = torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)
        if site["scale"] is None:
            return signs
        return weight.abs().mean(scale_axes(site), keepdim=True) * signs

    def members(self, site: WeightSite) -> tuple[float, ...] | None:
        """Return both signs, if nothing scales them."""
        return (-1.0, 1.0) if site["scale"] is None else None

    def free(self, site: WeightSite) -> int:
        """Return the number of scales: the rest is discrete."""
        return scale_count(site)


def _sign_block() -> Block:
    compare = _primitive("greater_equal", constant=0)
    choose = _primitive("where", then=1, otherwise=-1)
    return Block(
        name="binary",
        inputs=(Port(name="w", value="w"),),
        outputs=(Port(name="output", value="signs"),),
        children=(),
        body=(
            Apply(name="greater_equal", operation=compare, inputs=("w",), outputs=("positive",)),
            Apply(name="where", operation=choose, inputs=("positive",), outputs=("signs",)),
        ),
    )


def _primitive(name: str, **given: Any) -> Primitive:
    """An operation with these arguments and its defaults for the rest."""
    arguments = {a.name: given.get(a.name, a.default) for a in operation(name).arguments}
    return Primitive(operation=name, arguments=tuple(sorted(arguments.items())))
