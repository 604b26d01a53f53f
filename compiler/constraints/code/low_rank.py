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
