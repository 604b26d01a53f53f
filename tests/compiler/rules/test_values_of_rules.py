"""What the papers on rules found, at the size of a test: trained, and compared seed by seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nnspec
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare

SPECS = Path(__file__).parents[3] / "specs" / "rules"


def fitted(file: str, name: str) -> Experiment:
    return nnspec.load(SPECS / f"{file}.nnspec").experiment(name).fitted


def trained(file: str, name: str) -> Learner:
    """The first seed of an experiment at the end of its training."""
    plan = prepare(fitted(file, name), SPECS, "cpu")
    learner = Learner(plan, plan.trials[0])
    for _ in range(plan.epochs):
        learner.epoch()
    return learner


def worst_loss(learner: Learner, radius: float, steps: int) -> float:
    """The training loss after steps of ascent as long as the radius, each tensor within a ball about its weights."""
    group = learner.groups[0]
    train = learner.plan.train
    centre = [p.detach().clone() for p in group.parameters]
    for _ in range(steps):
        found = torch.autograd.grad(group.mean_loss(train), group.parameters)
        with torch.no_grad():
            for parameter, own, up in zip(group.parameters, centre, found, strict=True):
                moved = parameter - own + radius * up / up.square().sum().sqrt()
                size = moved.square().sum().sqrt()
                parameter.copy_(own + moved * (radius / size).clamp(max=1.0))
    with torch.no_grad():
        return float(group.mean_loss(train))


@pytest.mark.slow
def test_adversarial_weights_lie_in_a_flatter_place() -> None:
    plain, flat = (trained("flat_minima", name) for name in ("few_noisy_digits", "adversarial_weights"))
    assert worst_loss(plain, 0.5, 5) >= 3 * worst_loss(flat, 0.5, 5)


@pytest.mark.slow
def test_filtering_by_gradient_keeps_the_right_samples_and_gains_three_points(tmp_path: Path) -> None:
    found = {
        name: nnspec.load(SPECS / "wrong_labels.nnspec").experiment(name).train(out=tmp_path)
        for name in ("all_samples", "by_gradient")
    }
    assert found["by_gradient"].mean["accuracy"] >= found["all_samples"].mean["accuracy"] + 0.03
    for seed in (0, 1, 2):
        last = [row for row in found["by_gradient"].history if row["seed"] == seed][-1]
        assert last["rule"]["purity"] >= 0.85
