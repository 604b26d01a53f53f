"""Probability flow against the sum over all states, its local rule, and machines that are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import nnspec
from nnspec.compiler.pipeline import check
from nnspec.compiler.rules.probability_flow import flow
from nnspec.compiler.runtime.data.boltzmann import all_states, log_weights, teacher
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag, RunError
from nnspec.dsl.source import Source

VISIBLE = """
network machine { input x: real[6]
  parameter weight: real[6, 6] = normal(std = 0.7)
  parameter bias: real[6] = normal(std = 0.5)
  output energy = -sum((x @ weight) * x) / 2 - sum(bias * x)
  constrain weight: mask((i, j) => i != j) }
"""
HIDDEN = """
network machine { input x: real[6]
  parameter weight: real[6, 3] = normal(std = 0.7)
  parameter bias: real[6] = normal(std = 0.5)
  parameter hidden_bias: real[3] = normal(std = 0.5)
  drive = x @ weight + hidden_bias
  h = %s
  output energy = -sum((x @ weight) * h) - sum(bias * x) - sum(hidden_bias * h)
  output free_energy = -sum(bias * x) - sum(softplus(drive)) }
"""
SAMPLED = HIDDEN % "where(sample(uniform, like = drive) < sigmoid(drive), 1, 0)"
MEAN_FIELD = HIDDEN % "sigmoid(drive)"
EXPERIMENT = """
experiment e {{ network = machine
  data = {data}
  loss = {loss}
  learn = probability_flow({options})
  optimizer = sgd(lr = 0.1)
  batch = 40
  precision = "float64"
  epochs = 1 }}
