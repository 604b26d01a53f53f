"""Two hundred random tanh networks: the derived dimension against the nullity of the Jacobian.

Depth 1 to 3, widths 2 to 6, with and without biases, residual branches, layers shared or used twice. The
nullity (double precision, relative tolerance 1e-9, many inputs) bounds the dimension at any weights. It may
exceed it where the Jacobian is badly conditioned at the weights drawn; then other weights are drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.record import SymmetryGroup

NETWORKS, DRAWS = 200, 6
_LINE = "\n  "


def test_the_dimension_is_the_nullity_of_the_jacobian(build: Callable[..., Graph]) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    exact = equal = positive = 0
    for seed in range(NETWORKS):
        text = random_spec(seed)
        graph = build(text)
        group = symmetry_group(graph)
        found = _nullities(graph, group, seed)
        assert min(found) >= group.continuous_dimension, text
        exact += group.is_exact
        equal += group.is_exact and min(found) == group.continuous_dimension
        positive += group.continuous_dimension > 0
    torch.set_num_threads(threads)
    print(f"{exact} of {NETWORKS} claimed exact, {equal} of these equal, {positive} with flat directions")
    assert exact >= 0.9 * NETWORKS
    assert equal == exact
    assert positive >= 0.3 * NETWORKS


def _nullities(graph: Graph, group: SymmetryGroup, seed: int) -> list[int]:
    """Return nullities at weights drawn until one equals the dimension."""
    from nnspec.compiler.symmetry.guards import jacobian_nullity, random_state

    found: list[int] = []
    for draw in range(DRAWS):
        state = random_state(graph, group, seed + 1000 * draw)
        found.append(jacobian_nullity(graph, group, state, seed)[0])
        if found[-1] <= group.continuous_dimension:
            break
    return found


def random_spec(seed: int) -> str:
    """Return a spec with one network `n`."""
    draw = random.Random(seed)
    width, inputs = draw.randint(2, 6), draw.randint(2, 6)
    shared: list[str] = []
    lines = [f"input x: real[{inputs}]"]
    flow = "x"
    if draw.random() < 0.75:
        lines.append(f"h0 = x -> {_dense(draw, width)}{' -> tanh' if draw.random() < 0.5 else ''}")
        flow = "h0"
    else:
        width = inputs
    for depth in range(1, draw.randint(1, 3) + 1):
        lines.append(f"h{depth} = {_block(draw, flow, width, depth, shared)}")
        flow = f"h{depth}"
    lines.append(f"output y = {flow} -> {_dense(draw, draw.randint(1, 6))}")
    return f"network n {{{_LINE}{_LINE.join([*lines[:1], *shared, *lines[1:]])}\n}}\n"


def _dense(draw: random.Random, width: int) -> str:
    return f"dense({width})" if draw.random() < 0.7 else f"dense({width}, bias = false)"


def _block(draw: random.Random, flow: str, width: int, depth: int, shared: list[str]) -> str:
    hidden = draw.randint(2, 6)
    kind = draw.choice(["plain", "residual", "post", "twice", "both", "linear"])
    if kind == "plain":
        return f"{flow} -> {_dense(draw, hidden)} -> tanh -> {_dense(draw, width)}"
    if kind == "residual":
        return f"{flow} + ({flow} -> {_dense(draw, hidden)} -> tanh -> {_dense(draw, width)})"
    if kind == "post":
        return f"{flow} + ({flow} -> {_dense(draw, width)} -> tanh)"
    if kind == "linear":
        return f"{flow} -> {_dense(draw, hidden)} -> {_dense(draw, width)} -> tanh"
    name = f"s{depth}"
    shared.append(f"shared {name} = {_dense(draw, width)}")
    if kind == "twice":
        return f"{flow} -> {name} -> tanh -> {name} -> tanh"
    return f"({flow} -> {name} -> tanh) + ({flow} -> tanh -> {name})"
