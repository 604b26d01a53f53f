"""The architecture picture: golden DOT texts, folding, sharing, escaping; the chain of renderers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.diagrams.architecture import draw
from nnspec.compiler.diagrams.renderer import find_renderer, render, rendered
from nnspec.compiler.ir import Graph
from nnspec.dsl.diagnostics import RunError

Build = Callable[..., Graph]

TOWER = """
layer block(width: int) {
  input  x: real[width]
  output y = x + (x -> dense(width) -> relu -> dense(width, bias = false))
}
network tower {
  input  x: real[6]
  shared enc = dense(6)
  a = (x -> enc -> tanh) -> enc
  deep = a -> repeat(4) { block(6) }
  left, right = deep -> dense(8) -> split(2)
  output y: real[2] = [left * 2, sigmoid(right)] -> concat -> dense(2) as head
  constrain repeat[2].block.dense.weight: binary
}
"""


def test_golden_dot(build: Build, golden: Callable[[str, str], None]) -> None:
    golden("compiler/diagrams/golden/tower.dot", draw(build(TOWER)))


def test_drawing_is_deterministic(build: Build) -> None:
    assert draw(build(TOWER)) == draw(build(TOWER))


def test_equal_copies_are_drawn_once(build: Build) -> None:
    dot = draw(build(TOWER))
    assert 'label="repeat[0..1]"' in dot
    assert 'label="repeat[2]"' in dot
    assert 'label="repeat[3]"' in dot
    plain = draw(build(TOWER.replace("  constrain repeat[2].block.dense.weight: binary\n", "")))
    assert plain.count("block") == 1
    assert 'label="block × 4"' in plain


WINDOWS = """
layer window(channels: int) {
  input  x: real[c, h, w]
  output y = x -> conv2d(channels, kernel = 3, padding = "same", bias = false)
}
layer act(f: activation = gelu) {
  input  x: real[..]
  output y = x -> f
}
network n {
  input  x: real[1, 6, 6]
  output y = x -> window(4) as first -> repeat(2) { window(4) -> relu } -> act -> global_avgpool -> dense(2)
}
"""


def test_a_block_of_one_step_is_a_node(build: Build) -> None:
    dot = draw(build(WINDOWS))
    assert "subgraph" not in dot
    assert "first · 36 parameters" in dot
    assert "window × 2 · 144 parameters each" in dot
    assert "<b>gelu</b>" in dot


def test_options_stand_on_their_own_line(build: Build) -> None:
    dot = draw(build(WINDOWS))
    assert "<b>conv2d 4</b>" in dot
    assert ">kernel 3, padding same, no bias<" in dot


def test_functions_are_called_by_their_operation(build: Build) -> None:
    dot = draw(
        build("""
