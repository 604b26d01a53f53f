"""Products of two thin matrices."""

import torch
from torch import Tensor


def low_rank(left: Tensor, right: Tensor) -> Tensor:
    """The product of two thin matrices."""
    return left @ right


@torch.no_grad()
def low_rank_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors of the nearest matrix of this rank (Eckart and Young, 1936), of equal norms."""
    outer, values, inner = torch.linalg.svd(weight, full_matrices=False)
    roots = values[:rank].sqrt()
    return outer[:, :rank] * roots, roots[:, None] * inner[:rank]


def low_rank_kernel(left: Tensor, right: Tensor) -> Tensor:
    """The product of a matrix [outputs, rank] and kernels [rank, inputs, height, width]."""
    return torch.tensordot(left, right, dims=1)


@torch.no_grad()
def low_rank_kernel_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors of the nearest kernel of this rank, as a matrix of outputs by everything else."""
    left, right = low_rank_factors(weight.flatten(1), rank)
    return left, right.reshape(rank, *weight.shape[1:])
