"""Functional distance: J(theta) = mean (f(theta, x) - f(teacher, x))^2 over samples and outputs.

In: a chart, probe inputs and the teacher's outputs. Many weights are evaluated as one batch, in chunks whose
values stay in a processor's cache; those of a grid by a plan made for its slice. torch is imported by the functions that use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.plans import planned
from nnspec.compiler.fibres.samples_last import samples_last
from nnspec.compiler.fibres.slices import Slice

if TYPE_CHECKING:
    from torch import Tensor

_NUMBERS_AT_ONCE = 1 << 17  # of the widest value of one chunk
_WORTH_PLANNING = 30  # chunks: to trace takes as long as some of them


class Distance:
    """J on one probe. `variance` is that of the teacher's outputs, `square` their mean square.

    With `batch`, J is the mean of the means of batches of so many samples, the last one smaller: not quite
    the mean of all samples, but what the GENNI paper's code reports.
    """

    def __init__(
        self, chart: Chart, inputs: tuple[Tensor, ...], targets: Tensor, batch: int | None = None
    ) -> None:
        self.chart = chart
        self.inputs = inputs
        self.targets = targets.mT.contiguous().mT  # samples last in memory, as products are
        self.variance = float(((targets - targets.mean(dim=0)) ** 2).mean())
        self.square = float((targets**2).mean())
        samples, outputs = targets.shape
        self.weights = (_sample_weights(samples, batch) / outputs).repeat(outputs).to(targets.dtype)

    def of(self, vectors: Tensor) -> Tensor:
        """Return J [K] at weights [K, p]."""
        import torch

        with torch.no_grad():
            return torch.cat([self._many(part) for part in vectors.split(self._chunk)])

    def on(self, cut: Slice, coordinates: Tensor) -> Tensor:
        """Return J [n] at points of a slice, given by their coordinates [n, d]."""

        def along(points: Tensor) -> Tensor:
            return self._many(cut.points(points))

        run = None
        if len(coordinates) >= _WORTH_PLANNING * self._chunk:
            run = planned(along, self._chunk, coordinates.shape[1], self.chart.seed)
        return self.of(cut.points(coordinates)) if run is None else run(coordinates)

    @property
    def _chunk(self) -> int:
        return max(1, _NUMBERS_AT_ONCE // (len(self.targets) * self.chart.widest))

    def _many(self, vectors: Tensor) -> Tensor:
        import torch

        own: Any = torch.vmap(self._one, randomness="same")
        with samples_last():
            return own(vectors)

    def _one(self, vector: Tensor) -> Tensor:
        difference = self.chart.outputs(vector, self.inputs) - self.targets
        return (difference * difference).mT.reshape(-1) @ self.weights  # samples last: so they lie in memory


def _sample_weights(count: int, batch: int | None) -> Tensor:
    import torch

    if batch is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    sizes = [len(part) for part in torch.arange(count).split(batch)]
    return torch.cat([torch.full((n,), 1 / (n * len(sizes)), dtype=torch.float64) for n in sizes])


def most_common_share(targets: Tensor) -> float:
    """Return the share of samples on which the outputs are the same as on the most common one."""
    import torch

    _, counts = torch.unique(targets, dim=0, return_counts=True)
    return float(counts.max()) / len(targets)
