"""Symmetries of systems: one wire before and behind a loop, tried by brute force through the settled states."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from math import factorial
from typing import Any

import pytest
import torch

from nnspec.compiler.emit.load import module
from nnspec.compiler.ir import Graph
from nnspec.compiler.operations.backward import pullback_relations
from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.verification import verify

SYSTEM = """
use library.dynamics
dynamics slow(f: activation = tanh) { s' = f(drive) - s }
dynamics linear { s = drive }
network n(n: int = 3) {
  input  x: real[2]
  state  h: real[n]
  CONNECT
  dynamics DYNAMICS
  output y = h -> dense(2) as out
}
"""
ONE = "connect x -> h as feed\n  connect h -> h as rec"
TWO = "state g: real[n]\n  connect x -> h as feed\n  connect h <-> g as back"


def built(build: Callable[..., Graph], dynamics: str, connect: str = ONE) -> Graph:
    return build(SYSTEM.replace("CONNECT", connect).replace("DYNAMICS", dynamics))


SIGNED = 2**3 * factorial(3)


@pytest.mark.parametrize(
    ("dynamics", "connect", "order", "flat"),
    [
        ("rate(tanh)", ONE, SIGNED, 0),
        ("rate(sigmoid)", ONE, factorial(3), 0),
        ("rate(relu)", ONE, factorial(3), 3),
        ("slow(tanh)", ONE, SIGNED, 0),
        ("slow(sigmoid)", ONE, factorial(3), 0),
        ("leaky(tanh)", TWO, SIGNED**2, 0),
        ("leaky(hard_sigmoid)", TWO, factorial(3) ** 2, 0),
        ("hopfield(tanh)", TWO, SIGNED**2, 0),
        ("deep", ONE, factorial(3) * 2, 1),  # linear in s: one factor for all, and its sign
        ("rate(tanh)", ONE.replace("h as rec", "h as rec where (i, j) => j == (i + 1) % 3"), 2**3 * 3, 0),
        ("slow(sigmoid)", ONE.replace("h -> h", "h <-> h") + " where (i, j) => i * j == 0", 2, 0),
    ],
)
def test_the_group_of_a_system(
    build: Callable[..., Graph], dynamics: str, connect: str, order: int, flat: int
) -> None:
    graph = built(build, dynamics, connect)
    group = symmetry_group(graph)
    assert group.order == order
    assert group.continuous_dimension == flat
    found = verify(graph, group)
    assert found.generators > 0
    assert found.max_output_error < 1e-12
    assert found.nullity is not None
    assert found.nullity >= flat + group.redundant


def test_of_a_linear_system_matrices_are_found(build: Callable[..., Graph]) -> None:
    """Of V (I - W)^-1 (U x + b) + c with 3 units, 2 inputs and 2 outputs 6 numbers are left of 27."""
    graph = built(build, "linear")
    group = symmetry_group(graph)
    found = verify(graph, group)
    parameters = 3 * 2 + 3 * 3 + 3 + 2 * 3 + 2
    assert found.nullity == parameters - (2 * 2 + 2)
    assert 9 <= group.continuous_dimension <= found.nullity


def settled(graph: Graph, state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    net = module(graph).double()
    net.load_state_dict(state, strict=False)
    with torch.no_grad():
        return net(x)


def signed(state: dict[str, torch.Tensor], order: tuple[int, ...], signs: torch.Tensor) -> dict[str, Any]:
    """Return the weights after hidden units change places and signs."""
    turn = torch.diag(signs) @ torch.eye(3, dtype=torch.float64)[list(order)]
    moved = dict(state)
    moved["feed.weight"] = turn @ state["feed.weight"]
    moved["rec.weight"] = turn @ state["rec.weight"] @ turn.T
    moved["h.bias"] = turn @ state["h.bias"]
    moved["out.weight"] = state["out.weight"] @ turn.T
    return moved


@pytest.mark.parametrize(
    "solve", ["fixed_point(steps = 200, tolerance = 1e-13)", "anderson(tolerance = 1e-12)"]
)
@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_every_signed_permutation_is_tried(build: Callable[..., Graph], solve: str, function: str) -> None:
    """By brute force: exactly those of the group leave what the states settle to, as the readout sees it, unchanged."""
    graph = built(build, f"rate({function}, solve = {solve})")
    random = torch.Generator().manual_seed(0)
    net = module(graph).double()
    state = {
        name: 0.4 * torch.randn(value.shape, generator=random, dtype=torch.float64)
        for name, value in net.state_dict().items()
    }
    x = torch.randn(5, 2, generator=random, dtype=torch.float64)
    expected = settled(graph, state, x)
    kept = sum(
        bool(
            (settled(graph, signed(state, order, torch.tensor(signs).double()), x) - expected).abs().max()
            < 1e-9
        )
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    )
    assert kept == symmetry_group(graph).order


def test_nothing_is_claimed_of_states_that_two_numbers_drive(build: Callable[..., Graph]) -> None:
    data = find("symmetry").run(Subject(graph=built(build, "rate(tanh)")), {}).data
    assert data["theorems"] == [] and "driven by fewer than 3 numbers" in data["completeness"]


def test_states_of_two_systems_are_two_wires(build: Callable[..., Graph]) -> None:
    """Two layers with states of one type begin alike, and are not one."""
    text = """
use library.dynamics
layer settling {
  input  x: real[2]
  state  h: real[3]
  connect x -> h
  connect h -> h
  dynamics rate(tanh)
  output y = h
}
network n {
  input  x: real[2]
  output y = concat(x -> settling as a, x -> settling as b) -> dense(2)
}
"""
    assert symmetry_group(build(text)).order == SIGNED**2


def test_the_way_back_through_a_function_that_has_none_is_refused(build: Callable[..., Graph]) -> None:
    from nnspec.compiler.ir import Loop, Pullback

    text = SYSTEM.replace("CONNECT", "connect x -> h as feed").replace("DYNAMICS", "odd")
    text = text.replace(
        "dynamics linear { s = drive }", "dynamics odd { s = drive * derivative(softmax, s) }"
    )
    graph = build(text)
    (loop,) = (s for s in graph.root.body if isinstance(s, Loop))
    (pulled,) = (s for s in loop.body if isinstance(s, Pullback))
    assert pullback_relations(pulled, graph.root) is None
