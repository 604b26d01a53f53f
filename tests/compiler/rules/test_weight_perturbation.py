"""Weight perturbation: a direction that is the gradient on average, without ever differentiating."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.compiler.rules.registry import rule
from nnspec.compiler.rules.weight_perturbation import WeightPerturbation
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.train import train
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[2]
  output y: real[2] = x -> dense(5) -> tanh {extra} -> dense(2) }}
experiment e {{ network = n
  data = moons(samples = 100)
  loss = cross_entropy
  learn = weight_perturbation(sigma = 0.001, samples = 4000, antithetic = {antithetic})
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""


def planned(**facts: str) -> Plan:
    bag = Bag()
    own = check(Source("test.nnspec", TEXT.format(**{"extra": "", **facts})), bag).experiments[-1]
    assert not bag.failed
    return prepare(own, Path("."), "cpu")


def direction_and_gradient(plan: Plan) -> tuple[torch.Tensor, torch.Tensor, LearningGroup]:
    group = Learner(plan, plan.trials[0]).groups[0]
    group.network.train()
    perturbation = rule("weight_perturbation")
    assert isinstance(perturbation, WeightPerturbation)
    before = group.draws()
    with torch.no_grad():
        found, _ = perturbation.directions(group, plan.train, group.learner.streams)
    group.draw_again(before)
    group.mean_loss(plan.train).backward()
    gradient = [p.grad for p in group.parameters if p.grad is not None]
    return torch.cat([v.flatten() for v in found]), torch.cat([v.flatten() for v in gradient]), group


@pytest.mark.parametrize("facts", [{"antithetic": "true"}, {"antithetic": "false"}])
@pytest.mark.parametrize("extra", ["", "-> dropout(0.3)"])
def test_average_direction_is_the_gradient(facts: dict[str, str], extra: str) -> None:
    """The mean of k directions in d dimensions has a relative error of about sqrt(d / k): here 0.08."""
    found, gradient, _ = direction_and_gradient(planned(extra=extra, **facts))
    assert torch.cosine_similarity(found, gradient, dim=0) > 0.99
    assert found.norm() == pytest.approx(gradient.norm().item(), rel=0.1)


def test_weights_are_where_they_were() -> None:
    plan = planned(antithetic="true")
    before = Learner(plan, plan.trials[0]).groups[0]
    _, _, after = direction_and_gradient(plan)
    assert all(torch.equal(a, b) for a, b in zip(before.parameters, after.parameters, strict=True))


def test_running_statistics_move_once() -> None:
    plan = planned(antithetic="true", extra="-> batchnorm")
    _, _, group = direction_and_gradient(plan)  # one step's directions, and one forward for the gradient
    counts = [b for name, b in group.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert [int(count) for count in counts] == [2]


@pytest.fixture
def no_differentiation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("differentiated")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)


@pytest.mark.usefixtures("no_differentiation")
def test_learns_without_differentiating(experiment: Callable[[str], Experiment], tmp_path: Path) -> None:
    text = TEXT.format(extra="", antithetic="true").replace("4000", "40").replace("epochs = 1", "epochs = 60")
    own = experiment(text.replace("epochs", "metrics = [accuracy]\n  epochs"))
    result = train(own, root=tmp_path, out=tmp_path, device="cpu")
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < 0.6 * losses[0]
    assert result.seeds[0].metrics["train.accuracy"] > 0.8


@pytest.mark.usefixtures("no_differentiation")
def test_backprop_would_be_caught(experiment: Callable[[str], Experiment], tmp_path: Path) -> None:
    import re

    text = re.sub(r"weight_perturbation\(.*\)", "backprop", TEXT.format(extra="", antithetic="true"))
    with pytest.raises(AssertionError, match="differentiated"):
        train(experiment(text), root=tmp_path, out=tmp_path, device="cpu")
