"""Units of parallel branches change places, and the whole group is what one branch of all units has."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group

Build = Callable[..., Graph]

# body: order. The order of branches that merge is that of one layer with all their units.
ORDERS = {
    "output y = (x -> dense(2) -> tanh -> dense(3)) + (x -> dense(3) -> tanh -> dense(3))": factorial(5)
    * 2**5,
    "output y = (x -> dense(2) -> gelu -> dense(3)) - 2 * (x -> dense(2) -> gelu -> dense(3))": factorial(4),
    "a = x -> dense(2) -> tanh\n b = x -> dense(3) -> tanh\n output y = concat(a, b) -> dense(3)": factorial(
        5
    )
    * 2**5,
    # Not parallel: another function, other ends, another weight in common.
    "output y = (x -> dense(2) -> tanh -> dense(3)) + (x -> dense(2) -> sin -> dense(3))": 2 * 4 * 2 * 4,
    "a = x -> dense(2) -> tanh\n output y = concat(a, a -> dense(2) -> tanh) -> dense(3)": 2 * 4 * 2 * 4,
}


@pytest.mark.parametrize("body", ORDERS)
def test_orders(build: Build, body: str) -> None:
    graph = build(f"network n {{\n input x: real[4]\n {body}\n}}\n")
    assert symmetry_group(graph).order == ORDERS[body]


def test_one_layer_with_all_units_has_the_same_order(build: Build) -> None:
    branches = "(x -> dense(2) -> tanh -> dense(3)) + (x -> dense(3) -> tanh -> dense(3))"
    apart = build(f"network n {{\n input x: real[4]\n output y = {branches}\n}}\n")
    one = build("network n {\n input x: real[4]\n output y = x -> dense(5) -> tanh -> dense(3)\n}\n")
    assert symmetry_group(apart).order == symmetry_group(one).order


@pytest.mark.parametrize(
    "body", [body for body in ORDERS if "tanh -> dense(3)) + (x -> dense(3)" in body or "2 *" in body]
)
def test_exchanges_leave_outputs_unchanged_and_move_weights(build: Build, body: str) -> None:
    import torch

    from nnspec.compiler.symmetry.draws import outputs_of, random_inputs, random_state, with_same_draws
    from nnspec.compiler.symmetry.moves import Exchange, applied

    graph = build(f"network n {{\n input x: real[4]\n {body}\n}}\n")
    group = symmetry_group(graph)
    (item,) = group.derivation.parallel
    move = Exchange(item=item, order=next(item.crossings()))
    state = random_state(graph, group, 0)
    moved = applied(group.derivation, (move,), state)
    assert any(not torch.equal(moved[name], state[name]) for name in state)
    forward, inputs = with_same_draws(graph, 0), random_inputs(graph, 8, 0)
    before, after = outputs_of(forward(state, *inputs)), outputs_of(forward(moved, *inputs))
    assert torch.allclose(before, after, rtol=0, atol=1e-12)
    again = applied(group.derivation, (move,), moved)
    assert all(torch.allclose(again[name], state[name], rtol=0, atol=1e-12) for name in state)
