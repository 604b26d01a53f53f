"""Activations with `learn` parameters: what they compute, store, begin with, and what symmetries they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

DEFINITIONS = """
activation swish(learn beta: real = 1.0) { x => x * sigmoid(beta * x) }

activation prelu(learn slope: real[unit] = 0.25) { x => where(x > 0, x, slope * x) }

activation mixed(learn a: real[unit, 3] = normal(std = 0.5), k: real = 2.0) {
  x => a[0.., 0] * x + a[0.., 1] * tanh(k * x) + a[0.., 2]
}

activation wiggle(learn w: real[edge, 2] = 0.5) { x => w[0.., 0.., 0] * x + w[0.., 0.., 1] * sin(x) }

activation twice(f: activation, learn gain: real = 2.0) { x => gain * f(f(x)) }
"""


def spec(steps: str, shape: str = "4") -> str:
    return f"{DEFINITIONS}\nnetwork n {{\n  input  x: real[{shape}]\n  output y = x -> {steps}\n}}\n"


# steps: (shapes of the state, by hand from the state, shape of the input)
CASES: dict[str, tuple[dict[str, tuple[int, ...]], Any, str]] = {
    "swish": ({"swish.beta": ()}, lambda x, s: x * torch.sigmoid(s["swish.beta"] * x), "4"),
    "swish(beta = 3) as act": ({"act.beta": ()}, lambda x, s: x * torch.sigmoid(s["act.beta"] * x), "3, 4"),
    "prelu": ({"prelu.slope": (4,)}, lambda x, s: torch.where(x > 0, x, s["prelu.slope"] * x), "4"),
    "prelu(0.1)": (
        {"prelu.slope": (4,)},
        lambda x, s: torch.where(x > 0, x, s["prelu.slope"] * x),
        "2, 3, 4",
    ),
    "mixed(k = 3)": (
        {"mixed.a": (4, 3)},
        lambda x, s: s["mixed.a"][:, 0] * x + s["mixed.a"][:, 1] * torch.tanh(3 * x) + s["mixed.a"][:, 2],
        "5, 4",
    ),
    "wiggle": (
        {"wiggle.w": (3, 4, 2)},
        lambda x, s: s["wiggle.w"][..., 0] * x + s["wiggle.w"][..., 1] * torch.sin(x),
        "3, 4",
    ),
    "twice(swish(beta = 2))": (
        {"twice.gain": (), "twice.f.beta": (), "twice.f_2.beta": ()},
        lambda x, s: (
            s["twice.gain"]
            * (y := x * torch.sigmoid(s["twice.f.beta"] * x))
            * torch.sigmoid(s["twice.f_2.beta"] * y)
        ),
        "4",
    ),
}


@pytest.mark.parametrize("steps", CASES)
def test_it_computes_its_expression_with_tensors_of_its_own(build: Build, steps: str) -> None:
    shapes, by_hand, shape = CASES[steps]
    graph = verify(build(spec(steps, shape)))
    net = module(graph).double()
    state = {name: torch.randn_like(value) for name, value in net.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes
    net.load_state_dict(state)
    x = torch.randn(6, *map(int, shape.split(",")), dtype=torch.float64)
    torch.testing.assert_close(net(x), by_hand(x, state))
    torch.testing.assert_close(function(graph)(state, x), by_hand(x, state))
    many = {name: torch.stack([value, 2 * value]) for name, value in state.items()}
    both = torch.vmap(lambda own: function(graph)(own, x))(many)
    torch.testing.assert_close(both[0], by_hand(x, state))
    count = sum(value.numel() for value in state.values())
    assert cost_table(graph).parameters == count


@pytest.mark.parametrize(
    ("steps", "value"),
    [("swish", 1.0), ("swish(beta = 3)", 3.0), ("prelu", 0.25), ("prelu(slope = 0.1)", 0.1)],
)
def test_a_use_may_say_where_it_begins(build: Build, steps: str, value: float) -> None:
    (stored,) = module(build(spec(steps))).state_dict().values()
    assert torch.equal(stored, torch.full_like(stored, value))


def test_it_may_begin_by_chance(build: Build) -> None:
    torch.manual_seed(0)
    (stored,) = module(build(spec("mixed", "400"))).state_dict().values()
    assert stored.shape == (400, 3) and abs(float(stored.std()) - 0.5) < 0.05


def test_it_is_torchs_own_prelu(build: Build) -> None:
    net, twin = module(build(spec("prelu"))), nn.PReLU(4)
    x = torch.randn(5, 4)
    for given in (net, twin):
        given(x).square().sum().backward()
    torch.testing.assert_close(net(x), twin(x))
    (slope,) = net.parameters()
    torch.testing.assert_close(slope.grad, twin.weight.grad)


def test_the_module_is_what_one_writes_by_hand(build: Build) -> None:
    text = emit(build(spec("dense(4) -> swish -> dense(2)")))
    assert "class Swish(nn.Module):" in text
    assert "self.beta = nn.Parameter(torch.full((), 1.0))" in text
    assert "return x * torch.sigmoid(self.beta * x)" in text
    assert "def swish(parameters" in emit_functional(build(spec("swish")))


def test_a_shared_activation_has_one_set_of_parameters(build: Build) -> None:
    text = f"""{DEFINITIONS}
network n {{
  input  x: real[4]
  shared act = prelu
  output y = x -> act -> dense(4) -> act
}}
"""
    assert [name for name in module(build(text)).state_dict() if "slope" in name] == ["act.slope"]


NET = "dense(5) -> {act} -> dense(6{bias}) -> {act} -> dense(3)"


@pytest.mark.parametrize("bias", ["", ", bias = false"])
@pytest.mark.parametrize(
    ("act", "dimension", "order"),
    [
        # x -> a x, beta -> beta / a: one number for a layer, of either sign
        ("swish", 2, 2**2 * 120 * 720),
        # one a unit: slopes stay, and follow the units
        ("prelu", 11, 120 * 720),
        # each unit takes a scale and a sign on its outgoing side, into its row
        ("mixed", 11, 2**11 * 120 * 720),
        ("twice(tanh)", 2, None),
    ],
)
def test_symmetries_of_learned_activations(
    build: Build, act: str, dimension: int, order: int | None, bias: str
) -> None:
    graph = build(spec(NET.format(act=act, bias=bias)))
    group = symmetry_group(graph)
    found = verify_group(graph, group)
    assert found.max_output_error < 1e-9
    assert group.continuous_dimension <= found.nullity
    if act != "twice(tanh)":
        assert (group.continuous_dimension, group.order) == (dimension, order)


def test_an_edge_activation_has_sound_symmetries(build: Build) -> None:
    graph = build(spec("dense(12) -> reshape([3, 4]) -> wiggle -> sum(axis = -1) -> dense(2)", "4"))
    group = symmetry_group(graph)
    found = verify_group(graph, group)
    assert found.max_output_error < 1e-9 and group.continuous_dimension <= found.nullity


def test_swish_learns_in_training(build: Build) -> None:
    graph = build(spec("dense(4) -> swish -> dense(1)"))
    net = module(graph)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.randn(32, 4)
    before = net.state_dict()["swish.beta"].clone()
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(net(x), x.sum(1, keepdim=True)).backward()
        optimizer.step()
    assert not torch.equal(before, net.state_dict()["swish.beta"])
