"""Metrics against scikit-learn, fed in uneven batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.runtime import metrics
from nnspec.compiler.runtime.data import Field

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def over_batches(name: str, output: torch.Tensor, target: torch.Tensor, **options: Any) -> Any:
    meter = metrics.build(Choice(family="metric", name=name, arguments=tuple(options.items())))
    for start, stop in ((0, 10), (10, 11), (11, 50)):
        meter.update(output[start:stop], target[start:stop])
    return meter.value()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_classes(generator: torch.Generator) -> None:
    output = torch.randn(50, 4, generator=generator)
    target = torch.randint(4, (50,), generator=generator)
    predicted = output.argmax(1)
    assert over_batches("accuracy", output, target, threshold=0.5) == pytest.approx(
        sklearn_metrics.accuracy_score(target, predicted)
    )
    expected = sklearn_metrics.confusion_matrix(target, predicted, labels=range(4)).tolist()
    assert over_batches("confusion", output, target, threshold=0.5) == expected


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_single_output_is_cut_at_the_threshold(generator: torch.Generator, threshold: float) -> None:
    output = torch.randn(50, 1, generator=generator)
    target = torch.randint(2, (50,), generator=generator)
    predicted = (output[:, 0] > threshold).long()
    assert over_batches("accuracy", output, target, threshold=threshold) == pytest.approx(
        sklearn_metrics.accuracy_score(target, predicted)
    )
    expected = sklearn_metrics.confusion_matrix(target, predicted).tolist()
    assert over_batches("confusion", output, target, threshold=threshold) == expected


@pytest.mark.parametrize("outputs", [1, 3])
def test_values(generator: torch.Generator, outputs: int) -> None:
    # A large offset: naive sums of squares would lose every digit of r2 in single precision.
    target = 1000 + torch.randn(50, outputs, generator=generator)
    output = target + 0.3 * torch.randn(50, outputs, generator=generator)
    exact = {
        "mean_squared_error": sklearn_metrics.mean_squared_error,
        "mean_absolute_error": sklearn_metrics.mean_absolute_error,
        "r2": sklearn_metrics.r2_score,
    }
    for name, reference in exact.items():
        found = over_batches(name, output, target)
        assert found == pytest.approx(reference(target.double(), output.double()), rel=1e-5)


def test_targets_of_one_axis_less() -> None:
    target = torch.linspace(0, 1, 50)
    assert over_batches("mean_squared_error", (target + 0.5)[:, None], target) == pytest.approx(0.25)
    assert over_batches("r2", target[:, None], target) == 1.0


def test_empty_meters_have_no_value() -> None:
    for name in ("accuracy", "mean_squared_error", "mean_absolute_error", "r2"):
        value = metrics.build(Choice(family="metric", name=name, arguments=(("threshold", 0.0),))).value()
        assert value != value
    assert (
        metrics.build(Choice(family="metric", name="confusion", arguments=(("threshold", 0.0),))).value()
        == []
    )


def test_which_way_is_better() -> None:
    words = [Choice(family="metric", name=name) for name in ("accuracy", "r2", "mean_squared_error")]
    assert [metrics.better(word) for word in words] == ["higher", "higher", "lower"]
    assert metrics.better(None) == "lower"  # the loss


def test_accepts() -> None:
    label = Field(name="label", dtype="int", classes=3, target=True)
    number = Field(name="progress", target=True)
    three, one = (Type(axes=(Axis(size=size),)) for size in (3, 1))
    accuracy, r2 = (Choice(family="metric", name=name) for name in ("accuracy", "r2"))
    assert metrics.accepts(accuracy, three, label) is None
    assert metrics.accepts(accuracy, one, label) is not None
    assert metrics.accepts(accuracy, one, number) is not None
    assert metrics.accepts(r2, one, number) is None
    assert metrics.accepts(r2, three, number) is not None
