"""`frozen`: the weight stays as it begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Frozen as FrozenPart
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Frozen(Constraint):
    name = "frozen"
    doc = "The weight is not learned: it stays as it begins."
    kind = "frozen"
    refuses: ClassVar[Mapping[str, str]] = {
        "projection": "a frozen weight takes no steps to project after",
        "penalty": "a frozen weight takes no steps that a penalty could change",
    }
    example = "constrain backbone.**: frozen"

    def part(self, site: WeightSite, span: Span | None) -> FrozenPart:
        """Return the mark."""
        return FrozenPart(span=span)

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the weight: any may be frozen."""
        return weight

    def free(self, site: WeightSite) -> int:
        """Return 0."""
        return 0
