"""Equivalence: yes with an element, no with different outputs or architectures, and what is neither."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from symmetric_nets import NETS, net
from test_table import ROWS, Row
from test_table import graph as graph_of

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.elements import act, random_element
from nnspec.compiler.symmetry.equivalent import equivalent, same_architecture
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import random_state
from nnspec.compiler.symmetry.places import State
from nnspec.compiler.symmetry.weights import checked
from nnspec.dsl.diagnostics import RunError

Build = Callable[..., Graph]

RENAMED = """network other {
  input pixels: real[4]
  first = pixels -> dense(5) as one -> tanh
  second = first -> dense(6) as two -> tanh
  output logits = second -> dense(3) as three
}
"""


@pytest.mark.parametrize(
    "name", ["tanh", "relu", "residual", "batchnorm", "convolution", "heads", "stream", "in blocks"]
)
def test_members_of_an_orbit_are_equivalent_and_others_are_not(build: Build, name: str) -> None:
    graph = build(NETS[name])
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    moved = act(group.derivation, random_element(group, 1), state)
    found = equivalent(graph, state, graph, moved)
    assert found.answer == "yes" and found.element is not None
    back = act(group.derivation, found.element, moved)
    torch.testing.assert_close(back, state, rtol=1e-6, atol=1e-6)
    found = equivalent(graph, state, graph, random_state(graph, group, 2))
    assert found.answer == "no" and found.output_change is not None and found.output_change > 0.1


SAMPLED = ROWS if os.environ.get("NNSPEC_WHOLE_TABLE") else ROWS[6::24]


@pytest.mark.slow
@pytest.mark.parametrize("row", SAMPLED, ids=lambda row: row.name)
def test_no_copy_of_a_network_of_the_table_is_undecided(row: Row) -> None:
    group = symmetry_group(made := graph_of(row))
    state = random_state(made, group, 1)
    planted = random_element(group, 25).then(random_element(group, 26))
    assert equivalent(made, state, made, act(group.derivation, planted, state)).answer == "yes"
    assert equivalent(made, state, made, random_state(made, group, 100)).answer == "no"


def test_specs_that_differ_in_names_alone_are_one(build: Build) -> None:
    ours, theirs = build(NETS["tanh"]), build(RENAMED)
    found = same_architecture(ours, theirs)
    assert found.answer == "yes" and found.names is not None
    assert found.names["two.weight"] == "dense_2.weight"
    group = symmetry_group(theirs)
    state = random_state(theirs, group, 0)
    moved = act(group.derivation, random_element(group, 1), state)
    named = {found.names[key]: tensor for key, tensor in state.items()}
    assert equivalent(ours, named, theirs, moved).answer == "yes"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("output y = x -> dense(5) -> tanh -> dense(7) -> tanh -> dense(3)", "only n has a value real[7]"),
        ("output y = x -> dense(5) -> sin -> dense(6) -> tanh -> dense(3)", "`sin()`"),
        ("output y = x -> dense(5) -> tanh -> dense(6, bias = false) -> tanh -> dense(3)", "bias"),
        (
            "output y = x -> dense(5) -> tanh -> dense(6) as b -> tanh -> dense(3)\n  constrain b.weight: binary",
            "under binary",
        ),
    ],
)
def test_what_tells_two_architectures_apart_is_said(build: Build, body: str, said: str) -> None:
    found = same_architecture(build(NETS["tanh"]), build(net(body)))
    assert found.answer == "no" and said in found.reason


def test_connections_count_and_the_order_of_a_sum_does_not(build: Build) -> None:
    body = "a = x -> dense(4) -> tanh\n  b = x -> dense(4) -> relu\n  "
    first = build(net(body + "output y = a + b -> dense(3)"))
    assert same_architecture(first, build(net(body + "output y = b + a -> dense(3)"))).answer == "yes"
    minus = build(net(body + "output y = a - b -> dense(3)"))
    assert same_architecture(minus, build(net(body + "output y = b - a -> dense(3)"))).answer == "no"
    found = same_architecture(first, build(net(body + "output y = a + a -> dense(3)")))
    assert found.answer == "no"


def test_binary_networks_are_compared_by_the_weights_in_use(build: Build) -> None:
    """Latent weights of one sign are one binary network, exactly; flipping one weight makes another."""
    graph = build(
        net(
            "output y = x -> dense(8, bias = false) as a -> tanh -> dense(3, bias = false) as b\n"
            "  constrain a.weight: binary\n  constrain b.weight: binary"
        )
    )
    group = symmetry_group(graph)
    state = random_state(graph, group, 3)
    other = act(group.derivation, random_element(group, 4), state)
    other = {key: tensor * torch.rand_like(tensor) for key, tensor in other.items()}
    found = equivalent(graph, state, graph, other)
    assert found.answer == "yes" and found.distance == 0.0 and "exactly" in found.reason
    other["b.weight"][0, 0] *= -1
    assert equivalent(graph, state, graph, other).answer == "no"


def test_hidden_symmetries_leave_it_undecided(build: Build) -> None:
    """A unit that is never on may have any outgoing weight; no element of the group says so."""
    graph = build(net("output y = x -> dense(5) -> relu -> dense(3)"))
    state = random_state(graph, symmetry_group(graph), 0)
    state["dense.weight"][2], state["dense.bias"][2] = 1e-3, -100.0
    other = {key: tensor.clone() for key, tensor in state.items()}
    other["dense_2.weight"][:, 2] += 1.0
    found = equivalent(graph, state, graph, other)
    assert found.answer == "undecided" and found.output_change == 0.0


def test_what_a_mask_leaves_is_an_element_and_what_it_removes_does_not_count(build: Build) -> None:
    """The reflection of a band turns both wires; entries outside of the band may be any numbers."""
    graph = build(NETS["in a band"])
    state = random_state(graph, symmetry_group(graph), 0)
    turned = dict(state)
    for key in ("dense.weight", "dense.bias", "b.bias"):
        turned[key] = state[key].flip(0)
    turned["b.weight"] = state["b.weight"].flip(0, 1)
    turned["dense_2.weight"] = state["dense_2.weight"].flip(1)
    assert equivalent(graph, state, graph, turned).answer == "yes"
    places = torch.arange(6)
    turned["b.weight"][(places[:, None] - places).abs() > 1] = 7.0
    assert equivalent(graph, state, graph, turned).answer == "yes"
    turned["dense.weight"] = turned["dense.weight"][[1, 0, 2, 3, 4, 5]]
    assert equivalent(graph, state, graph, turned).answer == "no"


RESIDUAL = "h = x -> dense(6)\n  a = h + (h -> dense(5) -> tanh -> dense(6))\n  output y = a -> dense(3)"


def unread(build: Build, body: str, made: str, reader: str) -> tuple[Graph, State, State]:
    """Return a network, weights, and others that differ in what one map makes and the other does not read."""
    graph = build(net(body))
    state = random_state(graph, symmetry_group(graph), 0)
    other = {key: tensor.clone() for key, tensor in state.items()}
    linear_algebra: Any = torch.linalg
    along = linear_algebra.svd(state[reader])[2][-1]
    other[made] += along[:, None] * torch.arange(1.0, 1.0 + other[made].shape[1], dtype=torch.float64)
    return graph, state, other


@pytest.mark.parametrize(
    ("body", "made", "reader"),
    [
        # One wire, which GL moves to any weights of this product.
        ("output y = x -> dense(5) -> tanh -> dense(6) -> dense(3)", "dense_2.weight", "dense_3.weight"),
        # Two wires, each wider than what it carries: GL does not reach all that have one product.
        ("output y = x -> dense(6) -> dense(6) -> dense(3)", "dense_2.weight", "dense_3.weight"),
    ],
)
def test_what_is_made_and_not_read_tells_no_networks_apart(
    build: Build, body: str, made: str, reader: str
) -> None:
    graph, state, other = unread(build, body, made, reader)
    assert equivalent(graph, state, graph, other).answer == "yes"


def test_what_is_not_searched_is_named(build: Build) -> None:
    """What a block adds to a stream is read through 3 of its 6 numbers: kernel directions, which no element moves."""
    graph, state, other = unread(build, RESIDUAL, "dense_3.weight", "dense_4.weight")
    found = equivalent(graph, state, graph, other)
    assert found.answer == "undecided"
    assert "kernel directions" in found.reason


def test_weights_of_another_spec_and_no_numbers_are_refused(build: Build) -> None:
    graph = build(NETS["tanh"])
    state = random_state(graph, symmetry_group(graph), 0)
    wrong = {**state, "odd": torch.zeros(2), "dense.bias": torch.zeros(9)}
    del wrong["dense_3.bias"]
    with pytest.raises(RunError) as refusal:
        checked(graph, wrong, "runs/x")
    error = refusal.value.error
    assert error.code == "N0963"
    assert (
        "missing: dense_3.bias; not of this network: odd; of another shape: dense.bias [9] for [5]"
        in error.message
    )
    state["dense.weight"][0, 0] = float("nan")
    with pytest.raises(RunError) as refusal:
        checked(graph, state, "runs/x")
    assert refusal.value.error.code == "N0962" and "1 entries" in refusal.value.error.message
