"""From text to graph: instances, paths, sharing, repeats, higher-order layers, derivation, selectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nnspec.compiler.ir import Graph, Primitive, instances, state_key

Build = Callable[..., Graph]


def paths(graph: Graph) -> list[str]:
    return [located.path for located in instances(graph.root)]


def keys(graph: Graph) -> dict[str, tuple[Any, ...]]:
    """State-dict keys with shapes, as the graph has them."""
    return {
        state_key(located.path, tensor.name): tensor.shape
        for located in instances(graph.root)
        for weight in located.primitive.weights
        for tensor in weight.stored
    }


def test_names_of_instances_follow_aliases_and_number_clashes(build: Build) -> None:
    graph = build("""
network n {
  input x: real[4]
  output y = x -> dense(5) -> dense(6) as mid -> dense(7) -> relu
}
""")
    assert paths(graph) == ["dense", "mid", "dense_2"]
    assert keys(graph)["dense_2.weight"] == (7, 6)


def test_a_value_name_never_enters_a_path(build: Build) -> None:
    text = "network n {{\n input x: real[4]\n {name} = x -> dense(5)\n output y = {name} -> dense(2)\n}}\n"
    one, two = (build(text.format(name=name)) for name in ("hidden", "other"))
    assert keys(one) == keys(two)


def test_repeat_makes_instances_of_their_own(build: Build) -> None:
    graph = build("""
layer f(width: int) {
  input x: real[width]
  output y = x + (x -> dense(width) -> tanh)
}
network n(depth: int = 3) {
  input x: real[4]
  output y = x -> repeat(depth) { f(4) -> relu } -> dense(2)
}
""")
    assert paths(graph) == ["repeat[0].f.dense", "repeat[1].f.dense", "repeat[2].f.dense", "dense"]
    assert "repeat.1.f.dense.weight" in keys(graph)
    first, second, third = graph.root.child("repeat").instances
    assert first is second is third


def test_a_shared_instance_is_one_child_called_twice(build: Build) -> None:
    graph = build("""
network n {
  input a: real[4]
  input b: real[4]
  shared enc = dense(3)
  output y = (a -> enc) + (b -> enc)
}
""")
    assert keys(graph) == {"enc.weight": (3, 4), "enc.bias": (3,)}
    assert sum(getattr(s, "child", None) == "enc" for s in graph.root.body) == 2


def test_layers_take_layers_and_compositions(build: Build) -> None:
    graph = build("""
layer twice(block: layer) {
  input x: real[n]
  output y = x -> block -> block
}
network n {
  input x: real[4]
  output y = x -> twice(dense(4) -> relu) -> twice(dense(4, bias = false))
}
""")
    assert keys(graph) == {
        "twice.block.dense.weight": (4, 4),
        "twice.block.dense.bias": (4,),
        "twice.block_2.dense.weight": (4, 4),
        "twice.block_2.dense.bias": (4,),
        "twice_2.block.weight": (4, 4),
        "twice_2.block_2.weight": (4, 4),
    }


def test_conditionals_choose_while_compiling(build: Build) -> None:
    text = """
layer maybe(deep: bool) {
  input x: real[n]
  output y = x -> (dense(n) -> relu if deep else identity) -> dense(2)
}
network n(deep: bool = true) {
  input x: real[4]
  output y = x -> maybe(deep)
}
"""
    assert len(keys(build(text))) == 4
    assert len(keys(build(text, deep=False))) == 2


def test_symbolic_dimensions_bind_at_each_use(build: Build) -> None:
    graph = build("""
layer double {
  input x: real[.., n]
  output y: real[.., 2 * n] = x -> dense(2 * n)
}
network n {
  input x: real[5, 3]
  output y: real[5, 12] = x -> double -> double
}
""")
    assert keys(graph)["double_2.dense.weight"] == (12, 6)


def test_derived_networks_say_more_about_one_graph(build: Build) -> None:
    graph = build("""
network a(width: int = 8) {
  input x: real[4]
  output y = x -> dense(width) as fc -> tanh -> dense(2) as head
}
network b = a(width = 16) {
  constrain every dense.weight except head.weight: binary
}
""")
    marked = {
        located.path: [m.name for w in located.primitive.weights for m in w.maps]
        for located in instances(graph.root)
    }
    assert marked == {"fc": ["binary"], "head": []}
    assert keys(graph)["fc.weight"] == (16, 4)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("every dense.weight", {"fc", "repeat[0].dense", "repeat[1].dense", "repeat[2].dense"}),
        ("fc.weight", {"fc"}),
        ("repeat.dense.weight", {"repeat[0].dense", "repeat[1].dense", "repeat[2].dense"}),
        ("repeat[1].dense.weight", {"repeat[1].dense"}),
        ("**.weight except fc.weight", {"repeat[0].dense", "repeat[1].dense", "repeat[2].dense"}),
        ("*.weight", {"fc"}),
        ("fc.weight, repeat[2].*.weight", {"fc", "repeat[2].dense"}),
        ("every dense.weight except repeat[0].**", {"fc", "repeat[1].dense", "repeat[2].dense"}),
    ],
)
def test_selectors(build: Build, selector: str, expected: set[str]) -> None:
    graph = build(f"""
network n {{
  input x: real[4]
  output y = x -> dense(4) as fc -> repeat(3) {{ dense(4) -> tanh }}
  constrain {selector}: binary
}}
""")
    marked = {
        located.path
        for located in instances(graph.root)
        if any(weight.maps for weight in located.primitive.weights)
    }
    assert marked == expected


def test_an_outer_constraint_beats_an_inner_one(build: Build) -> None:
    graph = build("""
constraint one { w => w * 0 + 1 }
constraint two { w => w * 0 + 2 }
layer inner {
  input x: real[n]
  output y = x -> dense(n)
  constrain dense.weight: one
}
network n {
  input x: real[4]
  output y = x -> inner -> inner
  constrain inner_2.dense.weight: two
}
""")
    names = [located.primitive.weights[0].maps[0].name for located in instances(graph.root)]
    assert names == ["one", "two"]


def test_positional_arguments_follow_the_tensors(build: Build) -> None:
    one = build("network n {\n input x: real[4]\n output y = dense(x, 3, false)\n}\n")
    two = build("network n {\n input x: real[4]\n output y = x -> dense(3, bias = false)\n}\n")
    assert [s for s in one.root.children] == [s for s in two.root.children]


def test_constants_and_arithmetic(build: Build) -> None:
    graph = build("""
let base = 2 ^ 3
let width = base * 2 if base > 4 else 1
network n {
  input x: real[base]
  output y = 2 - 3 * x -> dense(width // 5 % 2 + 1)
}
""")
    assert keys(graph)["dense.weight"] == (2, 8)
    subtract = next(s.operation for s in graph.root.body if getattr(s, "name", "") == "subtract")
    assert isinstance(subtract, Primitive)
    assert subtract.options["constant"] == 2
    assert subtract.options["reversed"] is True
