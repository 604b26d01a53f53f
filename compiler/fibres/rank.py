"""The rank of dF/dtheta: how many directions of the weights move the network's outputs on a probe.

In: a chart, a point and inputs. The Jacobian [rows, p] is never kept whole: its rows are folded into a
triangle R (p x p) by QR, and the singular values of R are those of the Jacobian. Unlike the Gram matrix this
does not square the condition number. Inputs are doubled until the rank has stopped growing, since piecewise
linear functions show some directions in small regions only. Statistics that a norm keeps take part in symmetries:
what they can make good counts as no movement. Double precision throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import ceil, inf
from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.derivatives import derivative
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    Inputs = tuple[Tensor, ...]

TOLERANCE = 1e-9  # of the largest singular value
PARAMETER_LIMIT = 4000  # the cost grows with the cube
_FEWEST = 64  # inputs
_PATIENCE = 2  # doublings of the inputs that must add nothing
_MOST_WORK = 2e10  # rows times columns squared; small networks see many inputs, large ones at least 2 p rows
_ROWS_AT_ONCE = 4096
_MOST_INPUTS = 1 << 18
_STEEP = 1e4  # times as long as the tenth part of the rows, and as 1: longer rows are shortened to it
_NUMBERS_AT_ONCE = 1 << 22  # of the derivatives of the widest value


class NotFinite(Exception):
    """Outputs or derivatives at some weights are NaN or infinite; the argument says which."""


class Spectrum(Node):
    """Singular values of a Jacobian, falling, on so many inputs."""

    values: tuple[float, ...]
    rank: int
    inputs: int
    settled: bool  # the last doublings of the inputs added nothing
    triangle: Tensor  # [.., p], with the singular values and right vectors of the Jacobian

    @property
    def nullity(self) -> int:
        return len(self.values) - self.rank

    @property
    def gap(self) -> float:
        """Return the smallest singular value that counts over the largest that does not."""
        if self.rank in (0, len(self.values)):
            return inf
        dropped = self.values[self.rank]
        return self.values[self.rank - 1] / dropped if dropped else inf

    @cached_property
    def null(self) -> Tensor:
        """Return an orthonormal basis [p, nullity] of what moves no output; vectors take longer than values."""
        import torch

        return torch.linalg.svd(self.triangle, full_matrices=True)[2][self.rank :].T


def jacobian(chart: Chart, point: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return dF/dtheta [samples * m, p], or raise NotFinite."""
    import torch

    at = torch.cat([point, chart.kept])
    found = derivative(chart, at, inputs)(at)
    if not bool(torch.isfinite(found).all()):
        raise NotFinite("derivatives")
    return found


def spectrum(
    chart: Chart, draw: Callable[[int, int], Inputs], first: int = 0, tolerance: float = TOLERANCE
) -> Spectrum:
    """Return the spectrum at the chart's point, on as many inputs as it takes for the rank to settle.

    `draw` gives inputs by a seed and their number. At first there are two rows for each weight, and `first` inputs.
    """
    if not chart.count:
        return decompose(chart.point.reshape(0, 0), chart, 0, tolerance)
    triangle = None
    width = max(1, chart.outputs(chart.point, draw(0, 1)).shape[1])
    most = min(_MOST_INPUTS, max(_MOST_WORK / chart.count**2, 2 * chart.count) / width)
    total, count, still, rank = 0, max(first, _FEWEST, ceil(2 * chart.count / width)), 0, -1
    found: Spectrum | None = None
    while found is None or (still < _PATIENCE and total < most and found.nullity):
        triangle = fold(chart, chart.point, draw(7919 * total, count), triangle)
        total += count
        count = total
        found = decompose(triangle, chart, total, tolerance)
        still = still + 1 if found.rank == rank else 0
        rank = found.rank
    return found.replace(settled=still >= _PATIENCE or not found.nullity)


def fold(chart: Chart, point: Tensor, inputs: tuple[Tensor, ...], triangle: Tensor | None) -> Tensor:
    """Fold the rows of the Jacobian on some inputs into a triangle that may hold others."""
    import torch

    linear_algebra = torch.linalg
    width = chart.outputs(point, tuple(item[:1] for item in inputs)).shape[1]
    step = max(1, min(max(_ROWS_AT_ONCE, chart.count) // max(1, width), _NUMBERS_AT_ONCE // chart.widest))
    for start in range(0, len(inputs[0]), step):
        rows = _shortened(jacobian(chart, point, tuple(item[start : start + step] for item in inputs)))
        stacked = rows if triangle is None else torch.cat([triangle, rows])
        triangle = linear_algebra.qr(stacked, mode="r").R if len(stacked) > stacked.shape[1] else stacked
    assert triangle is not None
    return triangle


def _shortened(rows: Tensor) -> Tensor:
    """Return rows [n, p] of which none is far longer than the short ones: beside exp(x^2) at one input all others would be lost.

    That changes neither their rank nor what they have no part in. Rows of ordinary length stay: those of a softmax that is full
    are so short that they hold rounding alone, and that must not weigh as much as the others.
    """
    lengths = rows.norm(dim=1)
    steep = _STEEP * max(1.0, float(lengths.kthvalue(1 + len(lengths) // 10).values))
    return rows * (steep / lengths.clamp_min(steep)).unsqueeze(1)


def decompose(triangle: Tensor, chart: Chart, inputs: int, tolerance: float = TOLERANCE) -> Spectrum:
    """Return the spectrum of a triangle, less what statistics make good."""
    import torch

    moving, kept = triangle[:, : chart.count], triangle[:, chart.count :]
    least = 0.0
    if kept.numel():
        least = TOLERANCE * float(torch.linalg.matrix_norm(moving))  # what is left of nothing is rounding
        left, sizes, _ = torch.linalg.svd(kept, full_matrices=False)
        inside = left[:, sizes > TOLERANCE * sizes[0]]
        moving = moving - inside @ (inside.T @ moving)
    found: list[float] = torch.linalg.svdvals(moving).tolist()
    listed = [value if value > least else 0.0 for value in found]
    listed += [0.0] * (chart.count - len(listed))
    rank = sum(value > tolerance * listed[0] for value in listed)
    return Spectrum(values=tuple(listed), rank=rank, inputs=inputs, settled=False, triangle=moving)


def rank_of(matrix: Tensor, tolerance: float = TOLERANCE, largest: float | None = None) -> int:
    """Return the numerical rank; `largest` stands in place of the largest singular value."""
    import torch

    if not matrix.numel():
        return 0
    found: list[float] = torch.linalg.svdvals(matrix).tolist()
    return sum(value > tolerance * (found[0] if largest is None else largest) for value in found)
