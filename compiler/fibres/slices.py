"""Slices of weight space: a plane or a space through networks that were found, and grids on it.

In: an origin [p] and directions [k, p]. Out: an orthonormal basis in which each direction's own coordinate
is positive, so that no axis depends on the linear algebra library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_INDEPENDENT = 1e-6  # of a direction's length that no direction before it has
_MARGIN = 0.3  # of the box around the networks


class Slice(Node):
    """The points origin + basis @ c. `chosen` says which of the given directions span it."""

    origin: Tensor  # [p]
    basis: Tensor  # [p, d], orthonormal
    chosen: tuple[int, ...]

    def points(self, coordinates: Tensor) -> Tensor:
        """Return the weights [n, p] at coordinates [n, d]."""
        return self.origin + coordinates @ self.basis.T

    def coordinates(self, vectors: Tensor) -> Tensor:
        """Return the coordinates [n, d] of the nearest points of the slice."""
        return (vectors - self.origin) @ self.basis

    def off(self, vectors: Tensor) -> Tensor:
        """Return how far weights [n, p] are from the slice."""
        return (vectors - self.points(self.coordinates(vectors))).norm(dim=1)


def through(origin: Tensor, others: Tensor, dims: int) -> Slice | None:
    """Return the slice through an origin and the first `dims` independent others; None if there are fewer."""
    import torch

    basis = torch.zeros(len(origin), 0, dtype=origin.dtype)
    chosen: list[int] = []
    for index, other in enumerate(others):
        direction = other - origin
        rest = direction
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        if float(rest.norm()) > _INDEPENDENT * max(float(direction.norm()), 1e-300):
            basis = torch.cat([basis, (rest / rest.norm()).unsqueeze(1)], dim=1)
            chosen.append(index)
        if len(chosen) == dims:
            return Slice(origin=origin, basis=basis, chosen=tuple(chosen))
    return None


def box(coordinates: Tensor) -> list[tuple[float, float]]:
    """Return bounds of each axis around points [n, d] and the origin, with a margin, of equal lengths."""
    low = coordinates.amin(dim=0).clamp_max(0)
    high = coordinates.amax(dim=0).clamp_min(0)
    half = float((high - low).max()) * (0.5 + _MARGIN)
    return [(float(middle) - half, float(middle) + half) for middle in (low + high) / 2]


def grid(bounds: list[tuple[float, float]], count: int) -> Tensor:
    """Return the coordinates [count^d, d] of a grid; the last axis runs fastest."""
    import torch

    axes = [torch.linspace(low, high, count, dtype=torch.float64) for low, high in bounds]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))
