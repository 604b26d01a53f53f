"""Levenberg-Marquardt from many weights at once, in double precision.

theta <- theta - (A + lambda a I)^-1 g, with A = J^T J / n, g = J^T r / n and a the largest entry of A's
diagonal; lambda falls after a step that lowers the loss and grows after one that does not (Marquardt, 1963). A is
decomposed once a step, so that trying another lambda costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.derivatives import derivative
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

PARAMETER_LIMIT = 1000  # a step decomposes a p x p matrix
_DONE = 1e-28  # of the variance: nothing is left to gain
_LEAST, _MOST = 1e-15, 1e8  # damping
_TRIES = 8  # dampings tried with one Jacobian
_NUMBERS_AT_ONCE = 1 << 24  # of derivatives


class Polished(Node):
    """Weights [K, p], their losses [K], and how many steps each took."""

    vectors: Tensor
    losses: Tensor
    steps: tuple[int, ...]


def polish(
    chart: Chart, vectors: Tensor, inputs: tuple[Tensor, ...], targets: Tensor, steps: int = 100
) -> Polished:
    """Return the weights to which Levenberg-Marquardt leads from each of [K, p]."""
    import torch

    chunk = max(1, _NUMBERS_AT_ONCE // (targets.numel() * max(1, chart.widest, chart.count)))
    parts = [_polish(chart, part, inputs, targets, steps) for part in vectors.split(chunk)]
    return Polished(
        vectors=torch.cat([part.vectors for part in parts]),
        losses=torch.cat([part.losses for part in parts]),
        steps=tuple(count for part in parts for count in part.steps),
    )


def _polish(
    chart: Chart, vectors: Tensor, inputs: tuple[Tensor, ...], targets: Tensor, steps: int
) -> Polished:
    import torch

    def residual(vector: Tensor) -> Tensor:
        return (chart.outputs(vector, inputs) - targets).reshape(-1)

    many: Any = torch.vmap(residual, randomness="same")
    slopes: Any = torch.vmap(derivative(chart, vectors[0], inputs), randomness="same")
    least = _DONE * max(float(((targets - targets.mean(0)) ** 2).mean()), 1e-300)
    losses = (many(vectors) ** 2).mean(dim=1)
    damping = torch.full((len(vectors),), 1e-3, dtype=vectors.dtype)
    taken = torch.zeros(len(vectors), dtype=torch.long)
    active = losses > least
    for _ in range(steps):
        index = active.nonzero().flatten()
        if not len(index):
            break
        at = vectors[index]
        values, axes, slope = _quadratic(slopes(at), many(at))
        moved, loss, damped = _try(many, at, losses[index], values, axes, slope, damping[index])
        better = loss < losses[index]
        gain = 1 - loss / losses[index].clamp_min(1e-300)
        vectors = vectors.index_copy(0, index, torch.where(better.unsqueeze(1), moved, at))
        losses = losses.index_copy(0, index, torch.where(better, loss, losses[index]))
        damping = damping.index_copy(0, index, damped)
        taken[index] += 1
        active[index] = better & (losses[index] > least) & ((gain > 1e-9) | (damped > _LEAST))
    return Polished(vectors=vectors, losses=losses, steps=tuple(taken.tolist()))


def _quadratic(rows: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues and axes of A, and g along these axes, from J [K, n, p] and r [K, n]."""
    import torch

    count = rows.shape[1]
    matrix = rows.mT @ rows / count
    slope = (rows.mT @ residuals.unsqueeze(2)).squeeze(2) / count
    values, axes = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))  # where J is not finite: no step
    return values.clamp_min(0), axes, (axes.mT @ slope.unsqueeze(2)).squeeze(2)


def _try(
    many: Any, at: Tensor, losses: Tensor, values: Tensor, axes: Tensor, slope: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Try dampings until each of the weights has a step that lowers its loss, or none was found."""
    import torch

    scale = values[:, -1:].clamp_min(1e-300)
    best, found = at, losses
    open_ = torch.ones(len(at), dtype=torch.bool)
    for _ in range(_TRIES):
        step = slope / (values + damping.unsqueeze(1) * scale)
        moved = at - (axes @ step.unsqueeze(2)).squeeze(2)
        loss = (many(moved) ** 2).mean(dim=1)
        lower = open_ & (loss < losses)
        best = torch.where(lower.unsqueeze(1), moved, best)
        found = torch.where(lower, loss, found)
        damping = torch.where(lower, (damping / 10).clamp_min(_LEAST), damping)
        open_ = open_ & ~lower
        if not bool(open_.any()):
            break
        damping = torch.where(open_, (damping * 10).clamp_max(_MOST), damping)
    return best, found, damping
