"""Metrics over whole sets: fed batch by batch, read once.

In: outputs and targets, batch first. Out: a number (for `confusion` a table). `update` stays on the
device and never waits for it; `value` reads the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nnspec.compiler.experiment import Choice, Judged, Objective
from nnspec.compiler.ir import Type
from nnspec.compiler.runtime.component import Component, Misfit, registered
from nnspec.compiler.runtime.data.field import Field
from nnspec.dsl.catalog import Argument, Entry

if TYPE_CHECKING:
    from torch import Tensor


class Meter(Protocol):
    """Collects a metric over a set."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in one batch."""
        ...

    def value(self) -> Any:
        """Return the metric over all batches so far."""
        ...


class Metric(Component):
    """A metric. `better` says which way is up, for early stopping and for choosing the best epoch."""

    family = "metric"
    better: ClassVar[str]  # "higher" or "lower"

    def meter(self, options: dict[str, Any]) -> Meter:
        """Return an empty meter."""
        raise TypeError(f"{self.name} has no meter")

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        """Return why an output and a target do not fit the metric, None if they do."""
        raise TypeError(f"{self.name} says nothing of what it accepts")


_THRESHOLD = Argument(
    name="threshold",
    kind="real",
    default=None,
    nullable=True,
    doc="above it a single output means class 1; none: halfway between what the loss aims at",
)


class Accuracy(Metric):
    name = "accuracy"
    doc = "The part of the labels that is the class of the largest output."
    arguments = (_THRESHOLD,)
    example = "metrics = [accuracy]"
    better = "higher"

    def meter(self, options: dict[str, Any]) -> Meter:
        return _AccuracyMeter(options["threshold"] or 0.0)

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _classifies(self.name, output, target)


class Confusion(Metric):
    name = "confusion"
    doc = "The table of counts: row i, column j is how often class i was taken for class j."
    arguments = (_THRESHOLD,)
    example = "metrics = [accuracy, confusion]"
    better = "higher"

    def meter(self, options: dict[str, Any]) -> Meter:
        return _ConfusionMeter(options["threshold"] or 0.0)

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _classifies(self.name, output, target)


class MeanSquaredError(Metric):
    name = "mean_squared_error"
    doc = "Mean of (y - target)^2 over rows and outputs."
    example = "metrics = [mean_squared_error]"
    better = "lower"

    def meter(self, options: dict[str, Any]) -> Meter:
        return _ErrorMeter(power=2)

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _measures(self.name, output, target)


class MeanAbsoluteError(Metric):
    name = "mean_absolute_error"
    doc = "Mean of |y - target| over rows and outputs."
    example = "metrics = [mean_absolute_error]"
    better = "lower"

    def meter(self, options: dict[str, Any]) -> Meter:
        return _ErrorMeter(power=1)

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _measures(self.name, output, target)


class R2(Metric):
    name = "r2"
    doc = """Coefficient of determination: 1 - sum (target - y)^2 / sum (target - mean target)^2, the mean
over the outputs; 0 where a target does not vary, 1 if it is met exactly."""
    example = "metrics = [r2]"
    better = "higher"

    def meter(self, options: dict[str, Any]) -> Meter:
        return _R2Meter()

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _measures(self.name, output, target)


_METRICS: dict[str, Metric] = registered(
    (Accuracy(), Confusion(), MeanSquaredError(), MeanAbsoluteError(), R2())
)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the metrics."""
    return tuple(metric.entry() for metric in _METRICS.values())


def build(metric: Judged) -> Meter:
    """Return an empty meter of a metric; an expression's own numbers are averaged."""
    word = metric.metric if isinstance(metric, Objective) else metric
    return _MeanMeter() if word is None else _METRICS[word.name].meter(word.options)


def accepts(choice: Choice, output: Type, target: Field) -> Misfit | None:
    """Return why an output type and a target field do not fit a metric, None if they do."""
    return _METRICS[choice.name].accepts(output, target)


def better(metric: Judged | None) -> str:
    """Return "higher" or "lower": which way a metric is better; None stands for the loss."""
    word = metric.metric if isinstance(metric, Objective) else metric
    return "lower" if word is None else _METRICS[word.name].better


# ---------------------------------------------------------------------------------------------- meters


class _AccuracyMeter:
    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.count = 0
        self.correct: Tensor | None = None

    def update(self, output: Tensor, target: Tensor) -> None:
        right = (_predicted(output, target, self.threshold) == target).sum()
        self.correct = right if self.correct is None else self.correct + right
        self.count += target.numel()

    def value(self) -> float:
        return float("nan") if self.correct is None else int(self.correct) / self.count


