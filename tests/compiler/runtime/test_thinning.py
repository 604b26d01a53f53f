"""Pruning while a network learns: what goes, with which probability, and what may come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.thinning import Boltzmann, Magnitude
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

SPEC = """
network n {{
  input  x: real[2]
  output y: real[2] = x -> dense(12) as fc -> tanh -> dense(2) as head
  constrain fc.weight: mask((i, j) => i > 0 or j > 0)
}}
experiment e {{
  network   = n
  data      = moons(samples = 100)
  loss      = cross_entropy
  learn     = backprop
  optimizer = sgd(lr = 0.5)
  stages    = [fit(epochs = 4, prune = {prune})]
  batch     = 25
}}
"""


def learner(prune: str) -> Learner:
    bag = Bag()
    own = check(Source("test.nnspec", SPEC.format(prune=prune)), bag).experiments[-1]
    assert not bag.failed, [repr(error) for error in bag]
    plan = prepare(own, Path("."), "cpu")
    return Learner(plan, plan.trials[0])


def test_boltzmanns_probabilities_are_over_the_weights_into_a_unit() -> None:
    weight = torch.tensor([[0.001, 0.004, 0.5], [0.002, 0.003, 0.001]], dtype=torch.float64)
    there = torch.tensor([[True, True, True], [True, False, True]])
    options = {"threshold": 0.01, "temperature": 0.005}
    random = torch.Generator().manual_seed(0)
    draws = torch.stack([Boltzmann().removed(weight, there, options, random) for _ in range(4000)])
    energies = torch.exp(-weight / 0.005)
    energies[~there] = 0
    expected = energies / energies.sum(1, keepdim=True)
    expected[0, 2] = 0  # above the threshold: safe
    torch.testing.assert_close(draws.double().mean(0), expected, atol=0.03, rtol=0)
    assert not draws[:, 1, 1].any()


def test_magnitude_removes_what_is_small() -> None:
    weight = torch.tensor([[0.02, -0.005], [0.0, 1.0]])
    found = Magnitude().removed(weight, None, {"threshold": 0.01}, None)
    assert found.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("regrow", [True, False])
def test_what_went_may_come_back_or_not(regrow: bool) -> None:
    own = learner(f"magnitude(threshold = 0.3, every = 2, regrow = {str(regrow).lower()})")
    own.network.train()
    zero: list[Any] = []
    for batch in [*own.batches(4), *own.batches(4)]:
        own.learn(batch)
        zero.append(own.learned["head.weight"].detach() == 0)
    assert not zero[0].any() and zero[1].any()  # every second step
    assert bool((zero[1] & ~zero[2]).any()) == regrow
    assert bool(own.masks) != regrow
    kept = own.learned["fc.weight"].detach()[0, 0]
    assert kept == own.learned["fc.weight"].detach()[0, 0]


def test_the_history_tells_how_sparse_it_is() -> None:
    own = learner("magnitude(threshold = 0.3)")
    own.epoch()
    found = own.notes.means()["sparsity"]
    assert 0 < found < 1


def test_a_run_with_it_goes_on_to_the_same_numbers() -> None:
    whole, halved = (
        learner("boltzmann(threshold = 0.3, temperature = 0.1)"),
        learner("boltzmann(threshold = 0.3, temperature = 0.1)"),
    )
    whole.epoch()
    whole.epoch()
    halved.epoch()
    snapshot = halved.capture()
    again = learner("boltzmann(threshold = 0.3, temperature = 0.1)")
    again.restore(snapshot)
    again.epoch()
    for name, tensor in whole.learned.items():
        assert torch.equal(tensor, again.learned[name]), name
