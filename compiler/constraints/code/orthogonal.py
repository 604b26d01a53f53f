"""Matrices with orthonormal columns (rows, if they are wider than tall): a base, turned."""

import torch
from torch import Tensor


def polar(weight: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns or rows: U V of the singular value decomposition."""
    outer, _, inner = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    return (outer @ inner).view_as(weight)


@torch.no_grad()
def orthogonal_start(weight: Tensor) -> tuple[Tensor, Tensor]:
    """No turn yet, and the base: the orthogonal matrix nearest to the weight."""
    return torch.zeros_like(weight), polar(weight)


def cayley(weight: Tensor, base: Tensor) -> Tensor:
    """base (I - A / 2)^-1 (I + A / 2) with the skew A = V - V'; V is the stored square weight."""
    half = (weight.flatten(1) - weight.flatten(1).mT) / 2
    one = torch.eye(len(half), dtype=half.dtype, device=half.device)
    return (base.flatten(1) @ torch.linalg.solve(one - half, one + half)).view_as(weight)


def exponential(weight: Tensor, base: Tensor) -> Tensor:
    """base exp(A) with the skew A = V - V'; V is the stored square weight."""
    skew = weight.flatten(1) - weight.flatten(1).mT
    return (base.flatten(1) @ torch.linalg.matrix_exp(skew)).view_as(weight)


def tall(weight: Tensor) -> Tensor:
    """The weight as a matrix, or its transpose, that is no wider than tall."""
    matrix = weight.flatten(1)
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def laid_as(matrix: Tensor, weight: Tensor) -> Tensor:
    """Undo `tall`."""
    rows = weight.shape[0]
    return (matrix if matrix.shape[0] == rows else matrix.mT).reshape(weight.shape)


def turn(weight: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Thin factors L and R of the skew A = V B' - B V' = L R', which turns the base B towards V."""
    v, b = tall(weight), tall(base)
    return torch.cat([v, b], 1), torch.cat([b, -v], 1)


def cayley_thin(weight: Tensor, base: Tensor) -> Tensor:
    """(I - A / 2)^-1 (I + A / 2) base with A = L R', solved for 2 x (short side) unknowns (Wen and Yin 2013)."""
    with torch.autocast(weight.device.type, enabled=False):  # a system is not solved in half precision
        left, right = turn(weight, base)
        inner = right.mT @ left
        one = torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
        moved = left @ torch.linalg.solve(one - inner / 2, right.mT @ tall(base))
        return base + laid_as(moved, weight)


def exponential_thin(weight: Tensor, base: Tensor) -> Tensor:
    """exp(A) base with A = L R': base + L f(R'L) R'base, where f(z) = (e^z - 1) / z.

    f(M) C is the upper right block of exp([[M, C], [0, 0]]) (Al-Mohy and Higham 2011, theorem 2.1).
    """
    with torch.autocast(weight.device.type, enabled=False):
        left, right = turn(weight, base)
        start = right.mT @ tall(base)
        wide = torch.cat([right.mT @ left, start], 1)
        square = torch.cat([wide, wide.new_zeros(start.shape[1], wide.shape[1])], 0)
        moved = left @ torch.linalg.matrix_exp(square)[: len(start), len(start) :]
        return base + laid_as(moved, weight)
