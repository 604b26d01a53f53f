"""`sample`: what is drawn, when, and that runs draw the same again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.train import train
from nnspec.compiler.verify import verify
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

Build = Callable[..., Graph]

# Word, mean, variance, and the probability of a draw above 1.
LAWS = {
    "normal": (0.0, 1.0, 1 - 0.5 * (1 + math.erf(1 / math.sqrt(2)))),
    "normal(1, 3)": (1.0, 9.0, 0.5),
    "uniform": (0.5, 1 / 12, 0.0),
    "uniform(-1, 3)": (1.0, 16 / 12, 0.5),
    "bernoulli(0.3)": (0.3, 0.21, 0.0),
    "exponential": (1.0, 1.0, math.exp(-1)),
    "exponential(rate = 2.0)": (0.5, 0.25, math.exp(-2)),
    "gumbel": (0.5772156649, math.pi**2 / 6, 1 - math.exp(-math.exp(-1))),
    "laplace": (0.0, 2.0, 0.5 * math.exp(-1)),
    "laplace(0.5)": (0.0, 0.5, 0.5 * math.exp(-2)),
}


def drawing(word: str, more: str = "") -> str:
    return f"network n {{\n  input x: real[100]\n  output y = sample({word}, like = x{more})\n}}"


@pytest.mark.parametrize("word", sorted(LAWS))
def test_draws_follow_the_law(build: Build, word: str) -> None:
    mean, variance, above = LAWS[word]
    graph = verify(build(drawing(word)))
    torch.manual_seed(0)
    x = torch.zeros(2000, 100, dtype=torch.float64)
    for drawn in (module(graph).eval()(x), module(graph)(x), function(graph)({}, x)):
        assert drawn.dtype == x.dtype and drawn.shape == x.shape
        n = drawn.numel()
        # Five deviations of the sample mean; the variance's spread is at most that of kurtosis 9 (exponential).
        assert abs(drawn.mean() - mean) < 5 * math.sqrt(variance / n)
        assert abs(drawn.var() - variance) < 5 * variance * math.sqrt(8 / n)
        assert abs((drawn > 1).double().mean() - above) <= 5 * math.sqrt(above * (1 - above) / n)


@pytest.mark.parametrize("word", sorted(LAWS))
def test_in_evaluation_the_mean_may_stand(build: Build, word: str) -> None:
    graph = build(drawing(word, ', when = "training"'))
    x = torch.zeros(3, 100)
    mean = torch.full_like(x, LAWS[word][0])
    torch.testing.assert_close(module(graph).eval()(x), mean)
    torch.testing.assert_close(function(graph)({}, x), mean)
    torch.testing.assert_close(exported(graph).module()(x), mean)
    assert module(graph).train()(x).var() > 0 and function(graph)({}, x, training=True).var() > 0


def test_every_forward_draws_anew_and_exports(build: Build) -> None:
    graph = build(drawing("normal"))
    program, net, x = exported(graph).module(), module(graph).eval(), torch.zeros(3, 100)
    for forward in (net, program):
        assert not torch.equal(forward(x), forward(x))
    assert "y = torch.randn_like(x)" in emit(graph)


def test_no_gradient_flows_into_a_draw_and_two_draws_differ(build: Build) -> None:
    graph = build(
        "network n {\n  input x: real[4]\n  a = x + sample(normal, like = x)\n"
        "  output y = a - (x + sample(normal, like = x))\n}"
    )
    x = torch.zeros(3, 4, requires_grad=True)
    y = module(graph)(x)
    assert bool((y != 0).all())
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.zeros(3, 4))


NOISY = """
network noisy {
  input  x: real[2]
  hidden = x + 0.3 * sample(normal, like = x) -> dense(6) -> tanh
  output y: real[1] = hidden * sample(bernoulli(0.8), like = hidden) -> dense(1)
}
experiment e {
  network = noisy
  data = xor(samples = 40, test = 0.25)
  loss = binary_cross_entropy
  learn = LEARN
  epochs = EPOCHS
  batch = 10
  seeds = SEEDS
  metrics = [accuracy]
}
"""


def run(folder: Path, learn: str = "backprop", epochs: int = 4, seeds: str = "3") -> RunResult:
    text = NOISY.replace("LEARN", learn).replace("EPOCHS", str(epochs)).replace("SEEDS", seeds)
    bag = Bag()
    checked = check(Source("noisy.nnspec", text), bag)
    assert not bag.failed, list(bag)
    return train(checked.experiments[-1], root=folder, out=folder / "runs", device="cpu")


@pytest.mark.parametrize("learn", ["backprop", "weight_perturbation(sigma = 0.01)"])
def test_runs_draw_the_same_again_alone_and_in_company(tmp_path: Path, learn: str) -> None:
    alone = run(tmp_path / "a", learn).history
    company = run(tmp_path / "c", learn, seeds="1..3").history
    assert alone == run(tmp_path / "b", learn).history
    assert alone == tuple(row for row in company if row["seed"] == 3)
    others = [row["loss"] for row in company if row["seed"] == 2]
    assert others != [row["loss"] for row in alone]


def test_scores_in_between_change_no_draw_of_the_training(tmp_path: Path) -> None:
    """A longer run begins with the rows of a shorter one, though it is measured more often."""
    short, long = run(tmp_path / "a", epochs=2), run(tmp_path / "b", epochs=4)
    assert long.history[: len(short.history)] == short.history
