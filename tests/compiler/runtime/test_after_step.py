"""Projections and penalties in training: sets are kept, minima are those of the objective, any rule will do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nnspec.compiler.constraints.code.simplex import simplex
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.after_step import AfterStep
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.trials import Trial

Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

CONVEX = """
network linear {{
  input  x: real[10]
  output y: real[1] = x -> dense(1, bias = false) as map
  constrain map.weight: {constraint}
}}
experiment e {{
  network   = linear
  data      = diabetes(test = 0.2, scale = "standard")
  loss      = mean_squared_error
  learn     = backprop
  optimizer = sgd(lr = 0.2)
  steps     = 6000
  batch     = none
  precision = "float64"
}}
"""

DEEP = """
layer block(width: int) {{
  input  x: real[.., width]
  output y = x + (x -> dense(width) as inner -> tanh)
  constrain inner.weight: near_identity(0.01)
}}
network deep {{
  input  x: real[13]
  output y: real[3] = x -> dense(8) as first -> tanh -> repeat(2) {{ block(8) }} -> dense(3) as head
  constrain first.weight: group_lasso(0.005, group = "input")
  constrain head.weight: nonnegative & l1(0.001)
  constrain head.bias: simplex(axis = "all")
}}
network derived = deep {{
  constrain repeat[1].block.inner.weight: max_norm(0.5) & near_identity(0.01)
  constrain repeat[0].block.inner.weight: box(-0.1, 0.2)
}}
experiment e {{
  network   = derived
  data      = wine(test = 0.2, scale = "standard")
  loss      = cross_entropy
  learn     = {rule}
  optimizer = adam(lr = 0.02)
  schedule  = cosine
  epochs    = 6
  seeds     = [0, 3]
}}
"""


def converged(
    experiment: Make, folder: Path, constraint: str, optimizer: str = "sgd(lr = 0.2)"
) -> tuple[Tensor, Tensor]:
    """Return the weight after training, and the gradient of the loss alone."""
    plan = prepare(experiment(CONVEX.format(constraint=constraint, optimizer=optimizer)), folder, "cpu")
    learner = Learner(plan, Trial(0))
    for _ in range(6000):
        learner.learn(plan.train)
    weight = learner.learned["map.weight"]
    output = learner.network(*plan.train.inputs)
    loss = torch.nn.functional.mse_loss(output, plan.train.target.view_as(output))
    (slope,) = torch.autograd.grad(loss, weight)
    return weight.detach(), slope


@pytest.mark.parametrize(
    "optimizer", ["sgd(lr = 0.2)", "momentum(lr = 0.02)", "sgd(lr = 0.05, momentum = 0.8, nesterov = true)"]
)
def test_l1_reaches_the_minimum_of_the_objective(experiment: Make, tmp_path: Path, optimizer: str) -> None:
    """0 lies in slope + strength * the subdifferential of |w|: exact zeros where the slope is smaller."""
    weight, slope = converged(experiment, tmp_path, "l1(20)", optimizer)
    gone = weight == 0
    assert 2 <= int(gone.sum()) <= 8
    assert torch.allclose(slope[~gone], -20 * weight[~gone].sign(), atol=1e-8)
    assert slope[gone].abs().max() <= 20


def test_group_lasso_reaches_the_minimum_of_the_objective(experiment: Make, tmp_path: Path) -> None:
    weight, slope = converged(experiment, tmp_path, 'group_lasso(20, group = "block", block = [1, 2])')
    weights, slopes = weight.view(5, 2), slope.view(5, 2)
    gone = (weights == 0).all(1)
    assert 1 <= int(gone.sum()) <= 4
    alive = weights[~gone]
    unit = alive / alive.norm(dim=1, keepdim=True)
    assert torch.allclose(slopes[~gone], -20 * 2**0.5 * unit, atol=1e-8)
    assert (slopes[gone].norm(dim=1) <= 20 * 2**0.5).all()


def test_l2_reaches_the_minimum_of_the_objective(experiment: Make, tmp_path: Path) -> None:
    weight, slope = converged(experiment, tmp_path, "l2(0.3)")
    assert torch.allclose(slope, -0.3 * weight, atol=1e-9)


@pytest.mark.parametrize("constraint", ["nonnegative", "box(-5, 15)"])
def test_bounds_reach_the_minimum_within_them(experiment: Make, tmp_path: Path, constraint: str) -> None:
    """Karush, Kuhn and Tucker: no slope inside, at a bound one that points out of the set."""
    weight, slope = converged(experiment, tmp_path, constraint)
    low, high = (0.0, torch.inf) if constraint == "nonnegative" else (-5.0, 15.0)
    at_low, at_high = weight == low, weight == high
    assert (at_low | at_high).any() and not (at_low | at_high).all()
    assert slope[~(at_low | at_high)].abs().max() < 1e-8
    assert (slope[at_low] > 0).all() and (slope[at_high] < 0).all()


def test_simplex_reaches_the_minimum_within_it(experiment: Make, tmp_path: Path) -> None:
    weight, slope = converged(experiment, tmp_path, "simplex")
    assert torch.allclose(weight.sum(), torch.ones((), dtype=weight.dtype))
    inside = weight > 0
    level = slope[inside].mean()
    assert (slope[inside] - level).abs().max() < 1e-8 and (slope[~inside] >= level).all()


def check_deep(state: dict[str, Tensor]) -> None:
    assert (state["head.weight"] >= 0).all()
    assert torch.allclose(state["head.bias"].sum(), torch.ones(())) and (state["head.bias"] >= 0).all()
    assert state["repeat.1.block.inner.weight"].norm(dim=1).max() <= 0.5 + 1e-6
    low = state["repeat.0.block.inner.weight"]
    assert low.min() >= -0.1 and low.max() <= 0.2


@pytest.mark.parametrize("rule", ["backprop", "weight_perturbation(samples = 2)"])
def test_sets_are_kept_at_every_step(experiment: Make, tmp_path: Path, rule: str) -> None:
    plan = prepare(experiment(DEEP.format(rule=rule)), tmp_path, "cpu")
    learner = Learner(plan, Trial(0))
    check_deep(learner.network.state_dict())
    for batch in learner.batches(learner.phase.steps_per_epoch):
        learner.learn(batch)
        check_deep(learner.network.state_dict())


def test_many_at_once_learn_as_they_would_alone(experiment: Make, trained: Train) -> None:
    own = experiment(DEEP.format(rule="backprop"))
    together = trained(own)
    assert (together.path / "stack.safetensors").exists()
    for seed in own.seeds:
        alone = trained(own.replace(seeds=(seed,)))
        a, b = load_state(together.path, seed), load_state(alone.path, seed)
        check_deep(a)
        assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-5) for name in a)
        rows = [row for row in together.history if row["seed"] == seed]
        for row, single in zip(rows, alone.history, strict=True):
            assert row["objective"] == pytest.approx(single["objective"], abs=1e-5)
            assert row["constraints"].keys() == single["constraints"].keys()


def test_whole_inputs_are_dropped_and_told(experiment: Make, trained: Train) -> None:
    text = DEEP.format(rule="backprop").replace("group_lasso(0.005", "group_lasso(0.2")
    result = trained(experiment(text).replace(seeds=(0,), epochs=150))
    weight = load_state(result.path, 0)["first.weight"]
    gone = (weight == 0).all(0)
    assert 1 <= int(gone.sum()) <= 12 and (weight[:, ~gone] != 0).all()
    told = result.history[-1]["constraints"]["first.weight"]
    assert told["zeros"] == pytest.approx(float(gone.float().mean()))
    assert told["penalty.group_lasso"] == pytest.approx(
        0.2 * 8**0.5 * float(weight.norm(dim=0).sum()), rel=1e-5
    )
    costs = [v for own in result.history[-1]["constraints"].values() for k, v in own.items() if "pena" in k]
    assert result.history[-1]["objective"] == pytest.approx(result.history[-1]["train"]["loss"] + sum(costs))


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("max_norm(0.5)", lambda w: 0.5 * w / w.norm()),
        ("l1(0.5)", lambda w: torch.nn.functional.softshrink(w, 0.1)),
        ("group_lasso(0.1)", lambda w: w * (1 - 0.2 * 0.1 * 10**0.5 / w.norm())),
        ("simplex", lambda w: simplex(w, (6,), 0)),
    ],
)
def test_what_a_topology_removes_takes_no_part(
    experiment: Make, tmp_path: Path, constraint: str, expected: Callable[[Tensor], Tensor]
) -> None:
    text = CONVEX.format(constraint=f"mask((i, j) => j % 3 != 0) & {constraint}", optimizer="sgd(lr = 0.2)")
    plan = prepare(experiment(text), tmp_path, "cpu")
    weight = torch.linspace(-1, 1, 10).view(1, 10)
    state = {**plan.make().state_dict(), "map.weight": weight.clone()}
    kept = torch.arange(10).view(1, 10) % 3 != 0
    AfterStep(plan.graph)(state, 0.2)
    found = state["map.weight"]
    assert torch.equal(found[~kept], weight[~kept])
    assert torch.allclose(found[kept], expected(weight[kept]), atol=1e-6)


TOPOLOGIES = """
network n {
  input  x: real[13]
  output y: real[3] = x -> dense(12) as a -> tanh -> dense(12) as b -> tanh -> dense(12) as c -> tanh -> dense(3)
  constrain a.weight: sparse(density = 0.4) & max_norm(0.3)
  constrain b.weight: mask((i, j) => abs(i - j) <= 2) & simplex
  constrain c.weight: mask((i, j) => i >= j) & nonnegative & l1(0.01)
}
experiment e {
  network   = n
  data      = wine(test = 0.2, scale = "standard")
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.02)
  epochs    = 5
}
"""


def test_beside_topologies(experiment: Make, trained: Train) -> None:
    result = trained(experiment(TOPOLOGIES))
    plan_weights = {own["weight"]: own for own in result.seeds[0].weights}
    state = load_state(result.path, 0)
    band = (torch.arange(12).view(-1, 1) - torch.arange(12)).abs() <= 2
    shares = state["b.weight"] * band
    assert torch.allclose(shares.sum(1), torch.ones(12)) and shares.min() >= 0
    triangle = state["c.weight"].tril()
    assert triangle.min() >= 0 and bool((triangle[torch.ones(12, 12).tril() > 0] == 0).any())
    for own in plan_weights.values():
        residuals = {name: value for name, value in own["end"].items() if name.startswith("residual")}
        assert len(residuals) == 2 and max(residuals.values()) < 1e-6


OWNED = """
layer scaled {
  input  x: real[n]
  parameter gain: real[n] = ones
  parameter shares: real[3] = normal(std = 1.0)
  output y = gain * x * (shares[0] + 2 * shares[1])
  constrain gain: box(0.5, 1.2)
  constrain shares: simplex(axis = "all")
}
network n {
  input  x: real[13]
  output y: real[3] = x -> scaled -> dense(3) as map
  constrain map.weight: l2(1)
}
experiment e {
  network   = n
  data      = wine(test = 0.2, scale = "standard")
  loss      = cross_entropy
  learn     = backprop
  optimizer = sgd(lr = 0.1)
  epochs    = 3
  seeds     = 0..1
}
"""


def test_parameters_of_layers(experiment: Make, trained: Train, tmp_path: Path) -> None:
    own = experiment(OWNED)
    plan = prepare(own, tmp_path, "cpu")
    learner = Learner(plan, Trial(0))
    assert torch.allclose(learner.state["scaled.shares"].sum(), torch.ones(()))
    output = learner.network(*plan.train.inputs)
    penalty = learner.groups[0].mean_loss(plan.train) - torch.nn.functional.cross_entropy(
        output, plan.train.target
    )
    assert torch.allclose(penalty, 0.5 * learner.state["map.weight"].square().sum(), atol=1e-6)
    result = trained(own)
    for seed in (0, 1):
        state = load_state(result.path, seed)
        assert state["scaled.gain"].min() >= 0.5 and state["scaled.gain"].max() <= 1.2
        shares = state["scaled.shares"]
        assert (shares >= 0).all() and torch.allclose(shares.sum(), torch.ones(()))
    assert set(result.history[-1]["constraints"]) == {"map.weight", "scaled.gain", "scaled.shares"}


def test_nothing_is_done_where_nothing_is_constrained(xor: Callable[..., Experiment], trained: Train) -> None:
    result = trained(xor("epochs = 2"))
    assert all("constraints" not in row and "objective" not in row for row in result.history)
    assert result.seeds[0].weights == ()