class _ConfusionMeter:
    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.counts: Tensor | None = None

    def update(self, output: Tensor, target: Tensor) -> None:
        classes = 2 if output.numel() == target.numel() else output.shape[-1]
        cells = target.flatten() * classes + _predicted(output, target, self.threshold).flatten()
        counts = cells.bincount(minlength=classes * classes).reshape(classes, classes)
        self.counts = counts if self.counts is None else self.counts + counts

    def value(self) -> list[list[int]]:
        counts: Any = self.counts
        return [] if counts is None else counts.tolist()


class _MeanMeter:
    """The mean of numbers, one a sample: what a metric computes is its `output`."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | None = None

    def update(self, output: Tensor, target: Tensor) -> None:
        total = _exact(output).sum()
        self.total = total if self.total is None else self.total + total
        self.count += output.numel()

    def value(self) -> float:
        return float("nan") if self.total is None else float(self.total) / self.count


class _ErrorMeter:
    def __init__(self, power: int) -> None:
        self.power = power
        self.count = 0
        self.total: Tensor | None = None

    def update(self, output: Tensor, target: Tensor) -> None:
        error = _exact(output - _shaped(target, output)).abs()
        total = (error * error if self.power == 2 else error).sum()
        self.total = total if self.total is None else self.total + total
        self.count += output.numel()

    def value(self) -> float:
        return float("nan") if self.total is None else float(self.total) / self.count


class _R2Meter:
    """Chan, Golub and LeVeque (1979): sums of squares merged over batches without cancellation."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.spread: Tensor | None = None  # sum (target - mean)^2, an entry an output
        self.residual: Tensor | None = None

    def update(self, output: Tensor, target: Tensor) -> None:
        rows = output.shape[0]
        wanted = _exact(_shaped(target, output)).reshape(rows, -1)
        residual = (wanted - _exact(output).reshape(rows, -1)).square().sum(0)
        mean = wanted.mean(0)
        spread = (wanted - mean).square().sum(0)
        if self.mean is None or self.spread is None or self.residual is None:
            self.count, self.mean, self.spread, self.residual = rows, mean, spread, residual
            return
        count = self.count + rows
        shift = mean - self.mean
        self.mean = self.mean + shift * (rows / count)
        self.spread = self.spread + spread + shift.square() * (self.count * rows / count)
        self.residual = self.residual + residual
        self.count = count

    def value(self) -> float:
        spread: Any = self.spread
        residual: Any = self.residual
        if spread is None:
            return float("nan")
        pairs: list[tuple[float, float]] = list(zip(spread.tolist(), residual.tolist(), strict=True))
        scores = [1 - left / whole if whole > 0 else float(left == 0) for whole, left in pairs]
        return sum(scores) / len(scores)


def _predicted(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    if output.numel() == target.numel():
        return (output.reshape(target.shape) > threshold).to(target.dtype)
    return output.argmax(-1)


def _shaped(target: Tensor, output: Tensor) -> Tensor:
    if target.numel() == output.numel():
        return target.reshape(output.shape)
    import torch

    return (target.unsqueeze(-1) == torch.arange(output.shape[-1], device=output.device)).to(output.dtype)


def _exact(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()


# ------------------------------------------------------------------------------------------- what fits


def _classifies(name: str, output: Type, target: Field) -> Misfit | None:
    if target.classes is None:
        why = f"`{name}` counts labels, and `{target.name}` holds numbers"
        return Misfit(why=why, found=str(target), help="use `r2` or `mean_squared_error` for numbers")
    if output.shape == (*target.shape, target.classes):
        return None
    if target.classes == 2 and output.shape in (target.shape, (*target.shape, 1)):
        return None
    sizes = ", ".join(str(size) for size in (*target.shape, target.classes))
    why = f"`{name}` needs one output for each of the {target.classes} classes of `{target.name}`"
    return Misfit(why=why, expected=f"real[{sizes}]", found=str(output))


def _measures(name: str, output: Type, target: Field) -> Misfit | None:
    shapes = [target.shape, (*target.shape, 1)]
    if target.classes is not None:
        shapes.append((*target.shape, target.classes))
    if output.shape in shapes:
        return None
    why = f"`{name}` compares the output with `{target.name}` number by number"
    return Misfit(why=why, expected=target.type_text, found=str(output))
