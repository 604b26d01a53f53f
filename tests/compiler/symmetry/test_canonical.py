"""Canonical form: one member for a whole orbit, balanced, and idempotent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from symmetric_nets import NETS, net

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.balance import balance
from nnspec.compiler.symmetry.canonical import canonical
from nnspec.compiler.symmetry.elements import act, left_out, random_element
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import idealised, largest_change, random_state

Build = Callable[..., Graph]
linalg: Any = torch.linalg

GENERIC = {name: text for name, text in NETS.items() if name != "linear"} | {
    "narrow linear": net("output y = x -> dense(3) -> dense(3) -> dense(5)"),
    "layernorm with gain": net("output y = x -> dense(5) -> layernorm -> dense(3) -> tanh -> dense(2)"),
    "recurrent": net(
        "shared w = dense(6)\n  h = x -> dense(6) -> tanh -> w -> tanh -> w -> tanh\n  output y = h -> dense(2)"
    ),
}


@pytest.mark.parametrize("name", GENERIC)
def test_all_weights_of_an_orbit_have_one_canonical_form(build: Build, name: str) -> None:
    graph = idealised(build(GENERIC[name]))
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    found = canonical(group, state)
    assert found.notes == left_out(group)
    assert largest_change(graph, group, state, found.state, 0) < 1e-11
    torch.testing.assert_close(act(group.derivation, found.element, state), found.state, rtol=0, atol=1e-12)
    again = canonical(group, found.state)
    torch.testing.assert_close(again.state, found.state, rtol=1e-10, atol=1e-10)
    assert again.hash == found.hash
    for seed in range(3):
        other = canonical(group, act(group.derivation, random_element(group, seed), state))
        torch.testing.assert_close(other.state, found.state, rtol=1e-9, atol=1e-9)
        assert other.hash == found.hash


def test_other_orbits_have_other_forms(build: Build) -> None:
    graph = build(NETS["relu"])
    group = symmetry_group(graph)
    first, second = (canonical(group, random_state(graph, group, seed)).hash for seed in (1, 2))
    assert first != second


def test_relu_units_are_balanced(build: Build) -> None:
    """The least sum of squares over a scale has equal norms in and out, for every unit."""
    graph = build(net("output y = x -> dense(5) -> relu -> dense(6) -> relu -> dense(3)"))
    group = symmetry_group(graph)
    state = canonical(group, random_state(graph, group, 0)).state
    for here, there in (("dense", "dense_2"), ("dense_2", "dense_3")):
        into = (state[f"{here}.weight"] ** 2).sum(1) + state[f"{here}.bias"] ** 2
        torch.testing.assert_close(into, (state[f"{there}.weight"] ** 2).sum(0), rtol=1e-10, atol=1e-10)


def test_a_linear_wire_is_balanced_and_diagonal(build: Build) -> None:
    """U'U = VV' = S for the singular values S of V U (Kempf-Ness; the balanced factors of matrix factorisation)."""
    graph = build(net("output y = x -> dense(3, bias = false) -> dense(5, bias = false)"))
    group = symmetry_group(graph)
    given = random_state(graph, group, 0)
    state = canonical(group, given).state
    values = linalg.svdvals(given["dense_2.weight"] @ given["dense.weight"])[:3]
    made, read = state["dense.weight"], state["dense_2.weight"]
    torch.testing.assert_close(made @ made.T, torch.diag(values), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(read.T @ read, torch.diag(values), rtol=1e-9, atol=1e-9)


def test_what_has_no_least_member_is_left_and_said(build: Build) -> None:
    group = symmetry_group(graph := build(NETS["linear"]))
    state = random_state(graph, group, 0)
    found = canonical(group, state)
    assert [note.split(" is ")[0] for note in found.notes] == [
        "GL(6) of dense.weight",
        "GL(5) of dense_2.weight",
    ]
    assert largest_change(graph, group, state, found.state, 0) < 1e-12


def test_equal_units_are_said(build: Build) -> None:
    group = symmetry_group(graph := build(NETS["tanh"]))
    state = random_state(graph, group, 0)
    for key, axis in (("dense.weight", 0), ("dense.bias", 0), ("dense_2.weight", 1)):
        state[key].select(axis, 1).copy_(state[key].select(axis, 3))
    found = canonical(group, state)
    assert any("alike" in note for note in found.notes)
    moved = act(group.derivation, random_element(group, 0), state)
    torch.testing.assert_close(canonical(group, moved).state, found.state, rtol=1e-9, atol=1e-9)


def test_the_gauge_is_the_least_of_its_orbit(build: Build) -> None:
    """No random element of scales and GL leads to smaller weights."""
    for name in ("relu", "residual", "twice"):
        group = symmetry_group(graph := build(NETS[name]))
        d = group.derivation
        state = random_state(graph, group, 0)
        least = act(d, balance(d, state).element, state)
        keys = [key for key in least if key.endswith("weight") or name != "residual"]  # whose biases shift
        size = sum(float((least[key] ** 2).sum()) for key in keys)
        for seed in range(20):
            other = act(d, random_element(group, seed, spread=0.05), least)
            assert sum(float((other[key] ** 2).sum()) for key in keys) > size * (1 + 1e-9)
