"""What every rule keeps to: a direction changes no parameter, and a step is the optimizer's along it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[2]
  output y: real[2] = x -> dense(5) -> tanh -> dense(2) }}
experiment e {{ network = n
  data = moons(samples = 100)
  loss = cross_entropy
  learn = {rule}
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""
RULES = (
    "backprop",
    "backprop(clip = 0.01)",
    "weight_perturbation(samples = 3)",
    "random_subspace(dim = 5)",
    "adversarial_perturbation",
    "filtered_gradient(rate = 0.3, ramp = 0)",
)


def begun(rule: str) -> LearningGroup:
    bag = Bag()
    own = check(Source("test.nnspec", TEXT.format(rule=rule)), bag).experiments[-1]
    assert not bag.failed, [repr(error) for error in bag]
    plan = prepare(own, Path("."), "cpu")
    group = Learner(plan, plan.trials[0]).groups[0]
    group.network.train()
    return group


def copies(group: LearningGroup) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in group.parameters]


@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_the_optimizers_along_the_direction(rule: str) -> None:
    planned, stepped = begun(rule), begun(rule)
    before = copies(planned)
    learner = planned.learner
    loss = planned.rule.direction(planned, learner.plan.train, learner.streams)
    assert all(torch.equal(a, b) for a, b in zip(before, planned.parameters, strict=True))
    assert loss.dim() == 0 and not loss.requires_grad
    directions = [parameter.grad for parameter in planned.parameters if parameter.grad is not None]
    assert len(directions) == len(before) and any(bool(v.any()) for v in directions)

    other = stepped.rule.step(stepped, stepped.learner.plan.train, stepped.learner.streams)
    assert torch.equal(loss, other)
    for start, direction, now in zip(before, directions, stepped.parameters, strict=True):
        torch.testing.assert_close(now.detach(), start - 0.1 * direction, rtol=1e-12, atol=1e-14)


def test_a_clipped_direction_has_the_norm_it_is_cut_to() -> None:
    group = begun("backprop(clip = 0.01)")
    group.rule.direction(group, group.learner.plan.train, group.learner.streams)
    norm = torch.stack([p.grad.square().sum() for p in group.parameters if p.grad is not None]).sum().sqrt()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)
