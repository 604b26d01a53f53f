"""Adversarial model perturbation against the same steps by hand, and what it must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.train import train

TEXT = """
network n {{ input x: real[2]
  output y: real[2] = x -> dense(6) {extra} -> tanh -> dense(2) }}
experiment e {{ network = n
  data = moons(samples = 100)
  loss = cross_entropy
  learn = {rule}
  optimizer = sgd(lr = 0.1, momentum = 0.9)
  batch = 32
  precision = "float64"
  steps = 7 }}
"""
Begun = Callable[[str], LearningGroup]


def text(options: str, extra: str = "") -> str:
    return TEXT.format(rule=f"adversarial_perturbation({options})", extra=extra)


def by_hand(
    group: LearningGroup, steps: int, project: Callable[[list[Tensor]], list[Tensor]]
) -> list[Tensor]:
    """The gradient after some inner steps of length 0.7, all forwards with the same draws."""
    draws = group.draws()
    stored = [p.detach().clone() for p in group.parameters]
    v = [torch.zeros_like(p) for p in stored]
    found: list[Tensor] = []
    for _ in range(steps + 1):
        with torch.no_grad():
            for parameter, centre, own in zip(group.parameters, stored, v, strict=True):
                parameter.copy_(centre + own)
        group.draw_again(draws)
        found = list(torch.autograd.grad(group.mean_loss(group.learner.plan.train), group.parameters))
        v = project([own + 0.7 * g for own, g in zip(v, found, strict=True)])
    return found


def clip_each(v: list[Tensor]) -> list[Tensor]:
    return [own * min(1.0, 0.3 / float(own.square().sum().sqrt())) for own in v]


def sphere(v: list[Tensor]) -> list[Tensor]:
    size = float(torch.cat([own.flatten() for own in v]).square().sum().sqrt())
    return [own * 0.3 / size for own in v]


@pytest.mark.parametrize("extra", ["", "-> dropout(0.3)"])
@pytest.mark.parametrize(
    ("options", "steps", "project"),
    [
        ("eps = 0.3, inner_lr = 0.7", 1, clip_each),
        ("eps = 0.3, inner_lr = 0.7, inner_steps = 3", 3, clip_each),
        ('eps = 0.3, inner_lr = 0.7, ball = "global", project = "sphere"', 1, sphere),
    ],
)
def test_direction_is_the_gradient_at_the_worst_place(
    begun: Begun,
    options: str,
    steps: int,
    project: Callable[[list[Tensor]], list[Tensor]],
    extra: str,
) -> None:
    own, other = begun(text(options, extra)), begun(text(options, extra))
    draws = other.draws()
    own.draw_again(draws)
    before = [p.detach().clone() for p in own.parameters]
    own.rule.direction(own, own.learner.plan.train, own.learner.streams)
    other.draw_again(draws)
    for parameter, was, wanted in zip(own.parameters, before, by_hand(other, steps, project), strict=True):
        assert torch.equal(parameter, was) and parameter.grad is not None
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("extra", ["", "-> dropout(0.3)", "-> batchnorm"])
def test_without_a_ball_it_is_backpropagation(
    experiment: Callable[[str], Experiment], tmp_path: Path, extra: str
) -> None:
    losses: list[list[float]] = []
    for rule in ("adversarial_perturbation(eps = 0.0)", "backprop"):
        own = experiment(TEXT.format(rule=rule, extra=extra))
        result = train(own, root=tmp_path, out=tmp_path / rule[:3], device="cpu")
        losses.append([row["train"]["loss"] for row in result.history])
    assert losses[0] == losses[1]


def test_running_statistics_move_once_by_the_first_forward(begun: Begun) -> None:
    own, plain = (begun(text("eps = 0.5", "-> batchnorm")) for _ in range(2))
    own.rule.step(own, own.learner.plan.train, own.learner.streams)
    plain.mean_loss(plain.learner.plan.train)
    for (name, buffer), (_, wanted) in zip(
        own.network.named_buffers(), plain.network.named_buffers(), strict=True
    ):
        assert torch.equal(buffer, wanted), name


def test_a_gradient_of_zero_leaves_the_weights_where_they_are(begun: Begun) -> None:
    own = begun(text('eps = 0.3, project = "sphere"'))
    for parameter in own.parameters:
        parameter.data.zero_()  # then the gradient of every weight is zero, those of two biases are not
    own.rule.step(own, own.learner.plan.train, own.learner.streams)
    assert all(bool(parameter.isfinite().all()) for parameter in own.parameters)
