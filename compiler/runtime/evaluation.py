"""Scores of a network on whole parts: the mean loss and the metrics.

In: a forward (one network's, or many stacked ones'), a part, an experiment's loss and metrics. Out: plain
numbers by name. Rows go through in chunks of a fixed size, so that numbers do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Type
from nnspec.compiler.runtime import losses, metrics
from nnspec.compiler.runtime.data import Field
from nnspec.compiler.runtime.plan import Batch

if TYPE_CHECKING:
    from torch import Tensor

    Forward = Callable[..., Tensor]

_ROWS = 2048  # of a chunk
_PREDICTIONS = 2000  # rows whose outputs a report may draw


class Scorer:
    """Measures the loss and those metrics that are numbers."""

    def __init__(self, loss: Choice, chosen: tuple[Choice, ...]) -> None:
        self.per_sample = losses.build(loss)
        self.metrics = tuple(metric for metric in chosen if metric.name != "confusion")

    def scores(self, forward: Forward, part: Batch) -> dict[str, float]:
        """Return the scores of one network."""
        meters = {metric.name: metrics.build(metric) for metric in self.metrics}
        sums: list[Tensor] = []
        for piece in _chunks(part):
            output = forward(*piece.inputs)
            sums.append(_exact(self.per_sample(output, piece.target)).sum())
            for meter in meters.values():
                meter.update(output.float() if output.itemsize < 4 else output, piece.target)
        found = {"loss": float(sum(sums)) / part.rows}
        return found | {name: float(meter.value()) for name, meter in meters.items()}

    def stacked_scores(self, forward: Forward, part: Batch) -> list[dict[str, float]]:
        """Return the scores of each of many networks; `forward` gives (network, row, ...)."""
        pieces = list(_chunks(part))
        outputs = [forward(*piece.inputs) for piece in pieces]
        sums = [
            _exact(stacked_losses(self.per_sample, output, _for_all(piece.target, output))).sum(1)
            for output, piece in zip(outputs, pieces, strict=True)
        ]
        means: Any = sum(sums) / part.rows
        found: list[dict[str, float]] = [{"loss": mean} for mean in means.tolist()]
        targets = [piece.target for piece in pieces]
        for metric in self.metrics:
            for own, value in zip(found, _stacked_metric(metric, outputs, targets), strict=True):
                own[metric.name] = value
        return found


def stacked_losses(per_sample: Forward, output: Tensor, target: Tensor) -> Tensor:
    """Return per-sample losses (network, row) of outputs and targets (network, row, ...)."""
    return per_sample(output.flatten(0, 1), target.flatten(0, 1)).view(output.shape[:2])


def confusion(forward: Forward, part: Batch, choice: Choice | None) -> tuple[tuple[int, ...], ...] | None:
    """Return the table of counts by class and predicted class; None where there are no classes."""
    if choice is None:
        return None
    meter = metrics.build(choice)
    for piece in _chunks(part):
        meter.update(forward(*piece.inputs), piece.target)
    return tuple(tuple(row) for row in meter.value())


def confusion_choice(chosen: tuple[Choice, ...], loss: Choice, output: Type, target: Field) -> Choice | None:
    """Return the experiment's own confusion metric, or one that goes with its loss; None without classes."""
    for metric in chosen:
        if metric.name == "confusion":
            return metric
    threshold = losses.midpoint(loss)
    choice = Choice(family="metric", name="confusion", arguments=(("threshold", threshold),))
    return choice if metrics.accepts(choice, output, target) is None else None


def predictions(forward: Forward, part: Batch) -> tuple[tuple[float, float], ...]:
    """Return pairs of target and output of the first rows; none unless both are single numbers."""
    piece = part.between(0, _PREDICTIONS)
    output: Any = forward(*piece.inputs)
    target: Any = piece.target
    if output.numel() != piece.rows or target.numel() != piece.rows:
        return ()
    return tuple(zip(target.flatten().tolist(), output.flatten().tolist(), strict=True))


def _chunks(part: Batch) -> Iterator[Batch]:
    for start in range(0, part.rows, _ROWS):
        yield part.between(start, start + _ROWS)


def _for_all(target: Tensor, output: Tensor) -> Tensor:
    return target.expand(output.shape[0], *target.shape)


def _exact(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()


def _stacked_metric(metric: Choice, outputs: list[Tensor], targets: list[Tensor]) -> list[float]:
    """Return a metric of each network: its meter runs once, on all networks at a time.

    What a meter has collected are its attributes; the tensors among them come out stacked.
    """
    import torch
    from torch import Tensor

    def collect(*own: Tensor) -> dict[str, Tensor]:
        for output, target in zip(own, targets, strict=True):
            meter.update(output, target)
        return {name: value for name, value in vars(meter).items() if isinstance(value, Tensor)}

    meter = metrics.build(metric)
    collected: dict[str, Tensor] = torch.vmap(collect)(*outputs)
    columns = {name: values.cpu().unbind(0) for name, values in collected.items()}
    found: list[float] = []
    for network in range(outputs[0].shape[0]):
        vars(meter).update({name: column[network] for name, column in columns.items()})
        found.append(float(meter.value()))
    return found
