"""The uses of symmetries from Python."""

from __future__ import annotations

import pytest
import torch

import nnspec
from nnspec import symmetry
from nnspec.compiler.emit.load import initial_state
from nnspec.dsl.diagnostics import RunError

TEXT = (
    "network n {\n  input x: real[4]\n  output y = x -> dense(6) -> relu -> dense(5) -> tanh -> dense(3)\n}\n"
)


def test_moved_weights_are_one_network() -> None:
    net = nnspec.load(TEXT).network()
    state = initial_state(net.graph, 0)
    other = symmetry.moved(net, state, seed=1)
    forward, x = net.function(), torch.randn(7, 4, dtype=torch.float64)
    exact = {key: tensor.double() for key, tensor in state.items()}
    torch.testing.assert_close(forward(other, x), forward(exact, x))
    assert symmetry.canonical(net, other).hash == symmetry.canonical(net, state).hash
    assert symmetry.equivalent(net, state, net, other).answer == "yes"
    assert symmetry.align(net, state, other).after < 1e-6

    def loss(given: symmetry.State) -> torch.Tensor:
        return (forward(given, x) ** 2).mean()

    found = symmetry.teleport(net, state, loss, steps=5)
    assert found.norms[-1] > found.norms[0]
    torch.testing.assert_close(forward(found.state, x), forward(exact, x))


def test_other_weights_are_refused() -> None:
    net = nnspec.load(TEXT).network()
    with pytest.raises(RunError) as refusal:
        symmetry.canonical(net, {"odd": torch.zeros(1)})
    assert refusal.value.error.code == "N0963"
