"""The hard rewrite: the same function, emitted without maps, and what training a binary network gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from nnspec.compiler.emit.load import initial_state, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.compiler.rewrites.hard import hard, hard_state, is_soft
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.train import train
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

SPEC = """
constraint coarse(step: real = 0.25) {
  w => sign(w) * (abs(w) > step) * step
  gradient straight_through(clip = none)
}
constraint squashed { w => tanh(w) }
network net {
  input  image: real[8, 8]
  output digit: real[10] = image
    -> flatten
    -> dense(32) as fc
    -> tanh
    -> repeat(2) { dense(32) -> tanh }
    -> dense(32) as soft
    -> tanh
    -> dense(10) as head
  constrain fc.weight: binary
  constrain repeat[1].dense.weight: coarse
  constrain soft.weight: squashed
}
"""

BINARY = """
network net {
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(64) as fc -> batchnorm -> tanh -> dense(10) as head
  constrain fc.weight: binary
}
experiment e {
  network = net
  data    = digits
  loss    = cross_entropy
  learn   = backprop
  epochs  = 8
  metrics = [accuracy]
}
"""


def test_the_hard_network_computes_the_same_without_maps(build: Callable[..., Graph]) -> None:
    graph = build(SPEC)
    firm = hard(graph)
    assert is_soft(graph) and not is_soft(firm)
    assert ".detach()" in emit(graph)
    assert ".detach()" not in emit(firm)
    assert "tanh(self.soft.weight)" in emit(firm).replace("squashed", "tanh")  # a plain map stays a map

    state = initial_state(graph, 0)
    state["fc.weight"][0, 0] = 0.0  # a stored zero gives +1, not 0
    before = {name: tensor.clone() for name, tensor in state.items()}
    one, two = module(graph), module(firm)
    one.load_state_dict(state)
    two.load_state_dict(hard_state(graph, state))
    x = torch.randn(5, 8, 8)
    assert torch.equal(one(x), two(x))
    assert set(two.state_dict()["fc.weight"].unique().tolist()) == {-1.0, 1.0}
    assert set(two.state_dict()["repeat.1.dense.weight"].unique().tolist()) <= {-0.25, 0.0, 0.25}
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_a_network_without_maps_is_its_own_hard_version(build: Callable[..., Graph]) -> None:
    graph = build("network n {\n  input  x: real[3]\n  output y = x -> dense(2)\n}\n")
    assert hard(graph) == graph


def test_a_trained_binary_network_is_as_good_when_hardened(tmp_path: Path) -> None:
    bag = Bag()
    (experiment,) = check(Source("t.nnspec", BINARY), bag).experiments
    result = train(experiment, root=tmp_path, out=tmp_path)
    assert result.mean["accuracy"] > 0.9
    state = load_state(result.path, 0)
    net = module(hard(experiment.graph))
    net.load_state_dict(hard_state(experiment.graph, state))
    soft = module(experiment.graph)
    soft.load_state_dict(state)
    x = torch.rand(64, 8, 8)
    assert torch.equal(net.eval()(x), soft.eval()(x))
    assert set(net.state_dict()["fc.weight"].unique().tolist()) == {-1.0, 1.0}
