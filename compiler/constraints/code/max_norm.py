"""Weights of bounded norm."""

import torch
from torch import Tensor


def max_norm(weight: Tensor, bound: float, axes: tuple[int, ...]) -> Tensor:
    """The nearest weight whose norms along `axes` are at most `bound`."""
    norms = torch.linalg.vector_norm(weight, dim=axes, keepdim=True) if axes else weight.abs()
    return weight * (bound / norms.clamp(min=bound))
