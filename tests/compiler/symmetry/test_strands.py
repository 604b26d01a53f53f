"""Groups with copies: heads, groups of channels, and indices that always come together."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group

Build = Callable[..., Graph]


def net(body: str, shape: str) -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


def test_two_indices_that_always_come_together_are_one(build: Build) -> None:
    text = net("output y = x -> dense(12) -> reshape([3, 4]) -> tanh -> flatten -> dense(2)", "real[5]")
    group = symmetry_group(build(text))
    assert group.order == factorial(12) * 2**12
    assert [wire.group for wire in group.wires if not wire.is_fixed] == ["Z2 wr S_12"]


def test_groups_of_channels_have_permutations_of_their_own(build: Build) -> None:
    layers = "conv1d(4, kernel = 1) -> tanh -> conv1d(6, kernel = 1, groups = 2) -> tanh"
    group = symmetry_group(build(net(f"output y = x -> {layers} -> flatten -> dense(2)", "real[3, 5]")))
    # Two groups change places; each has 2 channels before the grouped map, and 3 behind it.
    assert group.order == 2 * factorial(2) ** 2 * factorial(3) ** 2 * 2 ** (4 + 6)


def test_scales_of_grouped_channels_are_free_one_by_one(build: Build) -> None:
    layers = "conv1d(4, kernel = 1) -> relu -> conv1d(6, kernel = 1, groups = 2) -> relu"
    group = symmetry_group(build(net(f"output y = x -> {layers} -> flatten -> dense(2)", "real[3, 5]")))
    assert group.families["scale"] == 4 + 6


def test_heads_have_a_linear_group_each(build: Build) -> None:
    maps = ", ".join("x -> dense(6, bias = false)" for _ in range(3))
    text = net(f"output y = attention({maps}, heads = 3) -> dense(2, bias = false)", "real[4, 8]")
    group = symmetry_group(build(text))
    assert group.families["linear"] == 2 * 3 * 2**2
    wires = {wire.group: wire for wire in group.wires if not wire.is_fixed}
    assert wires["GL(2)^3"].copies == 3


def test_statistics_of_grouped_channels_move_with_them(build: Build) -> None:
    from nnspec.compiler.symmetry.guards import verify_group

    layers = (
        "conv1d(4, kernel = 1) -> batchnorm -> relu -> conv1d(4, kernel = 1, groups = 2) -> batchnorm -> relu"
    )
    graph = build(net(f"output y = x -> {layers} -> flatten -> dense(2)", "real[3, 4]"))
    group = symmetry_group(graph)
    assert group.order == 2 * factorial(2) ** 4 * 2 ** (4 + 4)
    assert verify_group(graph, group).max_output_error < 1e-10


def test_constrained_weights_of_repeats_keep_their_masks(build: Build) -> None:
    from nnspec.compiler.symmetry.guards import verify_group

    body = (
        "output y = x -> repeat(2) { dense(4) as f -> relu } -> dense(3)\n"
        "  constrain repeat[0].f.weight: mask((i, j) => abs(i - j) <= 1)"
    )
    graph = build(net(body, "real[4]"))
    group = symmetry_group(graph)
    assert group.families["scale"] == 4 + 4
    assert group.redundant == 6
    assert verify_group(graph, group).max_output_error < 1e-10
