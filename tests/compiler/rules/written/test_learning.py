"""What rules of the language learn: principal components, alignment with the gradient, and accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.runs import identity
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


RUN = """
use "rules.nnspec"
network n {
  input x: real[2]
  output y: real[2] = x -> dense(8) as a -> tanh -> dense(2) as b
}
experiment e {
  network = n
  data = moons(samples = 60)
  loss = cross_entropy
  learn = own
  optimizer = sgd(lr = 0.1)
  stages = [fit(epochs = 1), prune(density = 0.5, select = a.weight), fit(epochs = 1)]
  precision = "PRECISION"
}
"""
OWN = """
rule own(decay: real = 0.1) {
  feedback B: output -> post = normal(std = 0.1)
  error = B(output.error) * post.derivative
  update weight -= error * pre + decay * weight
}
"""


def planned(folder: Path, rule: str, precision: str = "float32") -> Plan:
    (folder / "rules.nnspec").write_text(rule, encoding="utf-8")
    (folder / "main.nnspec").write_text(RUN.replace("PRECISION", precision), encoding="utf-8")
    bag = Bag()
    source = load_source(folder / "main.nnspec", bag)
    assert source is not None
    found = check(source, bag).experiments
    assert not bag.failed, [repr(error) for error in bag]
    return prepare(found[-1], folder, "cpu")


def test_runs_are_named_by_the_equations_of_a_used_file_too(tmp_path: Path) -> None:
    first = identity(planned(tmp_path, OWN))
    assert first == identity(planned(tmp_path, OWN))
    assert first != identity(planned(tmp_path, OWN.replace("* pre +", "* pre -")))


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_feedback_lasts_through_stages_in_every_precision(tmp_path: Path, precision: str) -> None:
    plan = planned(tmp_path, OWN, precision)
    learner = Learner(plan, plan.trials[0])
    learner.epoch()
    before = {name: tensor.clone() for name, tensor in learner.feedback.items()}
    learner.enter(1)
    learner.epoch()
    assert before and before.keys() == learner.feedback.keys()
    assert all(torch.equal(tensor, learner.feedback[name]) for name, tensor in before.items())
    pruned = learner.state["a.weight"] == 0
    assert int(pruned.sum()) == 8
