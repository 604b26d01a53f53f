"""Weights of bounded or unit norm."""

import torch
from torch import Tensor


def spectral(weight: Tensor, bound: float) -> Tensor:
    """W / max(1, s / bound), s the largest singular value (Gouk et al. 2021)."""
    full = torch.promote_types(weight.dtype, torch.float32)  # no singular values in half precision
    largest = torch.linalg.matrix_norm(weight.flatten(1).to(full), ord=2)
    return weight / (largest / bound).clamp(min=1)


def normalized(weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Norm one over these axes (Salimans and Kingma 2016, eq. 2, with g = 1)."""
    return weight / torch.linalg.vector_norm(weight, dim=axes, keepdim=True).clamp(min=1e-12)
