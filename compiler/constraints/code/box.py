"""Weights between two bounds."""

from torch import Tensor


def box(weight: Tensor, low: float, high: float) -> Tensor:
    """The nearest weight whose entries lie between `low` and `high`."""
    return weight.clamp(low, high)
