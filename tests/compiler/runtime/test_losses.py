"""Losses against their formulas, written out with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.runtime import losses
from nnspec.compiler.runtime.data import Field
from nnspec.dsl.catalog import validate

ENTRIES = {entry.name: entry for entry in losses.entries()}
LABEL = Field(name="label", dtype="int", classes=3, target=True)
BINARY = Field(name="label", dtype="int", classes=2, target=True)
NUMBER = Field(name="progress", target=True)


def choice(name: str, **given: Any) -> Choice:
    options, problems = validate(ENTRIES[name], given)
    assert not problems
    return Choice(family="loss", name=name, arguments=tuple(options.items()))


def typed(*sizes: int, dtype: str = "real") -> Type:
    return Type(axes=tuple(Axis(size=size) for size in sizes), dtype=dtype)


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


@pytest.fixture
def outputs() -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


LABELS = torch.tensor([0, 1, 2, 2, 1, 0, 1])


def test_cross_entropy(outputs: torch.Tensor) -> None:
    logs = log_softmax(outputs.numpy())
    expected = -logs[np.arange(7), LABELS.numpy()]
    np.testing.assert_allclose(losses.build(choice("cross_entropy"))(outputs, LABELS), expected)
    smoothed = 0.9 * expected - 0.1 * logs.mean(1)
    np.testing.assert_allclose(
        losses.build(choice("cross_entropy", smoothing=0.1))(outputs, LABELS), smoothed
    )


def test_negative_log_likelihood(outputs: torch.Tensor) -> None:
    logs = log_softmax(outputs.numpy())
    found = losses.build(choice("negative_log_likelihood"))(torch.from_numpy(logs), LABELS)
    np.testing.assert_allclose(found, -logs[np.arange(7), LABELS.numpy()])


def test_cross_entropy_over_positions_is_the_mean_over_them(outputs: torch.Tensor) -> None:
    loss = losses.build(choice("cross_entropy"))
    sequences, labels = outputs[:6].reshape(2, 3, 3), LABELS[:6].reshape(2, 3)
    expected = loss(outputs[:6], LABELS[:6]).reshape(2, 3).mean(1)
    torch.testing.assert_close(loss(sequences, labels), expected)


def test_values(outputs: torch.Tensor) -> None:
    targets = torch.linspace(-2, 2, 21, dtype=torch.float64).reshape(7, 3)
    error = (outputs - targets).numpy()
    huber = np.where(np.abs(error) <= 0.5, error**2 / 2, 0.5 * (np.abs(error) - 0.25))
    expected = {
        choice("mean_squared_error"): (error**2).mean(1),
        choice("mean_absolute_error"): np.abs(error).mean(1),
        choice("huber", delta=0.5): huber.mean(1),
    }
    for loss, values in expected.items():
        np.testing.assert_allclose(losses.build(loss)(outputs, targets), values)


def test_labels_are_one_hot_for_losses_of_numbers(outputs: torch.Tensor) -> None:
    expected = ((outputs.numpy() - np.eye(3)[LABELS.numpy()]) ** 2).mean(1)
    np.testing.assert_allclose(losses.build(choice("mean_squared_error"))(outputs, LABELS), expected)


@pytest.mark.parametrize("shape", [(7,), (7, 1)])
def test_binary_cross_entropy(outputs: torch.Tensor, shape: tuple[int, ...]) -> None:
    drive, labels = outputs[:, 0], LABELS % 2
    chance = 1 / (1 + np.exp(-drive.numpy()))
    expected = -np.where(labels.numpy() == 1, np.log(chance), np.log(1 - chance))
    found = losses.build(choice("binary_cross_entropy"))(drive.reshape(shape), labels)
    np.testing.assert_allclose(found, expected)


def test_hinge(outputs: torch.Tensor) -> None:
    values = outputs.numpy()
    worst = [
        max(0.0, *(2 - values[i, label] + values[i, j] for j in range(3) if j != label))
        for i, label in enumerate(LABELS.tolist())
    ]
    loss = losses.build(choice("hinge", margin=2.0))
    np.testing.assert_allclose(loss(outputs, LABELS), worst)
    signs = 2 * (LABELS % 2).numpy() - 1
    single = np.maximum(0, 2 - signs * values[:, 0])
    np.testing.assert_allclose(loss(outputs[:, :1], LABELS % 2), single)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_mean_is_the_mean_of_the_samples(name: str, outputs: torch.Tensor) -> None:
    single = name == "binary_cross_entropy"
    output, target = (outputs[:, :1], LABELS % 2) if single else (outputs, LABELS)
    loss = choice(name)
    each = losses.build(loss)(output, target)
    assert each.shape == (7,)
    torch.testing.assert_close(losses.mean(loss)(output, target), each.mean())


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_losses_vmap(name: str, outputs: torch.Tensor) -> None:
    single = name == "binary_cross_entropy"
    output, target = (outputs[:, :1], LABELS % 2) if single else (outputs, LABELS)
    loss = losses.mean(choice(name))
    stacked = torch.stack([output, 2 * output]), torch.stack([target, target.flip(0) % 2])
    expected = torch.stack([loss(a, b) for a, b in zip(*stacked, strict=True)])
    torch.testing.assert_close(torch.vmap(loss)(*stacked), expected)


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("cross_entropy", typed(3), LABEL),
        ("cross_entropy", typed(5, 3), LABEL.replace(shape=(5,))),
        ("binary_cross_entropy", typed(1), BINARY),
        ("binary_cross_entropy", typed(), BINARY),
        ("hinge", typed(1), BINARY),
        ("hinge", typed(3), LABEL),
        ("mean_squared_error", typed(1), NUMBER),
        ("mean_squared_error", typed(), NUMBER.replace(shape=(1,))),
        ("mean_squared_error", typed(3), LABEL),
        ("huber", typed(2, 2), NUMBER.replace(shape=(2, 2))),
    ],
)
def test_accepts(name: str, output: Type, target: Field) -> None:
    assert losses.accepts(choice(name), output, target) is None


@pytest.mark.parametrize(
    ("name", "output", "target", "why"),
    [
        ("cross_entropy", typed(4), LABEL, "one output for each of the 3 classes of `label`"),
        ("cross_entropy", typed(), BINARY, "one output for each of the 2 classes"),
        ("cross_entropy", typed(1), NUMBER, "needs a label, and `progress` holds numbers"),
        ("cross_entropy", typed(3, dtype="complex"), LABEL, "real output"),
        ("binary_cross_entropy", typed(3), LABEL, "tells two classes apart, and `label` has 3"),
        ("binary_cross_entropy", typed(2), BINARY, "number by number"),
        ("mean_squared_error", typed(2), NUMBER, "number by number"),
        ("hinge", typed(1), LABEL, "one output for each of the 3 classes"),
    ],
)
def test_refuses(name: str, output: Type, target: Field, why: str) -> None:
    misfit = losses.accepts(choice(name), output, target)
    assert misfit is not None and why in misfit.why
