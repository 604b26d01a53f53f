"""Half the sum of squares."""

from torch import Tensor


def l2(weight: Tensor, strength: float) -> Tensor:
    """`strength / 2` times the sum of squares."""
    return 0.5 * strength * weight.square().sum()
