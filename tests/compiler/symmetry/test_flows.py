"""Flows and intertwiners: tangents against finite differences, and matrices that are found in one step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from symmetric_nets import NETS, net

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.elements import Element, random_element
from nnspec.compiler.symmetry.flows import Flows, nearest
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import random_state
from nnspec.compiler.symmetry.intertwiners import Intertwiners
from nnspec.compiler.symmetry.moves import Mix, Transform, in_force
from nnspec.compiler.symmetry.places import State, stored
from nnspec.compiler.symmetry.record import SymmetryGroup

Build = Callable[..., Graph]

TRIANGLES = net(
    "output y = x -> dense(3) -> dense(3) as b -> dense(3) as c -> tanh -> dense(2)\n"
    "  constrain b.weight: mask((i, j) => j <= i)\n  constrain c.weight: mask((i, j) => j <= i)"
)
SETTINGS = {
    name: NETS[name]
    for name in ("relu", "linear", "heads", "rotary heads", "layernorm with gain", "rmsnorm with gain")
} | {"low rank": net("output y = x -> dense(4) as a -> dense(3)\n  constrain a.weight: low_rank(2)")}


def flows_on(build: Build, text: str) -> tuple[Flows, State, SymmetryGroup]:
    group = symmetry_group(graph := build(text))
    d = group.derivation
    state = in_force(d, random_state(graph, group, 1))
    return (
        Flows(d, [n for n in stored(d, state) if d.related.carriers[n].kind == "weight"]),
        state,
        group,
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_tangents_are_those_of_finite_differences(build: Build, name: str) -> None:
    flows, state, group = flows_on(build, SETTINGS[name])
    step = 1e-6
    ends = [
        [flows.flat(flows.element(sign * step * unit).moved(group.derivation, state)) for sign in (1, -1)]
        for unit in np.eye(flows.count)
    ]
    measured = np.stack([(ahead - behind) / (2 * step) for ahead, behind in ends], axis=1)
    assert flows.count > 0
    np.testing.assert_allclose(flows.tangent(state).toarray(), measured, atol=1e-7)


@pytest.mark.parametrize("name", SETTINGS)
def test_small_steps_lead_back(build: Build, name: str) -> None:
    flows, state, group = flows_on(build, SETTINGS[name])
    numbers = 0.2 * np.random.default_rng(0).normal(size=flows.count)
    moved = flows.element(numbers).moved(group.derivation, state)
    back = nearest(flows, state, moved, 1e-9).moved(group.derivation, moved)
    assert np.abs(flows.flat(moved) - flows.flat(state)).max() > 0.1
    np.testing.assert_allclose(flows.flat(back), flows.flat(state), atol=1e-10)


@pytest.mark.parametrize("name", ["wide", "triangles"])
def test_intertwiners_are_found_at_once(build: Build, name: str) -> None:
    """Wires of 5 and 6 that carry 2 numbers; and products of triangular matrices."""
    wide = net(
        "output y = x -> dense(5, bias = false) -> dense(6, bias = false) -> dense(3, bias = false)",
        "real[2]",
    )
    text = wide if name == "wide" else TRIANGLES.replace("dense(3)", "dense(3, bias = false)")
    flows, state, group = flows_on(build, text)
    for kept in group.derivation.neurons.masks.items() if group.derivation.neurons else ():
        state[f"{kept[0]}"] *= torch.from_numpy(kept[1] != 0)
    drawn = (m for m in random_element(group, 3).moves if isinstance(m, Transform | Mix))
    moved = Element(moves=tuple(drawn)).moved(group.derivation, state)
    assert np.abs(flows.flat(moved) - flows.flat(state)).max() > 0.1
    moves = Intertwiners(flows, state).moves(moved)
    assert moves is not None and moves
    back = Element(moves=moves).moved(group.derivation, moved)
    np.testing.assert_allclose(flows.flat(back), flows.flat(state), atol=1e-8)
