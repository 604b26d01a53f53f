"""Filters against corrupted labels: scores against loops and closed forms, and what they come to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nnspec.compiler.pipeline import check
from nnspec.compiler.rules.filtered_gradient import (
    FilteredGradient,
    gradient_norms,
    lowest,
    output_norms,
)
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[4]
  output y: real[{outputs}] = x -> dense(6) {extra} -> tanh -> dense({outputs}) }}
experiment e {{ network = n
  data = {data}
  loss = {loss}
  learn = filtered_gradient({options})
  optimizer = sgd(lr = 0.1)
  batch = 20
  precision = "float64"
  epochs = 7 }}
"""
FLOWERS = {
    "data": "iris(corrupt = symmetric(0.3))",
    "outputs": "3",
    "loss": "cross_entropy",
    "options": "rate = 0.3, ramp = 0",
    "extra": "",
}
TWO = FLOWERS | {"data": "blobs(samples = 100, centers = 2, features = 4)", "outputs": "2"}
NUMBER = TWO | {"data": "gaussian_teacher(inputs = 4)", "outputs": "1", "loss": "mean_squared_error"}
Begun = Callable[[str], LearningGroup]


def text(**facts: str) -> str:
    return TEXT.format(**(FLOWERS | facts))


def norms_one_by_one(group: LearningGroup) -> Tensor:
    batch = group.learner.plan.train
    found: list[Tensor] = []
    for row in range(batch.rows):
        own = torch.autograd.grad(group.mean_loss(batch.between(row, row + 1)), group.parameters)
        found.append(torch.cat([g.flatten() for g in own]).square().sum().sqrt())
    return torch.stack(found)


@pytest.mark.parametrize("facts", [FLOWERS, NUMBER], ids=["flowers", "number"])
def test_norms_of_single_gradients_are_those_of_a_loop(begun: Begun, facts: dict[str, str]) -> None:
    group = begun(text(**facts))
    found = gradient_norms(group, group.learner.plan.train)
    torch.testing.assert_close(found, norms_one_by_one(group), rtol=1e-10, atol=1e-12)


def test_norms_of_single_gradients_in_closed_form(begun: Begun) -> None:
    """Of a chain of dense layers: the sum over layers of |delta|^2 (|a|^2 + 1)."""
    group = begun(text())
    batch = group.learner.plan.train
    first, _, second, _ = (p.detach() for p in group.parameters)
    (x,) = batch.inputs
    values: Tensor = group.network(x).detach()
    hidden = torch.tanh(torch.nn.functional.linear(x, first, group.parameters[1].detach()))
    last = values.softmax(1) - torch.nn.functional.one_hot(batch.target, 3)
    delta = (last @ second) * (1 - hidden.square())
    squares = last.square().sum(1) * (hidden.square().sum(1) + 1)
    squares = squares + delta.square().sum(1) * (x.square().sum(1) + 1)
    torch.testing.assert_close(gradient_norms(group, batch), squares.sqrt(), rtol=1e-10, atol=1e-12)


def test_norms_by_outputs_in_closed_form(begun: Begun) -> None:
    group = begun(text())
    batch = group.learner.plan.train
    values: Tensor = group.network(*batch.inputs).detach()
    wanted = (values.softmax(1) - torch.nn.functional.one_hot(batch.target, 3)).square().sum(1).sqrt()
    torch.testing.assert_close(output_norms(group, batch), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("facts", [TWO, NUMBER], ids=["two classes", "one number"])
def test_by_output_is_by_loss_where_one_number_decides(begun: Begun, facts: dict[str, str]) -> None:
    moved: list[Tensor] = []
    for by in ("output", "loss"):
        group = begun(text(**facts | {"options": f'rate = 0.3, ramp = 0, by = "{by}"'}))
        for _ in range(5):
            group.rule.step(group, group.learner.plan.train, group.learner.streams)
        moved.append(torch.cat([p.detach().flatten() for p in group.parameters]))
    assert torch.equal(*moved)


def test_by_output_is_not_by_loss_with_three_classes(begun: Begun) -> None:
    group = begun(text())
    batch = group.learner.plan.train
    for parameter in group.parameters:
        parameter.data.mul_(4)  # confident, and wrong in different ways
    by_output = lowest(output_norms(group, batch), 0.5)
    by_loss = lowest(group.sample_losses(batch).detach(), 0.5)
    assert not torch.equal(by_output, by_loss)


@pytest.mark.parametrize("by", ["gradient", "output", "loss"])
def test_direction_is_the_mean_gradient_of_the_samples_of_least_score(begun: Begun, by: str) -> None:
    group = begun(text(options=f'rate = 0.3, ramp = 0, by = "{by}"'))
    batch = group.learner.plan.train
    assert isinstance(group.rule, FilteredGradient)
    scores = group.rule.scores(group, batch).tolist()
    kept = sorted(
        sorted(range(batch.rows), key=lambda row: scores[row])[: batch.rows - int(0.3 * batch.rows)]
    )
    wanted = torch.autograd.grad(group.mean_loss(batch.take(torch.tensor(kept))), group.parameters)
    group.rule.direction(group, batch, group.learner.streams)
    for parameter, own in zip(group.parameters, wanted, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, own, rtol=1e-9, atol=1e-12)
    assert batch.true is not None
    purity = float((batch.target == batch.true)[kept].double().mean())
    assert group.learner.notes.means() == pytest.approx({"kept": len(kept) / batch.rows, "purity": purity})


def test_the_fraction_grows_over_the_first_epochs(begun: Begun) -> None:
    group = begun(text(options="rate = 0.4, ramp = 4"))
    assert isinstance(group.rule, FilteredGradient)
    found: list[float] = []
    for epoch in range(6):
        group.learner.phase_step = epoch * group.learner.phase.steps_per_epoch
        found.append(group.rule.dropped(group))
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_at_least_one_sample_is_kept() -> None:
    assert lowest(torch.tensor([3.0, 1.0]), 0.99).tolist() == [1]


COUPLED = {"loss": "cross_entropy(y, label) + 0.1 * sum(all(y) - y)"}


@pytest.mark.parametrize(
    ("by", "facts", "refused"),
    [
        ("gradient", {"extra": "-> batchnorm"}, True),
        ("output", {"extra": "-> batchnorm"}, False),
        ("gradient", COUPLED, True),
        ("output", COUPLED, True),
    ],
)
def test_samples_that_see_each_other_are_refused(by: str, facts: dict[str, str], refused: bool) -> None:
    bag = Bag()
    check(Source("test.nnspec", text(options=f'rate = 0.3, by = "{by}"', **facts)), bag)
    assert ("N0742" in [error.code for error in bag]) == refused
