"""Layers as values: parameters, defaults, lists, choices, partly configured, passed on through several levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.ir import Graph
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

DEFINITIONS = """
activation swish(beta: real = 1.0) { x => x * sigmoid(beta * x) }

layer block(inner: layer, act: activation = swish(2)) {
  input  x: real[.., n]
  output y = x -> inner -> act
}

layer outer(make: layer, width: int, plain: bool = true) {
  input  x: real[.., n]
  chosen = make if plain else dense
  output y = x -> block(chosen(width))
}

layer through(f: layer) {
  input  x: real[.., n]
  output y = x -> outer(f, 5)
}

layer pair(parts: list, acts: list = [tanh, swish(3)]) {
  input  x: real[.., n]
  output y = x -> parts[0] -> acts[1] -> parts[1] as second -> acts[0]
}

layer all_of(parts: list) {
  input  x: real[.., n]
  output y = x -> repeat(f in parts) { f }
}

let small = dense(3)
let halved = dense(bias = false)
let functions = [sin, swish]
"""


def swish(x: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    return x * torch.sigmoid(beta * x)


# steps: (state-dict keys, the same by hand from the state)
CASES: dict[str, tuple[list[str], Any]] = {
    "block(dense(3))": (
        ["block.inner.weight", "block.inner.bias"],
        lambda x, s: swish(F.linear(x, *s.values()), 2),
    ),
    "block(inner = dense(3) -> tanh, act = relu)": (
        ["block.inner.dense.weight", "block.inner.dense.bias"],
        lambda x, s: torch.relu(torch.tanh(F.linear(x, *s.values()))),
    ),
    "block(h => h + 2 * h, swish)": ([], lambda x, s: swish(3 * x)),
    "block(act = h => 2 * h, inner = identity)": ([], lambda x, s: 2 * x),
    "through(dense)": (
        ["through.outer.block.inner.weight", "through.outer.block.inner.bias"],
        lambda x, s: swish(F.linear(x, *s.values()), 2),
    ),
    "through(dense(bias = false))": (
        ["through.outer.block.inner.weight"],
        lambda x, s: swish(F.linear(x, *s.values()), 2),
    ),
    "outer(halved, 2, plain = false)": (
        ["outer.block.inner.weight", "outer.block.inner.bias"],
        lambda x, s: swish(F.linear(x, *s.values()), 2),
    ),
    "halved(2)": (["halved.weight"], lambda x, s: F.linear(x, *s.values())),
    "small": (["small.weight", "small.bias"], lambda x, s: F.linear(x, *s.values())),
    "(small if 1 > 2 else halved(6)) -> functions[0]": (
        ["halved.weight"],
        lambda x, s: torch.sin(F.linear(x, *s.values())),
    ),
    "pair([dense(3), dense(2, bias = false)])": (
        ["pair.dense.weight", "pair.dense.bias", "pair.second.weight"],
        lambda x, s: torch.tanh(
            F.linear(
                swish(F.linear(x, s["pair.dense.weight"], s["pair.dense.bias"]), 3), s["pair.second.weight"]
            )
        ),
    ),
    "all_of([sin, halved(2), functions[1]])": (
        ["all_of.repeat.1.f.weight"],
        lambda x, s: swish(F.linear(torch.sin(x), *s.values())),
    ),
}


@pytest.mark.parametrize("steps", CASES)
def test_layers_as_values(build: Build, steps: str) -> None:
    names, by_hand = CASES[steps]
    graph = verify(build(f"{DEFINITIONS}\nnetwork n {{\n  input  x: real[4]\n  output y = x -> {steps}\n}}"))
    net = module(graph).double()
    state = dict(net.state_dict())
    assert list(state) == names
    x = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(net(x), by_hand(x, state))
    torch.testing.assert_close(function(graph)(state, x), by_hand(x, state))


def test_each_use_of_a_layer_value_has_weights_of_its_own_and_a_shared_one_has_not(build: Build) -> None:
    text = """
layer twice(f: layer) {
  input  x: real[n]
  output y = x -> f -> f
}

layer twice_shared(f: layer) {
  input  x: real[n]
  shared g = f
  output y = x -> g -> g
}

network n {
  input  x: real[4]
  output y = x -> twice(dense(4)) -> twice_shared(dense(4))
}
"""
    assert list(module(build(text)).state_dict()) == [
        "twice.f.weight",
        "twice.f.bias",
        "twice.f_2.weight",
        "twice.f_2.bias",
        "twice_shared.g.weight",
        "twice_shared.g.bias",
    ]
