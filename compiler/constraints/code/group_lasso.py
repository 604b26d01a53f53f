"""The sum of the norms of groups."""

import math

import torch
from torch import Tensor


def group_lasso(weight: Tensor, strength: float, group: str, block: tuple[int, int]) -> Tensor:
    """`strength` times the sum over groups of the root of their size times their norm."""
    parts, axes = grouped(weight, group, block)
    size = math.prod(parts.shape[axis] for axis in axes)
    return strength * math.sqrt(size) * torch.linalg.vector_norm(parts, dim=axes).sum()


def block_soft_threshold(
    weight: Tensor, step: float, strength: float, group: str, block: tuple[int, int]
) -> Tensor:
    """Each group shortened by `step * strength * root of its size`, and zero where nothing is left."""
    parts, axes = grouped(weight, group, block)
    threshold = step * strength * math.sqrt(math.prod(parts.shape[axis] for axis in axes))
    norms = torch.linalg.vector_norm(parts, dim=axes, keepdim=True)
    left = (norms - threshold).clamp(min=0) / norms.clamp(min=torch.finfo(norms.dtype).tiny)
    return (parts * left).reshape(weight.shape)


def grouped(weight: Tensor, group: str, block: tuple[int, int]) -> tuple[Tensor, tuple[int, ...]]:
    """The weight so that each group lies along some axes, and these axes."""
    if group == "block":
        parts = weight.unflatten(1, (-1, block[1])).unflatten(0, (-1, block[0]))
        return parts, (1, 3, *range(4, parts.dim()))
    apart = {"unit": 0, "input": 1}.get(group)  # the axis along which groups are counted
    return weight, tuple(axis for axis in range(weight.dim()) if axis != apart)
