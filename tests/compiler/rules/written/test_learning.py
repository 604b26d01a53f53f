"""What rules of the language learn: principal components, alignment with the gradient, and accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.load import load_source
from nnspec.dsl.source import Source

SPECS = Path(__file__).parents[4] / "specs" / "rules"


def fitted(spec: str, name: str) -> Experiment:
    bag = Bag()
    source = load_source(SPECS / spec, bag)
    assert source is not None
    found = check(source, bag)
    assert not bag.failed, [repr(error) for error in bag]
    return next(experiment for experiment in found.experiments if experiment.name == name)


def begun(spec: str, name: str, seed: int = 0) -> Learner:
    plan = prepare(fitted(spec, name).replace(seeds=(seed,)), Path("."), "cpu")
    return Learner(plan, plan.trials[0])


@pytest.mark.parametrize(("name", "count"), [("first_component", 1), ("leading_components", 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_units_find_principal_components(name: str, count: int, seed: int) -> None:
    """Against the eigenvectors of the covariance: to 1e-3, and in order."""
    learner = begun("principal_components.nnspec", name, seed)
    for _ in range(learner.plan.epochs):
        learner.epoch()
    x = learner.plan.train.inputs[0].double()
    assert x.mean(0).abs().max() < 1e-5  # standardised: the second moments are the covariance
    _, vectors = torch.linalg.eigh(x.T @ x / len(x))
    wanted = vectors.flip(1)[:, :count].T
    found = learner.state["unit.weight"].detach().double()
    signs = (found * wanted).sum(1, keepdim=True).sign()
    assert (found - signs * wanted).norm(dim=1).max() < 1e-3


def angle(learner: Learner) -> float:
    """The angle in degrees between the direction of the rule and the gradient, of the hidden layers."""
    group = learner.groups[0]
    learner.network.train()
    hidden = [name for name in group.names if not name.startswith("head")]
    state = dict(zip(group.names, group.parameters, strict=True))
    group.rule.direction(group, learner.plan.train, learner.streams)
    found = torch.cat([_grad(state[name]) for name in hidden])
    learner.network.zero_grad()
    group.mean_loss(learner.plan.train).backward()
    exact = torch.cat([_grad(state[name]) for name in hidden])
    learner.network.zero_grad()
    return float(torch.rad2deg(torch.arccos(torch.cosine_similarity(found, exact, dim=0))))


def _grad(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad.flatten().clone()


def test_feedback_alignment_aligns_and_learns_digits() -> None:
    learner = begun("feedback_alignment.nnspec", "aligned")
    before = angle(learner)
    for _ in range(6):
        learner.epoch()
    after = angle(learner)
    assert after < before - 20 and after < 70
    assert learner.scores()["test"][0]["accuracy"] > 0.90


def test_direct_feedback_learns_digits_through_convolutions() -> None:
    learner = begun("direct_feedback.nnspec", "dense_feedback")
    for _ in range(learner.plan.epochs):
        learner.epoch()
    assert learner.scores()["test"][0]["accuracy"] >= 0.95


@pytest.mark.parametrize(
    "rule", ["difference_target_propagation", "predictive_coding(steps = 10)", "kolen_pollack"]
)
def test_other_ways_back_learn_digits(rule: str) -> None:
    text = (SPECS / "feedback_alignment.nnspec").read_text(encoding="utf-8").replace("= fa\n", f"= {rule}\n")
    if rule.startswith("difference"):  # inverses are least squares, for which a rate of 0.1 is too much
        text = text.replace("sgd(lr = 0.1)", "adam(lr = 0.003)")
    bag = Bag()
    found = check(Source("test.nnspec", text), bag).experiments
    assert not bag.failed, [repr(error) for error in bag]
    plan = prepare(found[0].replace(seeds=(0,)), Path("."), "cpu")
    learner = Learner(plan, plan.trials[0])
    for _ in range(5):
        learner.epoch()
    assert learner.scores()["test"][0]["accuracy"] > 0.90
