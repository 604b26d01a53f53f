"""`along` says which axes a window slides along: the same numbers as with the channels first."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nnspec.compiler.emit.load import module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph

Build = Callable[..., Graph]


def test_a_sequence_with_its_channels_last(build: Build) -> None:
    text = """network n {
  input  x: real[T: 10, 4]
  output y: real[T, 6] = x -> conv1d(6, kernel = 3, padding = "same", along = T)
}"""
    graph = build(text)
    net = module(graph)
    x = torch.randn(2, 10, 4)
    weight, bias = net.conv1d.weight, net.conv1d.bias
    padded = F.pad(x, (0, 0, 1, 1))
    by_hand = torch.stack(
        [sum(padded[:, t + p] @ weight[:, :, p].T for p in range(3)) + bias for t in range(10)], 1
    )
    assert torch.allclose(net(x), by_hand, atol=1e-6)
    assert "self.conv1d(x.transpose(1, 2)).transpose(1, 2)" in emit(graph)
    assert dict(graph.root.types)["y"].axes[0].name == "T"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(
    "operation", ["conv2d(6, kernel = [2, 3], groups = 2", "maxpool([2, 1]", "avgpool(2"]
)
def test_images_in_any_order(build: Build, order: tuple[int, ...], operation: str) -> None:
    """`order[k]` is the axis of [channels, height, width] that stands at place k."""
    shape = (4, 6, 7)
    places = [order.index(axis) for axis in range(3)]
    x = torch.randn(2, *shape)
    plain = module(build(f"network n {{\n  input x: real[4, 6, 7]\n  output y = x -> {operation})\n}}"))
    turned = module(
        build(
            f"network n {{\n  input x: real[{', '.join(str(shape[axis]) for axis in order)}]\n"
            f"  output y = x -> {operation}, along = [{places[1]}, {places[2]}])\n}}"
        )
    )
    turned.load_state_dict(plain.state_dict())
    there = (0, *(axis + 1 for axis in order))
    assert torch.allclose(turned(x.permute(there)), plain(x).permute(there), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "shape", "words"),
    [
        ("conv1d(4, kernel = 3)", "8", "works on sequences"),
        ("conv1d(4, kernel = 3, along = 0)", "2, 3, 8", "one axis is left"),
        ("conv1d(4, kernel = 3, along = [0, 1])", "2, 3, 8", "runs along 1 axis"),
        ("conv2d(4, kernel = 3, along = 1)", "2, 8, 8", "runs along 2 axes"),
        ("conv2d(4, kernel = 3, along = [1, 1])", "2, 8, 8", "named twice"),
        ("maxpool(2, along = 2)", "2, 8", "no axis 2"),
        ("conv1d(4, kernel = 9, along = 0)", "8, 2", "larger than the image"),
    ],
)
def test_misuse(refuse: Callable[[str], list[Any]], call: str, shape: str, words: str) -> None:
    errors = refuse(f"network n {{\n  input x: real[{shape}]\n  output y = x -> {call}\n}}\n")
    assert [error.code for error in errors] == ["N0401"]
    assert words in errors[0].message
