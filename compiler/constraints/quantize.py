"""`quantize(bits)`: weights on a uniform grid that is symmetric about zero.

With Q = 2^(bits - 1) - 1 the grid is {-Q, .., -1, 0, 1, .., Q} times a step s > 0, one for the weight or one for
each channel. Without `learned`, s = max |w| / Q in each forward pass, so that the largest entry stays as it is and
the effective weight is s round(w / s), halves to the even neighbour; the gradient passes straight through,
as the identity. Learned steps are those of Esser et al. 2020 ("Learned step size quantization"): the effective
weight is s round(clamp(w / s, -Q, Q)), with the derivative of round taken as 1, which gives the gradient of their
equation 3 (their factor on the step's learning rate is left to the optimizer). s starts as that one of max |w| / Q,
max |w| / (Q - 1), .., max |w| which rounds the initial weight least.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.constraints.scale import LEARNED, SCALE, learned_scale, scale_axes, scale_count
from nnspec.compiler.ir import Code, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Quantize(Constraint):
    """Weights on a symmetric uniform grid, with a straight-through gradient."""

    name = "quantize"
    doc = "Weights are whole multiples of a step, from -Q to Q of them, with Q = 2^(bits - 1) - 1."
    kind = "values"
    arguments = (
        Argument(name="bits", kind="int", doc="bits of one weight", at_least=2, at_most=8),
        SCALE.replace(
            doc='one step for the whole weight ("tensor"), or one for each output ("channel")',
            default="tensor",
            nullable=False,
        ),
        LEARNED.replace(
            doc="whether the step is learned; else the largest |w| is Q steps in each forward pass"
        ),
    )
    keeps = ("permutations", "signs")
    example = 'constrain fc1.weight: quantize(bits = 4, scale = "channel")'

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from stored to effective weight."""
        grid = (("levels", _levels(site)), ("axes", scale_axes(site)))
        if site["learned"]:
            return WeightMap(
                name=self.name,
                code=Code(file="discrete", name="quantize_learned", options=grid[:1]),
                stored=(learned_scale(site),),
                start=Code(file="discrete", name="fitting_step", options=grid),
                straight_through=True,
                keeps=self.keeps,
                span=span,
            )
        return WeightMap(
            name=self.name,
            code=Code(file="discrete", name="quantize", options=grid),
            straight_through=True,
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member whose largest entries are those of the weight."""
        from nnspec.compiler.constraints.code.discrete import fitting_step, grid_step

        find = fitting_step if site["learned"] else grid_step
        step = find(weight, _levels(site), scale_axes(site))
        return step * (weight / step).round()

    def free(self, site: WeightSite) -> int:
        """Return the number of steps: the rest is discrete."""
        return scale_count(site)


def _levels(site: WeightSite) -> int:
    return 2 ** (site["bits"] - 1) - 1
