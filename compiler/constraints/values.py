"""`values([..])`: every weight is one of these numbers, the nearest to the stored one.

Halfway between two of them it is the larger, so that `values([-1, 1])` is `binary`. The gradient passes
straight through to the stored weight where |w| <= clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.constraints.constraint import Constraint, Misfit, WeightSite
from nnspec.compiler.constraints.scale import CLIP, clip_of
from nnspec.compiler.ir import Code, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Values(Constraint):
    """Weights from a list of numbers, with a straight-through gradient."""

    name = "values"
    doc = "Every weight is the nearest of these numbers; the gradient passes where |w| <= clip."
    kind = "values"
    arguments = (
        Argument(name="values", kind="real", doc="the numbers, two or more", listed="yes"),
        CLIP.replace(default=None),
    )
    keeps = ("permutations",)
    example = "constrain fc1.weight: values([-1, -0.25, 0, 0.25, 1])"

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from stored to effective weight."""
        values = _ascending(site)
        if len(values) < 2:
            raise Misfit("it needs two different numbers or more", help="`frozen` keeps a weight as it is")
        options = (("values", values), ("clip", clip_of(site)))
        mirrored = values == tuple(-value for value in reversed(values))
        return WeightMap(
            name=self.name,
            code=Code(file="discrete", name="nearest_value", options=options),
            straight_through=True,
            clip=clip_of(site),
            keeps=(*self.keeps, "signs") if mirrored else self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member."""
        from nnspec.compiler.constraints.code.discrete import nearest_value

        return nearest_value(weight, values=_ascending(site), clip=None)

    def members(self, site: WeightSite) -> tuple[float, ...]:
        """Return the numbers, ascending."""
        return _ascending(site)

    def free(self, site: WeightSite) -> int:
        """Return 0: the set is finite."""
        return 0


def _ascending(site: WeightSite) -> tuple[float, ...]:
    return tuple(sorted({float(value) for value in site["values"]}))
