"""The symmetry graph: what it says of every axis, against the group applied to weights; written and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.graph import graphml, node_link, symmetry_graph
from nnspec.compiler.symmetry.group import symmetry_group

Build = Callable[..., Graph]


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


NETS = {
    "tanh": net("output y = x -> dense(5) as a -> tanh -> dense(3) as b"),
    "leaky": net("output y = x -> dense(5) as a -> leaky_relu -> dense(3) as b"),
    "linear": net("output y = x -> dense(6) as a -> dense(3) as b"),
    "norm": net("output y = x -> dense(5) as a -> rmsnorm(affine = false) -> dense(3) as b"),
    "batchnorm": net("output y = x -> dense(5) as a -> batchnorm as norm -> relu -> dense(3) as b"),
    "recurrent": net("shared w = dense(4)\n  output y = x -> w -> tanh -> w -> tanh -> dense(2) as b"),
    "flattened": net("output y = x -> flatten -> dense(3) as a -> tanh -> dense(2)", "real[2, 3]"),
    "attention": net(
        "output y = attention(x -> dense(4) as a, x -> dense(4), x -> dense(4)) -> dense(2)", "real[3, 4]"
    ),
}


def actions(build: Build, name: str) -> dict[tuple[str, int], str]:
    """What the wire `a` (or the first that is not fixed) does, by weight and axis."""
    made = symmetry_graph(symmetry_group(build(NETS[name])))
    return {
        (weight.removeprefix("weight "), data["axis"]): data["action"]
        for wire, weight, data in made.edges(data=True)
        if "axis" in data and data["action"] != "fixed" and wire == "wire a"
    }


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("tanh", "permutes, flips", "permutes, flips"),
        ("leaky", "permutes, scales by d", "permutes, scales by 1/d"),
        ("linear", "GL", "dual of GL"),
        ("norm", "O", "O"),
    ],
)
def test_edges_say_what_the_group_does(build: Build, name: str, forward: str, backward: str) -> None:
    wanted = {("a.weight", 0): forward, ("a.bias", 0): forward, ("b.weight", 1): backward}
    assert actions(build, name) == wanted


def test_statistics_are_acted_on_too(build: Build) -> None:
    found = actions(build, "batchnorm")
    assert found["norm.running_var", 0] == "permutes, scales by d^2"
    assert found["norm.running_mean", 0] == "permutes, scales by d, flips"


def test_powers_are_those_that_change_no_output(build: Build) -> None:
    """Weights scaled by hand as the edges say, and the outputs compared."""
    import torch

    from nnspec.compiler.emit.load import function
    from nnspec.compiler.symmetry.draws import random_state

    graph = build(NETS["leaky"])
    state = random_state(graph, symmetry_group(graph), 0)
    d = torch.rand(5, dtype=torch.float64) + 0.5
    moved = dict(state)
    for (weight, axis), action in actions(build, "leaky").items():
        factor = d if action.endswith("by d") else 1 / d
        shape = [-1 if own == axis else 1 for own in range(state[weight].dim())]
        moved[weight] = state[weight] * factor.view(shape)
    x = torch.randn(20, 4, dtype=torch.float64)
    assert torch.allclose(function(graph)(state, x), function(graph)(moved, x), rtol=1e-13)


def test_a_wire_on_both_sides_has_an_edge_for_each(build: Build) -> None:
    made = symmetry_graph(symmetry_group(build(NETS["recurrent"])))
    ends = [
        data["axis"]
        for _, weight, data in made.edges(data=True)
        if weight == "weight w.weight" and "axis" in data
    ]
    assert sorted(ends) == [0, 1]


@pytest.mark.parametrize("name", NETS)
def test_written_graphs_are_read_back_whole(build: Build, name: str) -> None:
    import networkx as nx

    group = symmetry_group(build(NETS[name]))
    made = symmetry_graph(group)
    library: Any = nx
    read = library.parse_graphml(graphml(group), force_multigraph=True)
    assert sorted(map(str, read.nodes(data=True))) == sorted(map(str, made.nodes(data=True)))
    assert sorted(map(str, read.edges(data=True))) == sorted(map(str, made.edges(data=True)))
    again = library.node_link_graph(json.loads(json.dumps(node_link(group))), edges="edges")
    assert library.utils.graphs_equal(again, made)
    kinds = {data["kind"] for _, data in made.nodes(data=True)}
    assert kinds == {"wire", "weight", "operation"}
    assert all(
        data["line"] > 0 and data["reason"] for _, data in made.nodes(data=True) if data["kind"] == "wire"
    )
