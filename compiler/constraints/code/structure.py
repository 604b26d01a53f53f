"""Square matrices whose entries mirror each other, products, and constant diagonals."""

import torch
from torch import Tensor


def symmetric(weight: Tensor) -> Tensor:
    """The upper triangle, mirrored."""
    return weight.triu() + weight.triu(1).mT


def hollow(weight: Tensor) -> Tensor:
    """The upper triangle without the diagonal, mirrored; zeros on the diagonal."""
    return weight.triu(1) + weight.triu(1).mT


def skew(weight: Tensor) -> Tensor:
    """The upper triangle without the diagonal, mirrored with the other sign."""
    return weight.triu(1) - weight.triu(1).mT


def psd(factor: Tensor) -> Tensor:
    """The product of a factor and its transpose: no eigenvalue is negative."""
    return factor @ factor.mT


@torch.no_grad()
def psd_factor(weight: Tensor, rank: int) -> Tensor:
    """A factor of the weight's symmetric part, with its largest eigenvalues and the size of each.

    Sizes instead of the positive part: columns of zeros would have no gradient.
    """
    values, vectors = torch.linalg.eigh((weight + weight.mT) / 2)
    sizes, places = values.abs().topk(rank)
    return vectors[:, places] * sizes.sqrt()


def toeplitz(diagonals: Tensor, columns: int) -> Tensor:
    """W[i, j] = diagonals[i - j + columns - 1]: every diagonal is constant."""
    across = torch.arange(columns, device=diagonals.device)
    down = torch.arange(len(diagonals) - columns + 1, device=diagonals.device)
    return diagonals[down[:, None] - across + columns - 1]


@torch.no_grad()
def toeplitz_diagonals(weight: Tensor) -> Tensor:
    """The numbers on the diagonals, read off the first row and the first column."""
    return torch.cat([weight[0].flip(0), weight[1:, 0]])


def circulant(column: Tensor) -> Tensor:
    """W[i, j] = column[(i - j) mod n]: every column is the one before it, shifted down."""
    places = torch.arange(len(column), device=column.device)
    return column[(places[:, None] - places) % len(column)]


@torch.no_grad()
def first_column(weight: Tensor) -> Tensor:
    """The first column."""
    return weight[:, 0].clone()
