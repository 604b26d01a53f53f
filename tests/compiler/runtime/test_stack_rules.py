"""Many seeds of a written rule at once: every rule of the library gives each seed what it would have alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import stack
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.dsl.standard import rules

Make = Callable[..., Experiment]
Train = Callable[..., RunResult]

NETWORKS = """
use library.dynamics

network chain {
  input image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(12) as a -> tanh -> dense(10) as head
}
network one_layer {
  input image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(10) as head -> sigmoid
}
network convolution {
  input image: real[8, 8]
  output digit: real[10] = image
    -> reshape([1, 8, 8])
    -> conv2d(3, kernel = 3) as a
    -> tanh
    -> flatten
    -> dense(10) as head
}
network complete {
  input  image: real[8, 8]
  x = image -> flatten
  state  h: real[6] = uniform(0, 0.1)
  state  o: real[10]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics rate(tanh, solve = fixed_point(steps = 12, damping = 0.5, tolerance = 0))
  output y = o
}
network leaking {
  input  image: real[8, 8]
  x = image -> flatten
  state  h: real[6] = uniform(0, 0.1)
  state  o: real[10] = uniform(0, 0.1)
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics deep(solve = euler(dt = 0.05, steps = 15), clip = [0, 1])
  output y = o
}
network both_ways {
  input  image: real[8, 8]
  x = image -> flatten
  state  h: real[6]
  state  o: real[10]
  connect x -> h as feed
  connect h <-> o as up
  dynamics leaky(sigmoid, solve = euler(dt = 0.5, steps = 8))
  output y = o
}
"""
EXPERIMENT = """
experiment e {
  network   = NETWORK
  data      = digits(test = 0.95, scale = "unit")
  loss      = LOSS
  learn     = RULE
  optimizer = momentum(lr = 0.02)
  epochs    = 1
  batch     = 30
  seeds     = [0, 11]
}
"""

# Of each rule a network that it fits, and a loss.
FITS = {
    "hebb": "chain",
    "oja": "chain",
    "sanger": "chain",
    "bcm": "chain",
    "perceptron": "one_layer",
    "delta": "one_layer",
    "backprop_written": "convolution",
    "fa": "convolution",
    "usf": "chain",
    "brsf": "chain",
    "frsf": "chain",
    "kolen_pollack": "chain",
    "difference_target_propagation": "chain",
    "dfa": "convolution",
    "sparse_dfa": "chain",
    "modular_dfa": "chain",
    "node_perturbation": "chain",
    "predictive_coding": "chain",
    "equilibrium": "complete",
    "contrastive_hebbian": "both_ways",
    "deep": "leaking",
}
OPTIONS = {
    "predictive_coding": "(steps = 3)",
    "equilibrium": '(variant = "asymmetric", nudging = holomorphic(points = 4))',
    "deep": "(nudged_steps = 7)",
}
ELSEWHERE = {"forward_forward"}  # it takes two inputs, and nothing in it that the others have not


@pytest.fixture(autouse=True)
def _however_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "WORTH", 0)


def of(experiment: Make, rule: str, network: str, loss: str = "cross_entropy") -> Experiment:
    text = NETWORKS + EXPERIMENT.replace("NETWORK", network).replace("RULE", rule).replace("LOSS", loss)
    return experiment(text)


def assert_same(own: Experiment, trained: Train) -> None:
    together = trained(own)
    assert (together.path / "stack.safetensors").exists()
    weights: list[torch.Tensor] = []
    for found in together.seeds:
        alone = trained(own.replace(seeds=(found.seed,)))
        a, b = load_state(together.path, found.seed), load_state(alone.path, found.seed)
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=2e-6)
        assert found.metrics == pytest.approx(alone.seeds[0].metrics, abs=1e-5)
        rows = [row for row in together.history if row["seed"] == found.seed]
        for row, single in zip(rows, alone.history, strict=True):
            assert row["loss"] == pytest.approx(single["loss"], abs=1e-5)
            assert row["test"] == pytest.approx(single["test"], abs=1e-5)
        assert found.confusion == alone.seeds[0].confusion
        weights.append(torch.cat([tensor.flatten() for tensor in a.values() if tensor.is_floating_point()]))
    assert not torch.allclose(weights[0], weights[1])


@pytest.mark.parametrize("rule", FITS)
def test_each_seed_learns_what_it_would_alone(experiment: Make, trained: Train, rule: str) -> None:
    assert_same(of(experiment, rule + OPTIONS.get(rule, ""), FITS[rule]), trained)


def test_every_rule_of_the_library_is_among_them() -> None:
    assert set(FITS) | ELSEWHERE == set(rules())


def test_last_batches_may_be_shorter(experiment: Make, trained: Train) -> None:
    own = of(experiment, "node_perturbation", "chain").replace(batch=35)
    assert_same(own, trained)


def test_all_rows_at_once(experiment: Make, trained: Train) -> None:
    assert_same(of(experiment, "fa", "chain").replace(batch=None), trained)


def test_squared_errors_of_states(experiment: Make, trained: Train) -> None:
    own = of(experiment, 'equilibrium(variant = "vector_field")', "complete", "mean_squared_error")
    assert_same(own, trained)


@pytest.mark.parametrize(
    ("rule", "network", "change"),
    [
        ("equilibrium(nudging = random_sign)", "both_ways", {}),  # a sign for each network
        ("fa", "chain", {"seed_mode": "torch"}),  # draws would come in another order
        ("fa", "chain", {"seeds": (3,)}),
    ],
)
def test_only_where_exact(
    experiment: Make, tmp_path: Path, rule: str, network: str, change: dict[str, object]
) -> None:
    own = of(experiment, rule, network)
    assert stack.stackable(prepare(of(experiment, "fa", "chain"), tmp_path, "cpu"))
    assert not stack.stackable(prepare(own.replace(**change), tmp_path, "cpu"))


def test_short_trainings_go_one_after_another(
    experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = prepare(of(experiment, "fa", "chain"), tmp_path, "cpu")
    monkeypatch.setattr(stack, "WORTH", plan.steps)  # two seeds spare the steps of one
    assert stack.stackable(plan)
    monkeypatch.setattr(stack, "WORTH", plan.steps + 1)
    assert not stack.stackable(plan)


@pytest.mark.parametrize(
    ("rule", "network"), [("kolen_pollack", "chain"), ("deep(nudged_steps = 5)", "leaking")]
)
def test_feedback_and_draws_go_on_where_a_run_was_broken_off(
    experiment: Make, goes_on: Callable[[Experiment, int], None], rule: str, network: str
) -> None:
    goes_on(of(experiment, rule, network).replace(epochs=4), 2)


def test_a_seed_that_blows_up_leaves_the_others_as_they_are(experiment: Make, trained: Train) -> None:
    own = of(experiment, "deep(nudged_steps = 5, beta = 1e200)", "leaking", "mean_squared_error")
    own = own.replace(precision="float64")
    together = trained(own)
    alone = [trained(own.replace(seeds=(seed,))) for seed in own.seeds]
    assert [found.status for found in together.seeds] == [single.seeds[0].status for single in alone]
    assert [found.problem for found in together.seeds] == [single.seeds[0].problem for single in alone]


def test_free_phases_that_do_not_settle_are_told_of_each_seed(experiment: Make, trained: Train) -> None:
    own = of(experiment, "equilibrium(free_steps = 2, nudged_steps = 2)", "both_ways")
    together = trained(own)
    doubts = [doubt for seed in own.seeds for doubt in trained(own.replace(seeds=(seed,))).doubts]
    said = [[_of_phase(doubt.message, "free") for doubt in given] for given in (together.doubts, doubts)]
    assert said[0] == said[1] and len(set(said[0])) == len(own.seeds)
    # Measuring is told of, too; nudged phases are counted for a seed alone only.
    assert all("the network's own states" in error.message for error in together.doubts)


def _of_phase(message: str, phase: str) -> tuple[str, str]:
    """The seed of a warning, and what it says of one phase."""
    seed, _, times = message.partition(": ")
    return seed, next(part for part in times.split("; ") if f"`{phase}`" in part)
