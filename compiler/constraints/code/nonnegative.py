"""The nonnegative orthant."""

from torch import Tensor


def nonnegative(weight: Tensor) -> Tensor:
    """The nearest weight without negative entries."""
    return weight.clamp(min=0)
