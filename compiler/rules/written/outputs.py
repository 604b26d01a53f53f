"""What a network gives, as losses take it and as feedback carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def as_given(values: Sequence[Any]) -> Any:
    """Return what a network gives as losses take it: one value by itself, several as a tuple."""
    return tuple(values) if len(values) > 1 else values[0]


def end_to_end(values: Sequence[Tensor]) -> Tensor:
    """Return one value as it is, and several laid end to end for each sample, (batch, all entries)."""
    import torch

    return values[0] if len(values) == 1 else torch.cat([value.flatten(1) for value in values], 1)
