"""The distance from the identity."""

import torch
from torch import Tensor


def near_identity(weight: Tensor, strength: float) -> Tensor:
    """`strength / 2` times the squared distance from the identity."""
    identity = torch.eye(weight.shape[0], device=weight.device, dtype=weight.dtype)
    return 0.5 * strength * (weight - identity).square().sum()
