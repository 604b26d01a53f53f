"""Seeds at once against seeds one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import stack, stacked_forward
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state

Make = Callable[..., Experiment]
Train = Callable[..., RunResult]

CONVOLUTION = """
layer block(width: int) {{
  input x: real[width]
  output y = x + (x -> layernorm -> dense(width) -> gelu)
}}
network n {{
  input image: real[8, 8]
  h = image -> reshape([1, 8, 8]) -> conv2d(4, kernel = 3) -> {activation} -> maxpool(2) -> flatten
  output digit: real[10] = h -> block(36) -> dense(10)
  {constrain}
}}
experiment e {{
  network = n
  data = digits(test = 0.2)
  loss = cross_entropy(smoothing = 0.1)
  learn = backprop
  optimizer = {optimizer}
  schedule = cosine(warmup = 3)
  epochs = 2
  batch = 100
  seeds = [0, 5, 11]
  metrics = [accuracy, mean_squared_error]
}}
"""


def singles(own: Experiment, trained: Train) -> list[RunResult]:
    return [trained(own.replace(seeds=(seed,))) for seed in own.seeds]


def assert_same(together: RunResult, apart: list[RunResult]) -> None:
    assert (together.path / "stack.safetensors").exists()
    for own, single in zip(together.seeds, apart, strict=True):
        a, b = load_state(together.path, own.seed), load_state(single.path, own.seed)
        assert list(a) == list(b)
        assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-5) for name in a)
        assert own.metrics == pytest.approx(single.seeds[0].metrics, abs=1e-5)
        assert own.confusion == single.seeds[0].confusion
        rows = [row for row in together.history if row["seed"] == own.seed]
        assert len(rows) == len(single.history)
        for row, alone in zip(rows, single.history, strict=True):
            assert row["test"] == pytest.approx(alone["test"], abs=1e-5)
            assert row["loss"] == pytest.approx(alone["loss"], abs=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd(lr = 0.1)", "momentum(lr = 0.05)", "rmsprop(lr = 0.001)"])
def test_convolutions(experiment: Make, trained: Train, optimizer: str) -> None:
    own = experiment(CONVOLUTION.format(optimizer=optimizer, activation="relu", constrain=""))
    assert_same(trained(own), singles(own, trained))


@pytest.mark.parametrize("fields", [("batch = 7",), ("batch = none",), ("batch = 8", "shuffle = false")])
@pytest.mark.parametrize("mode", ["streams", "torch"])
def test_batches(xor: Make, trained: Train, fields: tuple[str, ...], mode: str) -> None:
    own = xor("epochs = 10", "seeds = 3..6", f'seed_mode = "{mode}"', "optimizer = adam(lr = 0.01)", *fields)
    assert_same(trained(own), singles(own, trained))


def test_straight_through_weights(experiment: Make, trained: Train) -> None:
    """A trace would see through the sign: the untraced form must be taken, and the stored weights move."""
    constrain = "constrain every dense.weight: binary"
    own = experiment(CONVOLUTION.format(optimizer="sgd(lr = 0.01)", activation="tanh", constrain=constrain))
    together = trained(own)
    weights = load_state(together.path, 0)
    assert any(bool((tensor.abs() != 1).any()) for tensor in weights.values())
    for seed, single in zip(own.seeds, singles(own, trained), strict=True):
        a, b = load_state(together.path, seed), load_state(single.path, seed)
        moved = torch.cat([(a[name] - b[name]).abs().flatten() for name in a])
        # A weight that comes to lie at zero to rounding may fall on either side.
        assert (moved > 1e-5).double().mean() < 0.02


TRANSFORMER = """
use library.transformers
network n {
  input image: real[8, 8]
  output digit: real[10] = image -> gpt2_block(2, ratio = 2) -> llama_block(4, groups = 2, hidden = 8) -> flatten -> dense(10)
}
experiment e {
  network = n
  data = digits(test = 0.2, scale = "unit")
  loss = cross_entropy
  learn = backprop
  optimizer = momentum(lr = 0.02)
  steps = 8
  batch = 50
  seeds = [0, 7]
  metrics = [accuracy]
}
"""


@pytest.mark.filterwarnings("error:There is a performance drop")  # the fused kernel under vmap
def test_attention(experiment: Make, trained: Train) -> None:
    own = experiment(TRANSFORMER)
    assert_same(trained(own), singles(own, trained))


def test_company_is_of_no_account(xor: Make, trained: Train) -> None:
    few = trained(xor("epochs = 20", "seeds = [4, 9]"))
    many = trained(xor("epochs = 20", "seeds = [1, 9, 7, 4, 0]"))
    for seed in (4, 9):
        a, b = load_state(few.path, seed), load_state(many.path, seed)
        assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-6) for name in a)


@pytest.mark.parametrize(
    "change",
    [
        ("relu ->", "relu -> dropout(0.5) ->"),
        ("relu ->", "batchnorm -> relu ->"),
        ("learn = backprop", "learn = weight_perturbation"),
        ("seeds = [0, 5, 11]", "seeds = 0"),
        ("dense(10)", "dense(1000) -> relu -> dense(10)"),
    ],
)
def test_only_where_exact_and_small(experiment: Make, tmp_path: Path, change: tuple[str, str]) -> None:
    text = CONVOLUTION.format(optimizer="sgd(lr = 0.1)", activation="relu", constrain="")
    assert stack.stackable(prepare(experiment(text), tmp_path, "cpu"))
    changed = text.replace(*change)
    assert changed != text
    assert not stack.stackable(prepare(experiment(changed), tmp_path, "cpu"))


def test_trace_is_checked_against_vmap() -> None:
    state = {"w": torch.randn(3, 4, 4), "b": torch.randn(3, 4)}
    x = torch.randn(5, 4)

    def plain(state: dict[str, torch.Tensor], x: torch.Tensor, training: bool) -> torch.Tensor:
        return torch.nn.functional.linear(x, state["w"], state["b"])

    def detached(state: dict[str, torch.Tensor], x: torch.Tensor, training: bool) -> torch.Tensor:
        weight = state["w"]
        sign = weight + (weight.sign() - weight).detach()
        return torch.nn.functional.linear(x, sign, state["b"])

    for function, accepted in ((plain, True), (detached, None)):
        forward = stacked_forward.stacked(function, own_inputs=False, training=True)
        found = stacked_forward.traced(forward, state, (x,))
        assert accepted is None or (found is not forward) == accepted
        own = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
        wanted = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
        found(own, x).square().sum().backward()
        forward(wanted, x).square().sum().backward()
        for name in state:
            a, b = own[name].grad, wanted[name].grad
            assert a is not None and b is not None and torch.allclose(a, b, atol=1e-4)
