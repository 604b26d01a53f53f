"""Scores of a network on whole parts: the mean loss and the metrics.

In: a forward (one network's, or many stacked ones'), its weights, a part, an experiment's loss and metrics. Out:
plain numbers by name. Rows go through in chunks of a fixed size, so that numbers do not depend on the batch;
a loss in which samples see each other is measured over batches of the size that it is trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.experiment import Choice, Judged, Objective, objectives_in
from nnspec.compiler.objective_checks import midpoint
from nnspec.compiler.runtime import losses, metrics
from nnspec.compiler.runtime.objectives import compared, per_sample
from nnspec.compiler.runtime.plan import Batch, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.objectives import State

    Forward = Callable[..., Any]

_ROWS = 2048  # of a chunk
_PREDICTIONS = 2000  # rows whose outputs a report may draw


class Scorer:
    """Measures the loss and those metrics that are numbers."""

    def __init__(self, plan: Plan) -> None:
        experiment = plan.experiment
        self.plan = plan
        self.loss = experiment.loss
        self.per_sample = per_sample(experiment.loss, plan.sources)
        self.metrics = tuple(metric for metric in experiment.metrics if word_of(metric) != "confusion")
        self.compared = [compared(metric, plan.sources) for metric in self.metrics]
        coupled = any(objective.coupled for objective in objectives_in(experiment))
        self.rows = (experiment.batch or plan.train.rows) if coupled else _ROWS

    def scores(self, forward: Forward, part: Batch, weights: State) -> dict[str, float]:
        """Return the scores of one network."""
        meters = [metrics.build(metric) for metric in self.metrics]
        sums: list[Tensor] = []
        for piece in self.chunks(part):
            values = forward(*piece.inputs)
            sums.append(_exact(self.per_sample(values, piece, weights)).sum())
            for meter, compare in zip(meters, self.compared, strict=True):
                output, target = compare(values, piece, weights)
                meter.update(output.float() if output.itemsize < 4 else output, target)
        found = {"loss": float(sum(sums)) / part.rows}
        pairs = zip(self.metrics, meters, strict=True)
        return found | {metric.name: float(meter.value()) for metric, meter in pairs}

    def stacked_scores(self, forward: Forward, part: Batch, weights: State) -> list[dict[str, float]]:
        """Return the scores of each of many networks; `forward` gives (network, row, ...)."""
        pieces = list(self.chunks(part))
        outputs = [forward(*piece.inputs) for piece in pieces]
        sums = [
            _exact(self.stacked_losses(values, piece, weights)).sum(1)
            for values, piece in zip(outputs, pieces, strict=True)
        ]
        means: Any = sum(sums) / part.rows
        found: list[dict[str, float]] = [{"loss": mean} for mean in means.tolist()]
        for metric, compare in zip(self.metrics, self.compared, strict=True):
            values = _stacked_metric(metric, compare, outputs, pieces, weights)
            for own, value in zip(found, values, strict=True):
                own[metric.name] = value
        return found

    def stacked_losses(self, values: Any, piece: Batch, weights: State) -> Tensor:
        """Return per-sample losses (network, row) of values (network, row, ...) on rows that all share."""
        import torch

        if isinstance(self.loss, Choice):
            output = cast("Tensor", values[0] if isinstance(values, tuple) else values)
            target = piece.target.expand(output.shape[0], *piece.target.shape)
            return stacked_losses(losses.build(self.loss), output, target)
        over = torch.vmap(lambda own, state: self.per_sample(own, piece, state))
        return over(values, dict(weights))

    def tables(self, forward: Forward, part: Batch, weights: State, choice: Judged | None) -> tuple[Any, Any]:
        """Return the table of counts by class and predicted class, and pairs of target and output."""
        table = None if choice is None else self.confusion(forward, part, weights, choice)
        return table, self.predictions(forward, part) if isinstance(self.loss, Choice) else ()

    def confusion(self, forward: Forward, part: Batch, weights: State, choice: Judged) -> Any:
        compare, meter = compared(choice, self.plan.sources), metrics.build(choice)
        for piece in self.chunks(part):
            meter.update(*compare(forward(*piece.inputs), piece, weights))
        return tuple(tuple(row) for row in meter.value())

    def predictions(self, forward: Forward, part: Batch) -> tuple[tuple[float, float], ...]:
        """Return pairs of target and output of the first rows; none unless both are single numbers."""
        piece = part.between(0, _PREDICTIONS)
        values: Any = forward(*piece.inputs)
        output: Any = cast("Any", values[0] if isinstance(values, tuple) else values)
        target: Any = piece.target
        if output.numel() != piece.rows or target.numel() != piece.rows:
            return ()
        return tuple(zip(target.flatten().tolist(), output.flatten().tolist(), strict=True))

    def chunks(self, part: Batch) -> Iterator[Batch]:
        for start in range(0, part.rows, self.rows):
            yield part.between(start, start + self.rows)


def word_of(metric: Judged) -> str | None:
    """Return the word of a metric; None for an expression whose mean is reported."""
    word = metric.metric if isinstance(metric, Objective) else metric
    return None if word is None else word.name


def stacked_losses(per_sample: Forward, output: Tensor, target: Tensor) -> Tensor:
    """Return per-sample losses (network, row) of outputs and targets (network, row, ...)."""
    return per_sample(output.flatten(0, 1), target.flatten(0, 1)).view(output.shape[:2])


def confusion_choice(plan: Plan) -> Judged | None:
    """Return the experiment's own confusion metric, or one that goes with its loss or with an accuracy that it
    asks for; None without classes."""
    experiment = plan.experiment
    asked = {word_of(metric): metric for metric in reversed(experiment.metrics)}
    if "confusion" in asked:
        return asked["confusion"]
    if isinstance(experiment.loss, Objective):
        found = asked.get("accuracy")
        threshold = None if found is None else _word(found)["threshold"]
    else:
        found, threshold = experiment.loss, midpoint(experiment.loss, experiment.loss)
    word = Choice(family="metric", name="confusion", arguments=(("threshold", threshold),))
    if isinstance(found, Objective):  # the places in a batch are no classes
        return None if found.coupled else found.replace(metric=word)
    root = plan.graph.root
    if found is None or len(root.outputs) != 1:
        return None
    output = dict(root.types)[root.outputs[0].value]
    return word if metrics.accepts(word, output, plan.target) is None else None


def _word(metric: Judged) -> Choice:
    word = metric.metric if isinstance(metric, Objective) else metric
    assert word is not None
    return word


def _exact(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()


def _stacked_metric(
    metric: Judged, compare: Forward, outputs: list[Any], pieces: list[Batch], weights: State
) -> list[float]:
    """Return a metric of each network: its meter runs once, on all networks at a time.

    What a meter has collected are its attributes; the tensors among them come out stacked.
    """
    import torch
    from torch import Tensor

    def collect(own: tuple[Any, ...], state: State) -> dict[str, Tensor]:
        for values, piece in zip(own, pieces, strict=True):
            meter.update(*compare(values, piece, state))
        return {name: value for name, value in vars(meter).items() if isinstance(value, Tensor)}

    meter = metrics.build(metric)
    state = dict(weights)
    collected: dict[str, Tensor] = torch.vmap(collect)(tuple(outputs), state)
    columns = {name: values.cpu().unbind(0) for name, values in collected.items()}
    found: list[float] = []
    for network in range(len(next(iter(state.values())))):
        vars(meter).update({name: column[network] for name, column in columns.items()})
        found.append(float(meter.value()))
    return found
