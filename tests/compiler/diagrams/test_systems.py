"""Pictures of systems: states as groups, connections with the arrows along which values pass."""

from __future__ import annotations

import re
from collections.abc import Callable

from nnspec.compiler.diagrams.architecture import draw
from nnspec.compiler.diagrams.symmetry import draw_symmetry
from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group

SYSTEM = """
use library.dynamics
network n {
  input  x: real[4]
  state  h: real[6] = uniform(0, 0.1)
  state  o: real[2]
  connect x -> [h, o] as feed
  connect h <-> o as two
  connect [h, o] -> [h, o] as rec where (i, j) => i != j
  connect o -> h as fed
  dynamics leaky(tanh, solve = euler(dt = 0.2, steps = 40), clip = [-1, 1])
  output y = o -> dense(3) as out
}
"""


def edges(dot: str) -> dict[tuple[str, str], str]:
    """Return what is said of each edge, by the words in the nodes at its ends."""
    names = {
        node: word.group(1)
        for node, label in re.findall(r"^\s*(n\d+) \[label=<(.*)>, fill", dot, re.MULTILINE)
        if (word := re.search(r"\b(feed|two|rec|fed|out)\b", label) or re.search(r"<b>([\w+]+)", label))
    }
    found = re.findall(r"^  (n\d+) -> (n\d+)(?: \[(.*)\])?$", dot, re.MULTILINE)
    return {(names[a], names[b]): look for a, b, look in found}


def test_arrows_lead_where_values_pass(build: Callable[..., Graph]) -> None:
    looks = edges(draw(build(SYSTEM)))
    heads = {ends: next(iter(re.findall(r"dir=(\w+)", look)), "forward") for ends, look in looks.items()}
    assert heads == {
        ("x", "feed"): "forward",
        ("feed", "h"): "forward",
        ("feed", "o"): "forward",
        ("h", "two"): "both",
        ("two", "o"): "both",
        ("h", "rec"): "both",
        ("rec", "o"): "both",
        ("h", "fed"): "back",  # from the lower state to the upper one
        ("fed", "o"): "back",
        ("o", "out"): "forward",
        ("out", "y"): "forward",
    }


def test_nodes_say_what_states_and_connections_are(build: Callable[..., Graph]) -> None:
    dot = draw(build(SYSTEM))
    for text in (
        "6 units",
        "from uniform(0, 0.1) · 6 parameters",
        "transposed back",
        "euler × 40",
        "in [-1, 1]",
    ):
        assert text in dot
    assert "no bias" not in dot


def test_below_the_depth_a_system_is_one_node(build: Callable[..., Graph]) -> None:
    looks = edges(draw(build(SYSTEM), depth=0))
    assert set(looks) == {("x", "leaky"), ("leaky", "out"), ("out", "y")}


def test_the_group_stands_on_the_arrows(build: Callable[..., Graph]) -> None:
    graph = build(SYSTEM.replace("where (i, j) => i != j", ""))
    looks = edges(draw_symmetry(graph, symmetry_group(graph)))
    assert "Z2 wr S_6" in looks["h", "rec"]
    assert "Z2 wr S_2" in looks["o", "out"]
    assert "style=dashed" in looks["x", "feed"]


def test_a_loop_without_connections_is_its_body_and_an_edge_back(build: Callable[..., Graph]) -> None:
    text = """
layer cell {
  input z: real[5]
  input x: real[4]
  output y = (z -> dense(5) as rec) + (x -> dense(5) as feed) -> tanh
}
network n {
  input  x: real[4]
  output y = x -> equilibrium(cell) -> dense(2) as out
}
"""
    looks = edges(draw(build(text)))
    assert set(looks) == {
        ("x", "feed"),
        ("z", "rec"),
        ("rec", "+"),
        ("feed", "+"),
        ("+", "z"),
        ("+", "out"),
        ("out", "y"),
    }
    assert "constraint=false" in looks["+", "z"]
