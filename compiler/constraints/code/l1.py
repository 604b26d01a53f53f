"""The sum of magnitudes."""

from torch import Tensor


def l1(weight: Tensor, strength: float) -> Tensor:
    """`strength` times the sum of magnitudes."""
    return strength * weight.abs().sum()


def soft_threshold(weight: Tensor, step: float, strength: float) -> Tensor:
    """Magnitudes less `step * strength`, and zero where nothing is left."""
    threshold = step * strength
    return weight - weight.clamp(-threshold, threshold)
