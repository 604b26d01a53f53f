"""Emitted modules: text as written by hand, and numbers bit for bit those of hand-written twins."""

from __future__ import annotations

from typing import Any

import torch

from nnspec.compiler.emit.load import function, initial_state, module
from nnspec.compiler.emit.torch import emit


def mlp(hand: Any) -> Any:
    b = hand.network("digits_mlp", doc="Handwritten digits.")
    x = b.op("flatten", b.input("image", (8, 8)))
    x = b.op("relu", b.layer("fc1", "dense", x, units=32), to="hidden")
    b.output("digit", b.layer("head", "dense", x, units=10, to="digit"))
    return b.graph()


def test_mlp(hand: Any) -> None:
    print(emit(mlp(hand)))
    graph = mlp(hand)
    net = module(graph)
    state = initial_state(graph, 0, 3)
    x = torch.randn(5, 8, 8)
    out = torch.vmap(function(graph), in_dims=(0, None))(state, x)
    net.load_state_dict({k: v[1] for k, v in state.items()})
    assert torch.allclose(net(x), out[1], atol=1e-6)
