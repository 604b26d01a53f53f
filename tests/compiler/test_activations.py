"""Activations written in the language: what they compute, where they may stand, how they are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

SWISH = "activation swish(beta: real = 1.0) { x => x * sigmoid(beta * x) }\n"


def network(step: str, definitions: str = SWISH, size: str = "4") -> str:
    return f"{definitions}network n {{\n  input x: real[{size}]\n  output y = x -> {step}\n}}"


@pytest.mark.parametrize(
    ("step", "by_hand"),
    [
        ("swish", lambda x: F.silu(x)),
        ("swish(2.0)", lambda x: x * torch.sigmoid(2 * x)),
        ("swish(beta = 0.5) -> swish", lambda x: F.silu(x * torch.sigmoid(0.5 * x))),
        ("repeat(2) { swish(3) }", lambda x: (y := x * torch.sigmoid(3 * x)) * torch.sigmoid(3 * y)),
        ("(swish if 1 < 2 else relu)", lambda x: F.silu(x)),
        ("[swish, relu] -> concat", lambda x: torch.cat([F.silu(x), F.relu(x)], 1)),
    ],
)
def test_an_activation_computes_its_expression(build: Build, step: str, by_hand: Any) -> None:
    graph = build(network(step))
    x = torch.randn(5, 4)
    net = module(graph)
    assert not net.state_dict()
    torch.testing.assert_close(net(x), by_hand(x))
    torch.testing.assert_close(function(graph)({}, x), by_hand(x))
    verify(graph)
    graph_data(graph)


@pytest.mark.parametrize("size", ["4", "2, 4", "3, 5, 5"])
def test_it_takes_any_shape(build: Build, size: str) -> None:
    graph = build(network("swish", size=size))
    x = torch.randn(2, *map(int, size.split(",")))
    torch.testing.assert_close(module(graph)(x), F.silu(x))


def test_it_is_written_as_one_plain_function(build: Build) -> None:
    text = emit(build(network("dense(4) -> swish -> dense(4) -> swish")))
    assert "def swish(x: Tensor) -> Tensor:\n    return x * torch.sigmoid(1.0 * x)\n" in text
    assert text.count("def swish") == 1 and text.count("swish(x)") == 2
    assert "class Swish" not in text and "self.swish" not in text
    assert emit_functional(build(network("swish"))).count("def swish(x: Tensor)") == 1


def test_two_configurations_are_two_functions_and_names_stay_apart(build: Build) -> None:
    text = emit(build(network("swish -> swish(2) -> dense(2)")))
    assert "def swish(" in text and "def swish_2(" in text
    hostile = "activation torch { x => x * tanh(x) }\n"
    x = torch.randn(3, 4)
    torch.testing.assert_close(module(build(network("torch", hostile)))(x), x * torch.tanh(x))


def test_brackets_stay_where_they_are_needed(build: Build) -> None:
    body = "activation f { x => -(x - 1) ^ 2 / (x * x + 1) - (2 - (3 - x)) }\n"
    x = torch.randn(3, 4, dtype=torch.float64)
    by_hand = -((x - 1) ** 2) / (x * x + 1) - (2 - (3 - x))
    graph = build(network("f", body))
    torch.testing.assert_close(module(graph).double()(x), by_hand)


def test_activations_are_values_like_built_in_ones(build: Build) -> None:
    text = (
        SWISH
        + """
activation twice(f: activation = swish(2)) { x => x -> f -> f }

layer block(width: int, act: activation = swish) {
  input  x: real[.., n]
  output y = x -> dense(width) -> act
}

network n {
  input  x: real[4]
  output y = x -> block(4) -> block(4, act = twice) -> block(4, twice(relu)) -> block(4, act = swish(beta = 3))
}
"""
    )
    graph = build(text)
    assert list(module(graph).state_dict()) == [
        f"{name}.dense.{weight}"
        for name in ("block", "block_2", "block_3", "block_4")
        for weight in ("weight", "bias")
    ]


def test_a_shared_activation_and_a_let(build: Build) -> None:
    text = (
        SWISH
        + """
let act = swish(2)

network n {
  input  x: real[4]
  shared f = act
  output y = (x -> f) + (2 * x -> f)
}
"""
    )
    x = torch.randn(3, 4)
    torch.testing.assert_close(
        module(build(text))(x), x * torch.sigmoid(2 * x) + 2 * x * torch.sigmoid(4 * x)
    )


def test_a_constraint_may_use_one(build: Build) -> None:
    text = (
        SWISH
        + """
constraint bent { w => swish(w) }

network n {
  input  x: real[4]
  output y = x -> dense(3, bias = false)
  constrain dense.weight: bent
}
"""
    )
    graph = build(text)
    net = module(graph)
    x = torch.randn(2, 4)
    weight = net.state_dict()["dense.weight"]
    torch.testing.assert_close(net(x), x @ F.silu(weight).t())


def test_an_activation_used_twice_is_complained_about_once(refuse: Any) -> None:
    errors = refuse(network("f -> f", "activation f { x => x -> dense(4) }\n"))
    assert [error.code for error in errors] == ["N0239"]


def test_an_activation_cannot_contain_itself(refuse: Any) -> None:
    errors = refuse(network("f", "activation f { x => g(x) }\nactivation g { x => f(x) }\n"))
    assert [error.code for error in errors] == ["N0213"]


def test_it_counts_as_one_operation(build: Build) -> None:
    from nnspec.compiler.passes.cost import cost_table
    from nnspec.compiler.synapses import synapses

    graph = build(network("dense(4) -> swish(2) -> dense(2)"))
    layers = {layer.path: (layer.operation, layer.flops) for layer in cost_table(graph).layers}
    assert layers["swish"] == ("swish", 4 * (1 + 4 + 1))  # two products and a sigmoid for each entry
    wiring = synapses(graph)
    first = wiring.synapses[0]
    assert wiring.flat.values[first.post].name == "swish" and not first.misfits
