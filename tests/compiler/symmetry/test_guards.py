"""Generators on tensors, the symmetry pass, and the symmetry graph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.symmetry.group import symmetry_group

Build = Callable[..., Graph]


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


SPECS = {
    "sum to one": net("output y = x -> dense(3) -> relu -> sum -> unsqueeze -> dense(2)"),
    "mean to one": net("output y = x -> dense(3) -> relu -> mean -> reshape([1]) -> dense(2)"),
    "variance to one": net("output y = x -> dense(4) -> relu -> variance -> unsqueeze -> dense(2)"),
    "pattern to one": net('output y = x -> dense(4) -> relu -> reduce("a -> 1", sum) -> dense(2)'),
    "width one": net("output y = x -> dense(1) -> dense(1) -> tanh -> dense(2)"),
    "tanh": net("output y = x -> dense(5) -> tanh -> dense(6) -> tanh -> dense(3)"),
    "relu": net("output y = x -> dense(5) -> relu -> dense(6) -> leaky_relu -> dense(3)"),
    "linear": net("output y = x -> dense(6) -> dense(5) -> dense(3)"),
    "residual": net(
        "h = x -> dense(6)\n  a = h + (h -> dense(5) -> tanh -> dense(6))\n  output y = a -> dense(3)"
    ),
    "tied": net(
        "output y = x -> dense(3) as e -> tanh -> dense(4) as d\n"
        "  constrain d.weight: tied(e.weight, transpose = true)"
    ),
    "tied linear": net(
        "output y = x -> dense(3, bias = false) as e -> dense(4, bias = false) as d\n"
        "  constrain d.weight: tied(e.weight, transpose = true)"
    ),
    "binary": net("output y = x -> dense(5) as b -> tanh -> dense(3)\n  constrain b.weight: binary"),
    "gate": net("output y = (x -> dense(5) -> silu) * (x -> dense(5, bias = false)) -> dense(3)"),
    "batchnorm": net("output y = x -> dense(5) -> batchnorm -> relu -> dense(3)"),
    "layernorm": net("output y = x -> dense(5) -> layernorm(affine = false) -> dense(3)"),
    "layernorm with gain": net("output y = x -> dense(5) -> layernorm -> dense(3)"),
    "rmsnorm": net("output y = x -> dense(5) -> rmsnorm(affine = false) -> dense(3)"),
    "softmax": net("output y = x -> dense(5) -> softmax -> dense(3) -> softmax"),
    "concat": net(
        "a = x -> dense(5) -> tanh\n  b = x -> dense(4) -> relu\n  output y = concat(a, b) -> dense(3)"
    ),
    "split": net("a, b = x -> dense(10) -> split(2)\n  output y = relu(a) -> dense(4) -> relu -> dense(3)"),
    "mixer": net(
        "a = x + (x -> permute([1, 0]) -> dense(7) -> gelu -> dense(5) -> permute([1, 0]))\n"
        "  output y = a -> dense(9) -> relu -> dense(3)",
        "real[5, 4]",
    ),
    "convolution": net(
        "output y = x -> conv2d(4, kernel = 3) -> relu -> conv2d(6, kernel = 2, groups = 2) -> relu"
        " -> maxpool(2) -> flatten -> dense(3)",
        "real[2, 8, 8]",
    ),
    "embedding": "network n {\n  input t: int[3]\n  output y = t -> embedding(7, 4) -> dense(5) -> tanh -> dense(2)\n}\n",
}

# Every word between a map and a map: what the relations claim must hold, whatever they leave unclaimed.
WORDS = {
    "maximum": "maximum(x -> dense(5), x -> dense(5))",
    "minimum with 0": "minimum(x -> dense(5), 0)",
    "maximum with 1": "maximum(x -> dense(5), 1)",
    "clamp": "x -> dense(5) -> clamp(-1, 1)",
    "clamp below": "x -> dense(5) -> clamp(0)",
    "round": "(x -> dense(5)) + (x -> dense(5) -> round)",
    "max": "x -> dense(20) -> reshape([5, 4]) -> max(axis = -1)",
    "min": "x -> dense(20) -> reshape([4, 5]) -> min(axis = 0)",
    "variance": "x -> dense(20) -> reshape([5, 4]) -> variance(axis = -1)",
    "norm": "x -> dense(20) -> reshape([5, 4]) -> norm(axis = -1)",
    "norm of all": "x -> dense(5) -> norm -> unsqueeze",
    "argmax": "where((x -> dense(20) -> reshape([5, 4]) -> argmax(axis = -1)) > 1, x -> dense(5), 0)",
    "top_k": "top -> flatten",
    "cumsum": "x -> dense(20) -> reshape([5, 4]) -> cumsum -> tanh -> flatten",
    "cumsum of a linear map": "x -> dense(20) -> reshape([4, 5]) -> cumsum(axis = 0) -> flatten",
    "squeeze": "x -> dense(5) -> unsqueeze(-1) -> dense(3) -> tanh -> dense(1) -> squeeze",
    "stop_gradient": "(x -> dense(5)) + (x -> dense(5) -> stop_gradient)",
    "straight_through": "straight_through(sign(a), tanh(a))",
    "logic": "where((x -> dense(5)) > 0 and not (x -> dense(5)) > 1, x -> dense(5), 0)",
    "complex": "complex(x -> dense(5), x -> dense(5)) -> abs",
    "complex parts": "complex(x -> dense(5), x -> dense(5)) -> exp -> [real, imag] -> concat",
    "complex product": "complex(x -> dense(5), x -> dense(5)) * complex(x -> dense(5), x -> dense(5)) -> imag",
    "conv1d": "x -> dense(12) -> reshape([2, 6]) -> conv1d(4, kernel = 3) -> tanh -> flatten",
    "conv1d along": "x -> dense(12) -> reshape([6, 2]) -> conv1d(4, kernel = 3, along = 0) -> relu"
    " -> conv1d(4, kernel = 2, groups = 2, along = 0) -> flatten",
    "conv2d along": "x -> dense(18) -> reshape([3, 2, 3]) -> conv2d(4, kernel = 2, along = [0, 2]) -> relu -> flatten",
    "pooling along": "x -> dense(18) -> reshape([6, 3]) -> maxpool(2, along = 0) -> avgpool(2, along = 0) -> flatten",
    "product": "x -> dense(8) -> product",
    "units": "x -> dense(10) -> units([sin, square, identity * 4, product * 2])",
    "units of one kind": "x -> dense(4) -> units([tanh * 4])",
    "units twice": "x -> dense(7) -> units([tanh * 2, relu * 3, tanh * 2])",
    "rearrange": 'x -> dense(20) -> rearrange("(a c) -> c a", a = 4) -> dense(3) -> tanh -> rearrange("a b -> (a b)")',
    "rearrange and back": 'x -> dense(20) -> rearrange("(a c) -> c 1 a", a = 4) -> rearrange("c 1 a -> (a c)")',
    "reduce": 'x -> dense(20) -> tanh -> reduce("(a c) -> c", mean, a = 4)',
    "reduce by max": 'x -> dense(20) -> reduce("(a c) -> a", max, a = 4)',
    "reduce by norm": 'x -> dense(20) -> reduce("(a c) -> a", norm, a = 4)',
    "einsum": 'einsum("i, j -> i j", x -> dense(3), x -> dense(4) -> tanh) -> flatten',
    "einsum over one": 'einsum("i k, k -> i", x -> dense(12) -> reshape([4, 3]), x -> dense(3))',
    "einsum of one": 'einsum("i k -> k i", x -> dense(12) -> reshape([4, 3])) -> flatten',
    "attention": 'einsum("i d, j d -> i j", x -> dense(12) -> reshape([4, 3]), x -> dense(12) -> reshape([4, 3]))'
    " -> softmax -> flatten",
    "fork": "x -> fork(2) { dense(5) -> tanh } -> stack -> mean(axis = 0)",
    "fork of linear maps": "x -> fork(k in [2, 3]) { dense(k) } -> concat",
    "kept": "x -> repeat(c in [5, 4], keep = all) { dense(c) -> tanh } -> concat",
    "kept and multiplied": "x -> repeat(3, keep = all) { dense(5) } -> multiply",
}
BEFORE = {
    "top_k": "top, places = x -> dense(20) -> reshape([4, 5]) -> top_k(2, axis = 0)\n  ",
    "straight_through": "a = x -> dense(5)\n  ",
}
SPECS |= {
    name: net(f"{BEFORE.get(name, '')}h = {text}\n  output y = h -> dense(3)") for name, text in WORDS.items()
}


@pytest.mark.parametrize("name", SPECS)
def test_generators_change_no_output_and_the_dimension_is_at_most_the_nullity(
    build: Build, name: str
) -> None:
    from nnspec.compiler.symmetry.guards import verify_group

    graph = build(SPECS[name])
    group = symmetry_group(graph)
    for seed in range(2):
        verified = verify_group(graph, group, seed)
        assert verified.max_output_error < 1e-10
        assert group.continuous_dimension <= verified.nullity
        assert group.continuous_dimension == verified.nullity or not group.is_exact
    assert verified.generators > 0


def test_generators_move_weights(build: Build) -> None:
    import torch

    from nnspec.compiler.symmetry.generators import generators
    from nnspec.compiler.symmetry.guards import random_state

    for name in ("relu", "linear", "residual", "batchnorm", "layernorm"):
        graph = build(SPECS[name])
        group = symmetry_group(graph)
        state = random_state(graph, group, 0)
        for generator in generators(group):
            moved = generator(state, 1.0)
            assert any(not torch.equal(moved[key], state[key]) for key in state), (name, generator)
            if generator.family in ("scale", "shift", "linear", "orthogonal"):
                still = generator(state, 0.0)
                assert all(torch.allclose(still[key], state[key]) for key in state)


def test_the_pass_answers_in_json(build: Build) -> None:
    result = find("symmetry").run(Subject(graph=build(SPECS["tanh"])), {"verify": True, "seed": 0})
    assert set(result.data) >= {
        "log10_order",
        "order",
        "factors",
        "continuous_dimension",
        "families",
        "wires",
        "completeness",
        "verified",
    }
    assert result.data["order"] == str(120 * 2**5 * 720 * 2**6)
    assert set(result.data["wires"][0]) >= {"name", "size", "group", "reason", "line"}
    assert result.data["verified"]["nullity"] == result.data["continuous_dimension"] == 0
    titles = {table.title for table in result.tables}
    expected = {"Wires", "Factors of the discrete part", "Theorems that cover it", "Verified"}
    assert titles == expected  # no family has a direction


LOSSES = """
network compared {
  input  x: real[4]
  input  t: real[3]
  input  label: int
  h = x -> dense(5) as first -> tanh
  distance = mean_squared_error(h -> dense(3) as guess, t) -> unsqueeze
  output y = distance -> dense(4) as second -> tanh -> dense(2)
  output loss = cross_entropy(h -> dense(3) as scores, label)
}
"""


def test_an_operation_without_relations_is_named_and_a_subgroup_is_left(build: Build) -> None:
    from nnspec.compiler.symmetry.verification import verify

    graph = build(LOSSES)
    group = symmetry_group(graph)
    assert group.order == 120 * 2**5 * 24 * 2**4
    assert not group.is_exact
    wires = {wire.name: wire for wire in group.wires}
    for name, word in (("guess", "mean_squared_error"), ("scores", "cross_entropy")):
        assert wires[name].is_fixed
        assert wires[name].reason == f"{word} is an operation that states no relations"
    told = group.json()["completeness"]
    assert told.startswith("lower bound only: `mean_squared_error` states no relations")
    found = verify(graph, group)
    assert found.max_output_error < 1e-10
    assert (
        found.surplus == 6
    )  # the softmax in a cross entropy forgets what all scores share: five weights each, and biases


@pytest.mark.parametrize("word", ["tanh", "dense", "rmsnorm"])
def test_what_an_operation_without_relations_meets_stays(build: Build, monkeypatch: Any, word: str) -> None:
    from nnspec.compiler.operations.registry import operation
    from nnspec.compiler.symmetry.verification import verify

    graph = build(
        "network n { input x: real[3]\n"
        "  output y = x -> dense(4) -> relu -> rmsnorm -> dense(4) -> dense(4) -> tanh -> dense(2) }"
    )
    full = symmetry_group(graph)
    monkeypatch.setattr(type(operation(word)), "relate", lambda self, site: None)
    group = symmetry_group(graph)
    assert group.log10_order <= full.log10_order
    assert group.continuous_dimension <= full.continuous_dimension
    assert (group.log10_order, group.continuous_dimension) != (full.log10_order, full.continuous_dimension)
    assert verify(graph, group).max_output_error < 1e-10


def test_the_graph_can_be_written_and_names_every_weight(build: Build) -> None:
    import networkx as nx

    from nnspec.compiler.symmetry.graph import symmetry_graph

    made = symmetry_graph(symmetry_group(build(SPECS["residual"])))
    kinds = nx.get_node_attributes(made, "kind")
    assert sum(kind == "weight" for kind in kinds.values()) == 8
    assert all(
        attributes["group"] and attributes["reason"]
        for _, attributes in made.nodes(data=True)
        if attributes["kind"] == "wire"
    )
    assert "".join(nx.generate_graphml(made)).startswith("<graphml")


def test_the_group_of_a_large_network_is_derived_without_torch() -> None:
    code = (
        "import sys\n"
        "from nnspec.compiler.pipeline import check\n"
        "from nnspec.dsl.diagnostics import Bag\n"
        "from nnspec.dsl.source import Source\n"
        "from nnspec.compiler.symmetry.group import symmetry_group\n"
        "text = 'network n {\\n input x: real[4]\\n output y = x -> dense(800) -> tanh -> dense(2)\\n}\\n'\n"
        "checked = check(Source('t', text), Bag())\n"
        "symmetry_group(checked.graph(checked.networks()[0]))\n"
        "assert not {'torch', 'networkx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
