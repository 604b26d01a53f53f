"""Branches that change places: orders in closed form, outputs, and what keeps two branches apart."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import pytest
import torch

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group

Build = Callable[..., Graph]


def spec(body: str, inputs: str = "input x: real[3]") -> str:
    return f"network n {{\n  {inputs}\n  {body}\n}}\n"


UNIT = "(x -> dense(3) -> gelu)"
DEEP = "(x -> dense(4) -> gelu -> dense(3) -> gelu -> dense(2, bias = false))"
EXPERT = "x -> dense(4) -> gelu -> dense(2)"
EXPERTS = f'g = {{}}\n  output y = einsum("e, e o -> o", g, stack({EXPERT}, {EXPERT}, {EXPERT}))'
WORDS = "input s: int[2]\n  input t: int[2]"
SLID = "conv1d(2, kernel = 3, padding = {0}, dilation = {0})"

# name: (body, inputs, sets of branches: how many, exchanged at how many indices by themselves)
FOUND: dict[str, tuple[str, str, list[tuple[int, int]]]] = {
    "a sum": (f"output y = {UNIT} + {UNIT} -> dense(2)", "input x: real[3]", [(2, 3)]),
    "a difference": (f"output y = {UNIT} - {UNIT} -> dense(2)", "input x: real[3]", [(2, 3)]),
    "a difference behind which signs are seen": (
        f"output y = {UNIT} - {UNIT} -> gelu -> dense(2)",
        "input x: real[3]",
        [],
    ),
    "a difference of odd functions": (
        "output y = (x -> dense(3) -> tanh) - (x -> dense(3) -> tanh) -> tanh -> dense(2)",
        "input x: real[3]",
        [(2, 3)],
    ),
    "a product of three": (f"output y = {UNIT} * {UNIT} * {UNIT} -> dense(2)", "input x: real[3]", [(3, 3)]),
    "a maximum": (
        "output y = maximum(x -> dense(3), x -> dense(3)) -> dense(2)",
        "input x: real[3]",
        [(2, 3)],
    ),
    "the least of three": (
        f"output y = minimum({UNIT}, {UNIT}, {UNIT}) -> dense(2)",
        "input x: real[3]",
        [(3, 3)],
    ),
    "parts of one layer": (
        "a, b = x -> dense(6) -> split(2)\n  output y = (a -> gelu) * (b -> gelu) -> dense(2)",
        "input x: real[3]",
        [(2, 3)],
    ),
    "parts of a layer that is read as a whole, too": (
        "h = x -> dense(6)\n  a, b = h -> split(2)\n"
        "  output y = ((a -> gelu) * (b -> gelu) -> dense(2)) + (h -> dense(2))",
        "input x: real[3]",
        [],
    ),
    "experts behind a router": (EXPERTS.format("x -> dense(3) -> softmax"), "input x: real[3]", [(3, 1)]),
    "experts whose shares are inputs": (EXPERTS.format("x"), "input x: real[3]", []),
    "experts whose shares are an output": (
        EXPERTS.format("x -> dense(3) -> softmax") + "\n  output z = g",
        "input x: real[3]",
        [],
    ),
    "deep branches": (f"output y = {DEEP} + {DEEP}", "input x: real[3]", [(2, 1)]),
    "deep branches about a map": (
        f"output y = {DEEP} + (x -> dense(2)) + {DEEP}",
        "input x: real[3]",
        [(2, 1)],
    ),
    "products in a sum": (
        f"output y = ({UNIT} * {UNIT}) + ({UNIT} * {UNIT}) -> dense(2)",
        "input x: real[3]",
        [(2, 3), (2, 3), (2, 3)],
    ),
    "two lengths": (
        f"output y = {UNIT} + (x -> dense(4) -> gelu -> dense(3) -> gelu) -> dense(2)",
        "input x: real[3]",
        [],
    ),
    "two functions": (f"output y = {UNIT} + (x -> dense(3) -> tanh) -> dense(2)", "input x: real[3]", []),
    "linear maps that add up": (
        "output y = (x -> dense(3)) + (x -> dense(3)) -> dense(2)",
        "input x: real[3]",
        [],
    ),
    "two inputs": (
        f"output y = {UNIT} + (z -> dense(3) -> gelu) -> dense(2)",
        "input x: real[3]\n  input z: real[3]",
        [],
    ),
    "one is read elsewhere": (
        f"h = {UNIT}\n  output y = h + {UNIT} -> dense(2)\n  output z = h -> dense(1)",
        "input x: real[3]",
        [],
    ),
    "one weight is bound": (
        "output y = (x -> dense(3) as a -> gelu) + (x -> dense(3) as b -> gelu) -> dense(2)\n"
        "  constrain b.weight: nonnegative",
        "input x: real[3]",
        [],
    ),
    "words of two inputs": (
        "output y = (s -> embedding(3, 2) -> gelu) + (t -> embedding(3, 2) -> gelu) -> flatten -> dense(1)",
        WORDS,
        [],
    ),
    "words of one input": (
        "output y = (s -> embedding(3, 2) -> gelu) + (s -> embedding(3, 2) -> gelu) -> flatten -> dense(1)",
        WORDS + "\n  output z = t -> embedding(2, 1) -> flatten",
        [(2, 2)],
    ),
    "windows of two widths": (
        f"output y = (x -> {SLID.format(1)} -> gelu) + (x -> {SLID.format(2)} -> gelu) -> flatten -> dense(1)",
        "input x: real[1, 5]",
        [],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_branches_that_change_places(build: Build, name: str) -> None:
    body, inputs, wanted = FOUND[name]
    graph = build(spec(body, inputs))
    group = symmetry_group(graph)
    found = [(len(item.pieces), item.size) for item in group.derivation.branches]
    assert found == wanted
    orders = [factor.order for factor in group.factors if factor.group.startswith("branches")]
    assert orders == [factorial(count) ** size for count, size in wanted]
    verify_group(graph, group)  # every exchange leaves the outputs as they are


def test_an_exchange_moves_one_index_alone(build: Build) -> None:
    graph = build(spec(FOUND["a sum"][0]))
    group = symmetry_group(graph)
    (item,) = group.derivation.branches
    state = {
        "dense.weight": torch.randn(3, 3),
        "dense.bias": torch.randn(3),
        "dense_2.weight": torch.randn(3, 3),
        "dense_2.bias": torch.randn(3),
    }
    moved = list(item.swaps())[1].apply(group.derivation, state)
    assert torch.equal(moved["dense.weight"][1], state["dense_2.weight"][1])
    assert torch.equal(moved["dense_2.bias"][1], state["dense.bias"][1])
    assert torch.equal(moved["dense.weight"][[0, 2]], state["dense.weight"][[0, 2]])


# Units of branches between other ends are no one set: windows of two widths, words of two inputs.
APART = {
    "windows": (
        f"output y = (x -> {SLID.format(1)} -> gelu -> conv1d(1, kernel = 1))"
        f" + (x -> {SLID.format(2)} -> gelu -> conv1d(1, kernel = 1)) -> flatten -> dense(1)",
        "input x: real[1, 5]",
    ),
    "words": (
        "output y = (s -> embedding(3, 2) -> gelu -> dense(2)) + (t -> embedding(3, 2) -> gelu -> dense(2))"
        " -> flatten -> dense(1)",
        WORDS,
    ),
}


@pytest.mark.parametrize("name", APART)
def test_units_of_branches_between_other_ends_stay_apart(build: Build, name: str) -> None:
    graph = build(spec(*APART[name]))
    group = symmetry_group(graph)
    assert not group.derivation.parallel
    verify_group(graph, group)