"""
SPEC = Path(__file__).parents[3] / "specs" / "rules" / "boltzmann.nnspec"
Begun = Callable[[str], LearningGroup]


def text(network: str, **facts: str) -> str:
    given = {"data": "boltzmann_teacher(units = 6, samples = 100)", "loss": "energy", "options": ""}
    return network + EXPERIMENT.format(**given | facts)


def batch_of(group: LearningGroup) -> Tensor:
    return group.learner.plan.train.inputs[0]


def test_the_direction_is_the_local_rule(begun: Begun) -> None:
    """dK/dW_ij = [(1 - 2 x_i) G_i x_j + (1 - 2 x_j) G_j x_i] / 2, dK/db_i = (1 - 2 x_i) G_i / 2, both averaged."""
    group = begun(text(VISIBLE))
    x = batch_of(group)
    raw, bias = (group.network.get_parameter(name).detach() for name in ("weight", "bias"))
    raw = raw * (1 - torch.eye(6))
    weight = (raw + raw.T) / 2  # the energy sees no other part of it
    spread = (1 - 2 * x) * ((1 - 2 * x) * (x @ weight + bias) / 2).exp()
    loss = group.rule.direction(group, group.learner.plan.train, group.learner.streams)
    assert float(loss) == pytest.approx(float((spread * (1 - 2 * x)).sum(1).mean()), rel=1e-12)
    local = (spread.T @ x + x.T @ spread) / 2 / len(x)
    found = group.network.get_parameter("weight").grad
    assert found is not None
    local = local * (1 - torch.eye(6)) / 2  # each coupling is stored twice, and each gets half
    assert float((found - local).abs().max()) < 1e-8
    own = group.network.get_parameter("bias").grad
    assert own is not None
    assert float((own - spread.mean(0) / 2).abs().max()) < 1e-8


@pytest.mark.parametrize("network", [SAMPLED, MEAN_FIELD], ids=["sampled", "mean field"])
def test_hidden_units_are_inferred_once_and_turned_too(begun: Begun, network: str) -> None:
    group = begun(text(network, options='hidden = "h"'))
    batch = group.learner.plan.train
    x = batch_of(group)
    own = {name: p.detach().clone().requires_grad_() for name, p in group.network.named_parameters()}
    draws = group.draws()
    drive = (x @ own["weight"] + own["hidden_bias"]).detach()
    h = torch.sigmoid(drive)
    if network is SAMPLED:
        h = (torch.rand_like(drive) < h).double()
    group.draw_again(draws)

    def energy(x: Tensor, h: Tensor) -> Tensor:
        return -((x @ own["weight"]) * h).sum(1) - x @ own["bias"] - h @ own["hidden_bias"]

    wanted = torch.zeros((), dtype=torch.float64)
    for state, others in ((x, h), (h, x)):
        for unit in range(state.shape[1]):
            turned = state.clone()
            turned[:, unit] = 1 - turned[:, unit]
            there = energy(turned, others) if state is x else energy(others, turned)
            wanted = wanted + ((energy(x, h) - there) / 2).exp().mean()
    gradients = dict(zip(own, torch.autograd.grad(wanted, list(own.values())), strict=True))
    loss = group.rule.direction(group, batch, group.learner.streams)
    assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-12)
    for name, parameter in group.network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-12)


def test_of_the_exact_posterior_turned_hidden_units_teach_nothing_on_average(begun: Begun) -> None:
    """Their share of the gradient has mean zero: (1 - 2h) exp((1 - 2h) a / 2) over h at sigmoid(a)."""
    a = torch.linspace(-4, 4, 9, dtype=torch.float64)
    p = torch.sigmoid(a)
    mean = p * -(-a / 2).exp() + (1 - p) * (a / 2).exp()
    assert float(mean.abs().max()) < 1e-12


def test_states_are_turned_a_few_at_a_time(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    group = begun(text(VISIBLE))
    batch = group.learner.plan.train
    whole = flow(group, batch, batch.inputs)
    monkeypatch.setattr("nnspec.compiler.rules.probability_flow._ROWS", 2 * batch.rows)
    assert float(flow(group, batch, batch.inputs).detach()) == pytest.approx(float(whole.detach()), rel=1e-12)


def test_a_machine_that_made_the_data_is_where_the_flow_is_least(begun: Begun) -> None:
    """Weighted by their own probabilities, states exchange a flow whose gradient vanishes at the machine itself."""
    group = begun(text(VISIBLE, data="boltzmann_teacher(units = 6, samples = 100, test = 0)"))
    states = torch.tensor(all_states(6), dtype=torch.float64)
    batch = group.learner.plan.train
    rows = batch.take(torch.zeros(64, dtype=torch.int64))
    with torch.no_grad():
        energy: Tensor = group.network(states)
    chances = torch.softmax(-energy, 0)
    total = torch.zeros((), dtype=torch.float64)
    for number in range(64):
        one = rows.between(number, number + 1)
        total = total + chances[number] * flow(group, one, (states[number : number + 1],))
    found = torch.autograd.grad(total, group.parameters)
    assert max(float(own.abs().max()) for own in found) < 1e-12


# ------------------------------------------------------------------------------------------- known machines


def trained(name: str) -> Learner:
    plan = prepare(nnspec.load(SPEC).experiment(name).fitted, SPEC.parent, "cpu")
    learner = Learner(plan, plan.trials[0])
    for _ in range(plan.epochs):
        learner.epoch()
    learner.network.eval()
    return learner


def divergence(learner: Learner, output: int | None) -> float:
    """KL(p || q) by the sum over all states."""
    options = learner.plan.experiment.data.options
    machine = teacher(options, np.random.default_rng([options["seed"], 0]))
    states = all_states(options["units"])
    with torch.no_grad():
        found = learner.network(torch.tensor(states, dtype=learner.plan.dtype))
    own = -(found if output is None else found[output]).double().numpy()
    p, q = (scores - np.logaddexp.reduce(scores) for scores in (log_weights(machine, states), own))
    return float((np.exp(p) * (p - q)).sum())


def test_couplings_are_found_from_samples() -> None:
    learner = trained("all_seen")
    options = learner.plan.experiment.data.options
    machine = teacher(options, np.random.default_rng([options["seed"], 0]))
    with torch.no_grad():
        basis = torch.eye(8, dtype=learner.plan.dtype)
        single: Tensor = -learner.network(basis)
        pairs: Tensor = -learner.network((basis[:, None] + basis[None]).reshape(-1, 8)).view(8, 8)
    coupling = (
        pairs - single[:, None] - single[None]
    ).numpy()  # the energy of two units, beside those of each
    upper = np.triu_indices(8, 1)
    assert np.corrcoef(coupling[upper], machine["visible"][upper])[0, 1] >= 0.99
    assert divergence(learner, None) <= 0.01


@pytest.mark.slow
def test_a_machine_with_hidden_units_is_learned() -> None:
    learner = trained("some_hidden")
    assert divergence(learner, 1) <= 0.01


def test_a_run_calls_flow_and_energy_by_their_names(tmp_path: Path) -> None:
    """What is descended is at least 0, and the energy may be below; neither is called a loss."""
    experiment = nnspec.load(SPEC).experiment("all_seen")
    experiment.fitted = experiment.fitted.replace(steps=2)
    told: list[str] = []
    result = experiment.train(out=tmp_path, on_progress=lambda progress: told.append(progress.descended))
    row = result.history[-1]
    assert row["flow"] > 0 and "loss" not in row and set(told) == {"flow"}
    assert result.shown["loss"] == "train energy"


@pytest.mark.parametrize(
    ("network", "facts", "codes"),
    [
        (VISIBLE, {"loss": "mean_squared_error"}, ["N0749"]),
        (VISIBLE, {"options": 'hidden = "g"'}, ["N0750"]),
        (SAMPLED, {"options": 'hidden = "x"'}, ["N0750"]),
        (SAMPLED, {}, ["N0746"]),
        (SAMPLED, {"options": 'hidden = "h"'}, []),
        (SAMPLED, {"options": 'hidden = ["h"]'}, []),
    ],
)
def test_what_is_refused(network: str, facts: dict[str, str], codes: list[str]) -> None:
    bag = Bag()
    check(Source("test.nnspec", text(network, **facts)), bag)
    assert [error.code for error in bag] == codes


def test_other_numbers_are_no_bits(begun: Begun) -> None:
    with pytest.raises(RunError) as caught:
        begun(text(VISIBLE, data="gaussian_teacher(inputs = 6)"))
    assert caught.value.error.code == "N0751"
