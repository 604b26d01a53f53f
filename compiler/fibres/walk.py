"""Walking along a fibre: the weights that compute one function, from one of them to the next.

A step goes along the null space of the Jacobian, in the direction of the step before, and comes back to the
fibre by Newton's method, theta <- theta - J^+ r. Singular values are kept or dropped by one tolerance, so the rank, and
with it the stratum (p - rank is its dimension), is known at every point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.rank import TOLERANCE, jacobian
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_NEWTON = 6  # steps back to the fibre
_EXACT = 1e-24  # mean squared difference, of the targets' variance
_HALVINGS = 6  # of a step that does not find back


class Walk(Node):
    """Points [n, p] of a fibre one after another, the rank at each, and the largest relative distance."""

    points: Tensor
    ranks: tuple[int, ...]
    worst: float

    @property
    def moved(self) -> float:
        """Return how far its end is from its beginning."""
        return float((self.points[-1] - self.points[0]).norm())


def walk(
    chart: Chart,
    start: Tensor,
    inputs: tuple[Tensor, ...],
    targets: Tensor,
    direction: Tensor,
    steps: int,
    length: float,
) -> Walk:
    """Return a walk of so many steps of a length from a point of the fibre; it ends where none is possible."""
    import torch

    variance = max(float(((targets - targets.mean(0)) ** 2).mean()), 1e-300)
    points, ranks, worst = [start], [], 0.0
    null, rank = _null(chart, start, inputs)
    ranks.append(rank)
    for _ in range(steps):
        ahead = null @ (null.T @ direction)
        if float(ahead.norm()) < 1e-8 * float(direction.norm()):
            break
        found = _step(chart, points[-1], ahead / ahead.norm() * length, inputs, targets, variance)
        if found is None:
            break
        point, distance = found
        direction = point - points[-1]
        points.append(point)
        worst = max(worst, distance)
        null, rank = _null(chart, point, inputs)
        ranks.append(rank)
    return Walk(points=torch.stack(points), ranks=tuple(ranks), worst=worst)


def stratum(chart: Chart, point: Tensor, inputs: tuple[Tensor, ...]) -> int:
    """Return the rank of the Jacobian at a point."""
    return _null(chart, point, inputs)[1]


def null_directions(chart: Chart, point: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return an orthonormal basis [p, k] of the null space at a point."""
    return _null(chart, point, inputs)[0]


def _null(chart: Chart, point: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, int]:
    import torch

    matrix = jacobian(chart, point, inputs)
    _, values, right = torch.linalg.svd(matrix, full_matrices=matrix.shape[0] < matrix.shape[1])
    rank = int((values > TOLERANCE * values[0]).sum())
    return right[rank:].T, rank


def _step(
    chart: Chart,
    point: Tensor,
    step: Tensor,
    inputs: tuple[Tensor, ...],
    targets: Tensor,
    variance: float,
) -> tuple[Tensor, float] | None:
    """Return where a step leads and its relative distance; a step that does not find back is halved."""
    for _ in range(_HALVINGS):
        found, distance = _retract(chart, point + step, inputs, targets, variance)
        if distance <= _EXACT and float((found - point).norm()) > 0.1 * float(step.norm()):
            return found, distance
        step = step / 2
    return None


def _retract(
    chart: Chart, point: Tensor, inputs: tuple[Tensor, ...], targets: Tensor, variance: float
) -> tuple[Tensor, float]:
    import torch

    for _ in range(_NEWTON):
        residual = (chart.outputs(point, inputs) - targets).reshape(-1)
        if float((residual**2).mean()) <= 1e-4 * _EXACT * variance:
            break
        inverse: Tensor = torch.linalg.pinv(jacobian(chart, point, inputs), rtol=1e-7)
        point = point - inverse @ residual
    residual = (chart.outputs(point, inputs) - targets).reshape(-1)
    return point, float((residual**2).mean()) / variance
