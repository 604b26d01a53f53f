"""What a flow does when nothing is said of its solver: it settles, its gradient is right, and else there is a warning."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nnspec

SPEC = """
use library.dynamics
network leak {
  input  image: real[8, 8]
  x = image -> flatten
  state  h: real[8]
  state  o: real[10]
  connect x -> h as feed
  connect h <-> o as rec
  dynamics leaky(tanhWORDS)
  output y = o
}
experiment e {
  network   = leak
  data      = digits(train = 0.2, test = 0.2, scale = "standard")
  loss      = cross_entropy
  learn     = backprop
  optimizer = sgd(lr = 0.1)
  epochs    = 1
  batch     = 32
}
"""


def made(words: str = "") -> torch.nn.Module:
    """Return the module of the network, in double precision."""
    return nnspec.load(SPEC.replace("WORDS", words)).network().torch(seed=0).double()


def by_hand(net: torch.nn.Module, images: Tensor, steps: int = 2000, dt: float = 0.05) -> Tensor:
    """Return o after many steps of s' = tanh'(s) * (W tanh(s) + b) - s, each of which is recorded."""
    p = dict(net.named_parameters())
    feed, rec, h_bias, o_bias = (p[name] for name in ("feed.weight", "rec.weight", "h.bias", "o.bias"))
    h, o = images.new_zeros(len(images), 8), images.new_zeros(len(images), 10)
    given = images.flatten(1).tanh() @ feed.T
    for _ in range(steps):
        to_h = (1 - h.tanh() ** 2) * (given + o.tanh() @ rec + h_bias) - h
        to_o = (1 - o.tanh() ** 2) * (h.tanh() @ rec.T + o_bias) - o
        h, o = h + dt * to_h, o + dt * to_o
    return o


@pytest.mark.parametrize("words", ["", ", solve = rk4", ", solve = euler(dt = 0.5)"])
def test_a_leak_settles_and_its_gradient_is_that_of_all_steps(words: str) -> None:
    net = made(words)
    images = torch.randn(16, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = list(net.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = net(images)
        gradients: Any = torch.autograd.grad(found.square().sum(), weights)
    expected = by_hand(net, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
    references: Any = torch.autograd.grad(expected.square().sum(), weights)
    for gradient, reference in zip(gradients, references, strict=True):
        assert float((gradient - reference).norm() / reference.norm()) < 1e-4


def test_a_flow_that_has_too_little_time_says_so() -> None:
    images = torch.randn(16, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match="^states not settled to 1e-06 after 30 steps"):
        found = made(", solve = euler(steps = 30)")(images)
    with pytest.warns(RuntimeWarning, match="^gradients of states not settled to 1e-06 after 50 steps"):
        found.square().sum().backward()


def test_training_a_flow_by_its_defaults_is_free_of_doubts(tmp_path: Path) -> None:
    assert not nnspec.load(SPEC.replace("WORDS", "")).experiment().train(out=tmp_path).doubts


def test_training_a_flow_with_too_little_time_is_doubted(tmp_path: Path) -> None:
    spec = nnspec.load(SPEC.replace("WORDS", ", solve = euler(dt = 0.1, steps = 60)"))
    found = spec.experiment().train(out=tmp_path).doubts
    assert [error.code for error in found] == ["N0720", "N0721"]