layer hidden(f: activation) {
  input  x: real[..]
  output y = x -> dense(3) -> f as bend
}
network n {
  input  x: real[2]
  output y = x -> hidden(tanh)
}
""")
    )
    assert "<b>dense 3 · tanh</b>" in dot
    assert "bend" not in dot


def test_only_what_keeps_the_shape_joins_a_node(build: Build) -> None:
    dot = draw(build(WINDOWS))
    assert "<b>global_avgpool</b>" in dot
    flat = "network n {\n  input x: real[2, 3]\n  output y = x -> dense(4) -> tanh -> flatten\n}\n"
    assert "<b>dense 4 · tanh · flatten</b>" in draw(build(flat))


def test_the_identity_is_drawn_nowhere(build: Build) -> None:
    text = "h = x -> dense(8) -> identity -> tanh\n  both = h -> identity\n  output y = h + (both -> dense(8)) -> identity"
    dot = draw(build(f"network n {{\n  input x: real[4]\n  {text}\n}}\n"))
    assert "identity" not in dot and "dense 8 · tanh" in dot
    # A function of a copy does not stand in the node that others read from.
    text = "h = x -> dense(8)\n  output y = h + (h -> identity -> tanh)"
    assert "dense 8 · tanh" not in draw(build(f"network n {{\n  input x: real[4]\n  {text}\n}}\n"))
    text = "output y = x -> identity -> dense(3)"
    assert draw(build(f"network n {{\n  input x: real[4]\n  {text}\n}}\n")).count("dense 3") == 1


def test_what_skips_may_bend(build: Build) -> None:
    dot = draw(build(TOWER))
    skips = [line for line in dot.splitlines() if "weight=1]" in line]
    assert len(skips) == 3  # one for each `x + ...` drawn


def test_long_chains_and_deep_nests_are_drawn(build: Build) -> None:
    chain = " -> ".join(["dense(4) -> relu"] * 1500)
    dot = draw(build(f"network n {{\n  input x: real[4]\n  output y = x -> {chain}\n}}\n"))
    assert dot.count("dense 4 · relu") == 1500
    nested = "".join(
        f"layer l{i} {{\n  input x: real[4]\n  output y = x -> {'dense(4)' if i == 0 else f'l{i - 1}'}\n}}\n"
        for i in range(30)
    )
    deep = draw(build(nested + "network n {\n  input x: real[4]\n  output y = x -> l29 -> relu\n}\n"))
    assert "<b>dense 4 · relu</b>" in deep


def test_depth_folds_blocks(build: Build) -> None:
    dot = draw(build(TOWER), depth=0)
    assert "subgraph" not in dot
    assert "repeat[0..1]" in dot


def test_every_edge_joins_nodes_that_are_drawn(build: Build) -> None:
    dot = draw(build(TOWER))
    nodes = set(re.findall(r"^\s+(n\d+) \[", dot, re.MULTILINE))
    edges = re.findall(r"^\s+(n\d+) -> (n\d+)", dot, re.MULTILINE)
    assert edges
    assert {end for edge in edges for end in edge} == nodes


def test_hostile_names_are_escaped(build: Build) -> None:
    graph = build("network n {\n  input  x: real[3]\n  output y = x -> dense(2) as d\n}\n")
    hostile = graph.replace(name='a"b\\N<c>\nd')
    child = hostile.root.children[0].replace(name='<b>"&\\')
    body = tuple(s.replace(child=child.name) for s in hostile.root.body)
    dot = draw(hostile.replace(root=hostile.root.replace(children=(child,), body=body)))
    assert 'digraph "a\\"b\\\\N<c> d"' in dot
    assert "&lt;b&gt;&quot;&amp;\\" in dot
    if find_renderer() is not None:
        assert b"<svg" in rendered(dot, "svg")


@pytest.mark.skipif(find_renderer() is None, reason="needs a renderer")
@pytest.mark.parametrize(
    ("ending", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("html", b"<!doctype")]
)
def test_pictures(build: Build, tmp_path: Path, ending: str, begins: bytes) -> None:
    path = tmp_path / f"deep/picture.{ending}"
    render(draw(build(TOWER)), ending, path)
    assert path.read_bytes().startswith(begins)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_without_a_renderer_the_dot_is_written(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnspec.compiler.diagrams.renderer.find_renderer", lambda: None)
    dot = draw(build(TOWER))
    with pytest.raises(RunError) as caught:
        render(dot, "svg", tmp_path / "n.svg")
    assert caught.value.error.code == "N0901"
    assert (tmp_path / "n.dot").read_text(encoding="utf-8") == dot


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        render("digraph {}", "gif", tmp_path / "n.gif")
    assert caught.value.error.code == "N0904"


def test_an_activation_of_the_spec_stands_with_what_it_follows(build: Callable[..., Graph]) -> None:
    text = draw(
        build("""
activation bent(slope: real = 0.5) { x => where(x > 0, x, slope * x) }

layer block(width: int) {
  input  x: real[n]
  output y = x -> dense(width) -> bent
}

network n {
  input  x: real[4]
  output y = x -> block(8) -> dense(3) -> bent(0.1)
}
""")
    )
    assert "<b>dense 8 · bent 0.5</b>" in text and "<b>dense 3 · bent 0.1</b>" in text
    assert "cluster" not in text
