"""The logistic function is odd about 1/2: its units flip where the biases behind take up the constant."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group

Build = Callable[..., Graph]


@pytest.mark.parametrize(
    ("chain", "order"),
    [
        ("dense(5) -> sigmoid -> dense(4) -> sigmoid -> dense(3)", factorial(5) * factorial(4) * 2**9),
        ("dense(5, bias = false) -> sigmoid -> dense(3)", factorial(5) * 2**5),
        ("dense(5) -> sigmoid -> dense(3, bias = false)", factorial(5)),
        ("dense(5) -> sigmoid -> dense(4) -> softplus -> dense(3)", factorial(5) * factorial(4) * 2**5),
    ],
)
def test_orders(build: Build, chain: str, order: int) -> None:
    """sigmoid(x) = (1 + tanh(x / 2)) / 2, so with biases the order is that of the same network of tanh."""
    graph = build(f"network n {{\n input x: real[4]\n output y = x -> {chain}\n}}\n")
    group = symmetry_group(graph)
    assert group.order == order
    assert verify_group(graph, group).max_output_error < 1e-10


def test_units_flip_behind_and_before_masks(build: Build) -> None:
    """A band keeps the reflection of both layers; the signs of single units are those of the network of tanh."""
    body = "output y = x -> dense(3) -> sigmoid -> dense(3) as b -> sigmoid -> dense(2)"
    constraint = "constrain b.weight: mask((i, j) => abs(i - j) <= 1)"
    group = {
        function: symmetry_group(
            build(
                f"network n {{\n input x: real[3]\n {body.replace('sigmoid', function)}\n {constraint}\n}}\n"
            )
        )
        for function in ("sigmoid", "tanh")
    }
    assert group["sigmoid"].order == group["tanh"].order == 2 * 2**6
    graph = build(f"network n {{\n input x: real[3]\n {body}\n {constraint}\n}}\n")
    assert verify_group(graph, group["sigmoid"]).max_output_error < 1e-10


def test_channels_flip_as_a_whole(build: Build) -> None:
    chain = "conv2d(3, kernel = 2) -> sigmoid -> flatten -> dense(2)"
    graph = build(f"network n {{\n input x: real[1, 4, 4]\n output y = x -> {chain}\n}}\n")
    group = symmetry_group(graph)
    assert group.order == factorial(3) * 2**3
    assert verify_group(graph, group).max_output_error < 1e-10
