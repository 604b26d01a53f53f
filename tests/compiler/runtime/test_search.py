"""L-BFGS and clipped gradients, bit for bit what a plain script does with torch's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state

Make = Callable[..., Experiment]
Train = Callable[..., RunResult]

REGRESSION = """
network regressor {{
  input  x: real[10]
  output y: real[1] = x -> dense(8) as fc1 -> tanh -> dense(1) as head
}}
experiment fitted {{
  network   = regressor
  data      = diabetes(scale = "standard", target_scale = "standard")
  loss      = mean_squared_error
  learn     = {learn}
  optimizer = {optimizer}
  seed_mode = "torch"
  precision = "float64"
  epochs    = 6
  {more}
}}
"""


def by_hand(own: Experiment, epochs: int) -> tuple[nn.Sequential, list[float]]:
    train = data.load(own.data, Path("."), dtype="float64").train
    x, y = next(iter(train.inputs.values())), train.targets
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=1.0, history_size=5, line_search_fn="strong_wolfe")
    losses: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y.reshape(-1, 1))
        loss.backward()
        return loss

    for _ in range(epochs):
        found: Any = optimizer.step(closure)
        losses.append(found.item())
    return net, losses


def test_lbfgs_is_torchs_own_over_the_whole_training_part(experiment: Make, trained: Train) -> None:
    own = experiment(REGRESSION.format(learn="backprop", optimizer="lbfgs(history = 5)", more=""))
    assert own.batch is None
    result = trained(own)
    net, losses = by_hand(own, 6)
    found = load_state(result.path, 0)
    names = ("fc1.weight", "fc1.bias", "head.weight", "head.bias")
    assert all(torch.equal(found[n], p) for n, p in zip(names, net.parameters(), strict=True))
    assert [row["loss"] for row in result.history] == losses
    assert losses[-1] < 0.5 * losses[0]


def test_lbfgs_resumes_with_its_memory(experiment: Make, trained: Train) -> None:
    own = experiment(REGRESSION.format(learn="backprop", optimizer="lbfgs(history = 5)", more=""))
    expected = load_state(trained(own).path, 0)

    def interrupt(progress: Any) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(own, on_progress=interrupt)
    found = load_state(trained(own, resume=True).path, 0)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_lbfgs_draws_the_same_within_a_step(experiment: Make, trained: Train) -> None:
    text = REGRESSION.format(learn="backprop", optimizer="lbfgs", more="").replace(
        "-> tanh", "-> tanh -> dropout(0.3)"
    )
    history = trained(experiment(text)).history
    assert all(row["loss"] < 10 for row in history)  # a line search over changing masks runs away


def test_clipped_gradients(experiment: Make, trained: Train) -> None:
    text = REGRESSION.format(learn="backprop(clip = 0.1)", optimizer="sgd(lr = 0.1)", more="batch = none")
    own = experiment(text)
    result = trained(own)
    train = data.load(own.data, Path("."), dtype="float64").train
    x, y = next(iter(train.inputs.values())), train.targets
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    for _ in range(6):
        gradients = torch.autograd.grad(F.mse_loss(net(x), y.reshape(-1, 1)), tuple(net.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        factor = min(1.0, 0.1 / (norm.item() + 1e-6))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= 0.1 * factor * gradient
    found = load_state(result.path, 0)
    assert torch.allclose(found["fc1.weight"], next(net.parameters()), rtol=1e-9)
