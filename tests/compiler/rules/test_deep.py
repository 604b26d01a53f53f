"""DEEP against the equations of the authors' notebooks, step by step in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.train import train
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

SPEC = """
use library.dynamics

network neurons {{
  input x: real[2]
  state h: real[3] = 0.05
  state o: real[1] = 0.02
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics deep(solve = euler(dt = 0.05, steps = {free}), clip = [0, 1])
  output y = o
  initialize feed.weight, rec.weight: normal(std = 0.3)
}}

experiment e {{
  network   = neurons
  data      = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
  loss      = sum((y - target) ^ 2) / 2
  learn     = deep(beta = 3, beta0 = {beta0}, beta1 = {beta1}, nudged_steps = {nudged})
  optimizer = sgd(lr = 1.5)
  batch     = none
  precision = "float64"
  epochs    = 1
}}
"""
FREE, NUDGED, DT, BETA = 40, 25, 0.05, 3.0


def begun(beta0: float, beta1: float) -> LearningGroup:
    bag = Bag()
    text = SPEC.format(free=FREE, nudged=NUDGED, beta0=beta0, beta1=beta1)
    own = check(Source("test.nnspec", text), bag).experiments[-1]
    assert not bag.failed, [repr(error) for error in bag]
    plan = prepare(own, Path("."), "cpu")
    group = Learner(plan, plan.trials[0]).groups[0]
    group.network.train()
    return group


class Notebook:
    """The notebooks' update. W[i, j] is the synapse i -> j; the first neurons are the inputs and a constant 1."""

    def __init__(self, W: Any, beta0: float, beta1: float) -> None:
        self.W, self.beta0, self.beta1 = W.copy(), beta0, beta1
        self.mask = np.ones((7, 7)) - np.eye(7)
        self.mask[:, :3] = 0  # nothing enters an input
        self.x = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
        self.y = np.array([0, 1, 1, 0], dtype=float)

    def advance(self, s: Any, beta: float) -> Any:
        # The bias neuron's and inputs' outgoing weights leak nothing: they are clamped.
        ds = s @ self.W - s * self.W.sum(1)
        ds[:, -1] += beta * (self.y - s[:, -1])
        moved = np.clip(s + DT * ds, 0, 1)
        moved[:, :3] = self.x
        return moved

    def update(self, rate: float) -> None:
        s = np.concatenate([self.x, np.full((4, 3), 0.05), np.full((4, 1), 0.02)], axis=1)
        for _ in range(FREE):
            s = self.advance(s, 0.0)
        change = np.zeros_like(self.W)
        for _ in range(NUDGED):
            after = self.advance(s, BETA)
            change += after.T @ (self.beta0 * after + self.beta1 * (after - s))
            s = after
        self.W += rate * change / (NUDGED * len(self.x)) * self.mask


def weights_of(group: LearningGroup) -> Any:
    state = {name: p.detach().numpy() for name, p in group.network.named_parameters()}
    W = np.zeros((7, 7))
    W[:2, 3:] = state["feed.weight"].T
    W[2, 3:] = np.concatenate([state["h.bias"], state["o.bias"]])
    W[3:, 3:] = state["rec.weight"].T * (1 - np.eye(4))
    return W


def test_three_updates_are_those_of_the_notebooks() -> None:
    for beta0, beta1 in ((0.0, 1.0), (0.1, 0.5)):
        group = begun(beta0, beta1)
        notebook = Notebook(weights_of(group), beta0, beta1)
        for _ in range(3):
            group.learn(group.learner.plan.train, 0)
            notebook.update(1.5)
        np.testing.assert_allclose(weights_of(group), notebook.W, rtol=1e-9, atol=1e-12)
        assert np.abs(notebook.W).max() > 0.1 and torch.isfinite(group.parameters[0]).all()


@pytest.mark.slow
def test_xor_is_solved_at_some_epoch_by_half_of_ten_networks() -> None:
    """The published settings, ten networks at once, by the equations that the rule follows update by update (above).

    Solved: all four right, and a mean squared error below 0.02. It is often left again. These ten are a lucky draw: over
    many, a quarter to a third solve it (docs/rules.md).
    """
    seeds, hidden, steps, draw = 10, 5, 1000, np.random.default_rng(0)
    count = 3 + hidden + 1
    mask = np.ones((count, count)) - np.eye(count)
    mask[:, :3] = 0
    W = 0.05 * draw.normal(size=(seeds, count, count)) * mask
    x = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
    y = np.array([0, 1, 1, 0], dtype=float)
    solved = np.zeros(seeds, dtype=bool)
    for _ in range(200):
        drawn = draw.uniform(0, 0.1, (seeds, 4, hidden + 1))
        s: Any = np.concatenate([np.broadcast_to(x, (seeds, 4, 3)), drawn], axis=2)
        leak, change = W.sum(2)[:, None, :], np.zeros_like(W)
        for step in range(2 * steps):
            ds = s @ W - s * leak
            if step >= steps:
                ds[..., -1] += 10 * (y - s[..., -1])
            after = np.clip(s + 0.05 * ds, 0, 1)
            after[..., :3] = x
            if step == steps - 1:
                out = after[..., -1]
                right = ((out > 0.5) == (y > 0.5)).all(1)
                solved |= right & (((out - y) ** 2).mean(1) < 0.02)
            if step >= steps:
                change += np.swapaxes(after, 1, 2) @ (after - s)
            s = after
        W = (W + 100 * change / (steps * 4)) * mask
        if solved.sum() >= 5:
            break
    print("solved at some epoch:", [seed for seed in range(seeds) if solved[seed]])
    assert solved.sum() >= 5


@pytest.mark.slow
def test_the_spec_solves_xor_with_some_seeds(tmp_path: Path) -> None:
    """Seed 14 of the gallery's spec, beside another one and at once: solved at epoch 25, as the docs say."""
    bag = Bag()
    path = Path(__file__).parents[3] / "specs" / "directed_ep" / "xor.nnspec"
    own = check(Source(str(path), path.read_text(encoding="utf-8")), bag).experiments[-1]
    assert not bag.failed
    found = train(own.replace(seeds=(4, 14), epochs=28), root=tmp_path, out=tmp_path / "runs", device="cpu")
    errors = [row["train"]["mean_squared_error"] for row in found.history if row["seed"] == 14]
    assert min(errors) <= 0.02 < errors[0]
