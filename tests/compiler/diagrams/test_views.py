"""The pictures of a symmetry group: golden DOT texts, one colour a wire, what is fixed, what is too large."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from nnspec.compiler.diagrams.neurons import draw_neurons
from nnspec.compiler.diagrams.renderer import find_renderer, rendered
from nnspec.compiler.diagrams.symmetry import draw_symmetry
from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.dsl.diagnostics import SpecError

Build = Callable[..., Graph]

MLP = """
network mlp {
  input  x: real[4]
  output y: real[3] = x -> dense(8) -> tanh -> dense(8) -> tanh -> dense(3)
}
"""
RESIDUAL = """
layer block(channels: int) {
  input  x: real[channels, h, w]
  hidden = x -> conv2d(6, kernel = 3, padding = "same") -> relu
  output y: real[channels, h, w] = x + (hidden -> conv2d(channels, kernel = 3, padding = "same"))
}
network residual_cnn {
  input  image: real[1, 8, 8]
  output digit: real[10] = image -> conv2d(4, kernel = 3) as stem -> repeat(3) { block(4) } -> relu -> flatten -> dense(10)
}
"""
ATTENTION = """
network attending {
  input  x: real[5, 3]
  h = x -> dense(8)
  q, k, v = h -> [dense(6) as q, dense(6) as k, dense(6) as v]
  output y: real[5, 8] = h + (attention(q, k, v, heads = 2) -> dense(8) as out) -> tanh
}
"""
MASKED = """
network masked {
  input  x: real[4]
  output y: real[1] = x -> dense(6) as a -> relu -> dense(3) as b -> relu -> dense(1)
  constrain a.weight: mask((i, j) => abs(i - j) <= 1)
}
"""
SUPERPOSITION = """
network superposition(n: int = 3) {
  input  x: real[n]
  output y: real[1] = x -> dense(n * (2 * n + 1)) as inner -> tanh -> dense(2 * n + 1) as outer -> tanh -> dense(1) as total
  constrain inner.weight: kst("inner")
  constrain outer.weight: kst("outer")
}
"""


def symmetry(build: Build, text: str, depth: int | None = None, theme: str = "light") -> str:
    graph = build(text)
    return draw_symmetry(graph, symmetry_group(graph), depth=depth, theme=theme)


def neurons(build: Build, text: str) -> str:
    graph = build(text)
    return draw_neurons(graph, symmetry_group(graph))


@pytest.mark.parametrize(("name", "text"), [("mlp", MLP), ("residual_cnn", RESIDUAL)])
def test_golden_symmetry(name: str, text: str, build: Build, golden: Callable[[str, str], None]) -> None:
    golden(f"compiler/diagrams/golden/symmetry_{name}.dot", symmetry(build, text))


@pytest.mark.parametrize(("name", "text"), [("mlp", MLP), ("masked", MASKED)])
def test_golden_neurons(name: str, text: str, build: Build, golden: Callable[[str, str], None]) -> None:
    golden(f"compiler/diagrams/golden/neurons_{name}.dot", neurons(build, text))


def test_drawing_is_deterministic(build: Build) -> None:
    assert symmetry(build, ATTENTION) == symmetry(build, ATTENTION)
    assert neurons(build, SUPERPOSITION) == neurons(build, SUPERPOSITION)


def edges(dot: str) -> list[tuple[str, str]]:
    """Colour ("" for dashed) and label of each edge."""
    found: list[tuple[str, str]] = []
    for line in dot.splitlines():
        if "->" in line and "[label" in line:
            colour = re.search(r' color="([^"]*)"', line)
            label = re.search(r"label=<(.*?)>(?:\]|, (?:labelfloat|style|color|weight)=)", line)
            assert label is not None and (colour is None) == ("style=dashed" in line)
            text = re.sub(r"<[^<>]*>", "", label[1]).strip()
            found.append(("" if colour is None else colour[1], text))
    return found


def test_one_wire_has_one_colour_and_what_is_fixed_is_dashed(build: Build) -> None:
    found = edges(symmetry(build, RESIDUAL))
    assert [text for colour, text in found if not colour] == ["1 × 8 × 8", "10"]
    stream = {colour for colour, text in found if "S_4" in text}
    inside = {colour for colour, text in found if "S_6" in text}
    assert len(stream) == len(inside) == 1 and not stream & inside


def test_sizes_stand_beside_groups(build: Build) -> None:
    texts = {text for _, text in edges(symmetry(build, RESIDUAL))}
    assert {
        "R&gt;0 wr S_4 × 6 × 6",
        "R&gt;0 wr S_6 × 6 × 6",
        "R&gt;0 wr S_4 × 36",
    } <= texts  # the last is flattened


def test_copies_are_drawn_once_and_counted(build: Build) -> None:
    dot = symmetry(build, RESIDUAL)
    assert dot.count("conv2d 6") == 1
    assert "repeat[..].block.conv2d × 3" in dot


def test_what_is_folded_gives_the_wire_that_leaves_it(build: Build) -> None:
    """The stream has one colour before and behind the blocks, though they are not drawn."""
    found = edges(symmetry(build, RESIDUAL, depth=0))
    assert len({colour for colour, text in found if "S_4" in text}) == 1
    assert "S_6" not in {text for _, text in found}


def test_the_legend_says_why(build: Build) -> None:
    dot = symmetry(build, MLP)
    legend = next(line for line in dot.splitlines() if "labelloc=b" in line)
    assert "Z2 wr S_8" in legend and "tanh" in legend and "line 4" in legend
    assert "order 10^14.0" in legend


def test_names_of_a_spec_are_escaped(build: Build) -> None:
    dot = symmetry(
        build, MLP.replace("dense(8) -> tanh -> dense(3)", "dense(8) as label -> tanh -> dense(3)")
    )
    assert "label" in dot
    for theme in ("light", "dark"):
        if find_renderer() is not None:
            assert rendered(symmetry(build, ATTENTION, theme=theme), "svg").startswith(b"<?xml")


def units(dot: str) -> dict[str, list[str]]:
    """The dots of each column, by where it stands: their colours, in order."""
    found: dict[str, list[str]] = {}
    for x, fill in re.findall(r'u\d+ \[pos="([-.\d]+),[-.\d]+!", fillcolor="([^"]*)"', dot):
        found.setdefault(x, []).append(fill)
    return found


def test_units_of_an_orbit_have_one_colour(build: Build) -> None:
    columns = list(units(neurons(build, MLP)).values())
    assert [len(column) for column in columns] == [4, 8, 8, 3]
    assert [len(set(column)) for column in columns] == [1, 1, 1, 1]
    assert columns[0] == ["#ffffff"] * 4 and columns[1][0] != columns[2][0] != "#ffffff"


def test_lines_are_the_entries_that_a_mask_leaves(build: Build) -> None:
    dot = neurons(build, MASKED)
    banded = sum(abs(i - j) <= 1 for i in range(6) for j in range(4))
    assert dot.count(" -> ") == banded + 6 * 3 + 3
    assert f"14 units, {banded + 21} connections" in dot


def test_columns_that_are_joined_wholly_have_one_line_where_there_are_many(build: Build) -> None:
    """20 x 30 lines and 30 x 2 would be a grey field; those that a mask leaves are drawn one by one all the same."""
    dense = "input x: real[20]\n  output y = x -> dense(30) as a -> tanh -> dense(2) as b"
    dot = neurons(build, f"network n {{\n  {dense}\n}}\n")
    assert dot.count(" -> ") == 2 and "52 units, 660 connections" in dot and "A wide line" in dot
    masked = f"network n {{\n  {dense}\n  constrain a.weight: mask((i, j) => i > j)\n}}\n"
    dot = neurons(build, masked)
    left = sum(i > j for i in range(30) for j in range(20))
    assert dot.count(" -> ") == left + 1 and f"{left + 60} connections" in dot


def test_patterns_leave_orbits(build: Build) -> None:
    """Seven terms are permuted as wholes: the units that read one input and lead to a term each are an orbit."""
    dot = neurons(build, SUPERPOSITION)
    assert dot.count(" -> ") == 21 + 21 + 7
    columns = list(units(dot).values())
    assert [len(column) for column in columns] == [3, 21, 7, 1]
    assert sorted(columns[1].count(colour) for colour in set(columns[1])) == [7, 7, 7]
    assert len(set(columns[2])) == 1 and "#ffffff" not in columns[1] + columns[2]
    assert "3 orbits" in dot and "5,040 permutations of units" in dot


def test_orbits_are_those_of_what_permutations_generate() -> None:
    """Compared with the closure of the generated group, for random permutations of six."""
    import random

    from nnspec.compiler.symmetry.orbits import classes

    draw = random.Random(0)
    for _ in range(30):
        moves = [tuple(draw.sample(range(6), 6)) for _ in range(draw.randint(0, 2))]
        if draw.random() < 0.5:  # most permutations move everything: swap two
            one, other = draw.sample(range(6), 2)
            moves = [tuple({one: other, other: one}.get(index, index) for index in range(6))]
        elements = {tuple(range(6))}
        waiting = list(elements)
        while waiting:
            element = waiting.pop()
            for move in moves:
                other = tuple(element[index] for index in move)
                if other not in elements:
                    elements.add(other)
                    waiting.append(other)
        wanted = {frozenset(element[index] for element in elements) for index in range(6)}
        assert set(map(frozenset, classes(6, moves))) == wanted


def test_too_many_units_are_refused_before_they_are_made(build: Build) -> None:
    large = "network n {\n  input x: real[40000]\n  output y = x -> dense(40000) -> tanh -> dense(3)\n}\n"
    with pytest.raises(SpecError) as refusal:
        neurons(build, large)
    (error,) = refusal.value.errors
    assert error.code == "N0905" and "80,003 units" in error.message
    with pytest.raises(SpecError) as refusal:
        neurons(build, "network n {\n  input x: real[3]\n  output y = x -> tanh\n}\n")
    assert refusal.value.errors[0].code == "N0906"
