"""Alignment: planted elements are found, exactly without noise, and the solvers agree with scipy and brute force."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.optimize import quadratic_assignment
from symmetric_nets import NETS, net
from test_table import ROWS, Row
from test_table import graph as graph_of

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.align import align, distance, weight_keys
from nnspec.compiler.symmetry.elements import act, random_element
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import random_state
from nnspec.compiler.symmetry.matching import (
    Assignment,
    Quadratic,
    assigned,
    quadratically_assigned,
    rotation,
    two_sided_map,
)

Build = Callable[..., Graph]

PLANTED = {name: text for name, text in NETS.items() if name != "linear"} | {
    "deep batchnorm": net(
        "output y = x -> dense(15) -> batchnorm -> relu -> dense(12) -> batchnorm -> relu -> dense(3)"
    ),
    "recurrent": net(
        "shared w = dense(12)\n  h = x -> dense(12) -> tanh -> w -> tanh -> w -> tanh\n  output y = h -> dense(2)"
    ),
    "recurrent relu": net(
        "shared w = dense(12)\n  h = x -> dense(12) -> relu -> w -> relu -> w -> relu\n  output y = h -> dense(2)"
    ),
}


WIDE = {
    "a table wider than what reads it": net(
        "output y = x -> embedding(5, 4) -> mean(axis = 0) -> dense(3) -> tanh -> dense(2)", "int[3]"
    ),
    "wires wider than what they carry": net("output y = x -> dense(6) -> dense(5) -> dense(3)", "real[2]"),
    "between rectifiers": net(
        "output y = x -> dense(3) -> relu -> dense(6) -> dense(5) -> dense(4) -> relu -> dense(2)"
    ),
    "triangles": net(
        "output y = x -> dense(3) as a -> dense(3) as b -> dense(4) -> tanh -> dense(2)\n"
        "  constrain b.weight: mask((i, j) => j <= i)"
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_an_element_is_undone_where_an_orbit_has_no_least_member_that_is_known(
    build: Build, name: str
) -> None:
    group = symmetry_group(graph := build(WIDE[name]))
    state = random_state(graph, group, 1)
    for seed in range(2):
        planted = random_element(group, seed).then(random_element(group, seed + 10))
        moved = act(group.derivation, planted, state)
        found = align(group, state, moved)
        assert found.after < 1e-10 < 0.1 < found.before


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_element_is_undone(build: Build, name: str) -> None:
    group = symmetry_group(graph := build(PLANTED[name]))
    state = random_state(graph, group, 1)
    for seed in range(3):
        planted = random_element(group, seed)
        found = align(group, state, act(group.derivation, planted, state), seed=seed)
        assert found.after < 1e-12 < found.before
        torch.testing.assert_close(found.state, state, rtol=1e-9, atol=1e-9)  # buffers too
        moves = planted.then(found.element)
        for wire in group.wires:
            if group.derivation.groups[wire.space] == "monomial":
                assert moves.permutation(wire.space, wire.size) == tuple(range(wire.size))


@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "residual",
        "convolution",
        "deep batchnorm",
        "recurrent",
        "in a band",
        "in blocks",
        "in a ring, twice",
    ],
)
def test_a_noisy_copy_is_brought_as_near_as_its_noise(build: Build, name: str) -> None:
    group = symmetry_group(graph := build(PLANTED[name]))
    state = random_state(graph, group, 1)
    random = torch.Generator().manual_seed(0)
    noisy = dict(state)
    for key in weight_keys(group.derivation, state):
        noisy[key] = state[key] + 0.1 * torch.randn(state[key].shape, generator=random, dtype=torch.float64)
    gap = sum(float(((noisy[k] - state[k]) ** 2).sum()) for k in weight_keys(group.derivation, state))
    size = sum(float((state[k] ** 2).sum()) for k in weight_keys(group.derivation, state))
    found = align(group, state, act(group.derivation, random_element(group, 5), noisy))
    assert found.after <= 1.05 * (gap / size) ** 0.5


@pytest.mark.parametrize("signed", [False, True])
def test_twenty_of_twenty_planted_permutations_of_a_square_matrix(signed: bool) -> None:
    """60 x 60, where coordinate-wise linear assignment finds 1 of 20."""
    random = np.random.default_rng(0)
    for _ in range(20):
        ours = random.normal(size=(1, 60, 60))
        signs = random.choice([-1.0, 1.0], 60) if signed else np.ones(60)
        planted = Assignment(random.permutation(60), signs)
        theirs = planted.matrix().T @ ours @ planted.matrix()
        found = quadratically_assigned(Quadratic(np.zeros((60, 60)), ours, theirs, signed), 4, 0)
        assert (found.order == planted.order).all()
        assert abs(found.signs @ planted.signs) == 60  # all flipped together is the same


def test_without_a_linear_term_the_value_is_that_of_scipy() -> None:
    random = np.random.default_rng(1)
    for _ in range(5):
        ours, theirs = random.normal(size=(2, 15, 15))
        problem = Quadratic(np.zeros((15, 15)), ours[None], theirs[None])
        found = quadratically_assigned(problem, 10, 0)
        known = quadratic_assignment(
            ours, theirs, options={"maximize": True, "rng": np.random.default_rng(0)}
        )
        value = float((ours * theirs[np.ix_(found.order, found.order)]).sum())
        assert np.isclose(problem.value(found.matrix()), value)
        assert value >= known.fun - 1e-9  # the middle is one of its starts


@pytest.mark.parametrize("signed", [False, True])
def test_small_problems_are_solved_as_by_trying_all(signed: bool) -> None:
    random = np.random.default_rng(2)
    for _ in range(5):
        problem = Quadratic(
            random.normal(size=(4, 4)), random.normal(size=(2, 4, 4)), random.normal(size=(2, 4, 4)), signed
        )
        choices = list(product((1.0, -1.0), repeat=4)) if signed else [(1.0,) * 4]
        every = [
            Assignment(np.array(order), np.array(signs))
            for order in permutations(range(4))
            for signs in choices
        ]
        best = max(problem.value(one.matrix()) for one in every)
        assert problem.value(quadratically_assigned(problem, 400 if signed else 40, 0).matrix()) > best - 1e-9
        linear = max(float((problem.linear * one.matrix()).sum()) for one in every)
        found = assigned(problem.linear, signed).matrix()
        assert np.isclose(float((problem.linear * found).sum()), linear)


def test_rotations_and_maps_are_recovered() -> None:
    random = np.random.default_rng(3)
    turned, _ = np.linalg.qr(random.normal(size=(4, 4)))
    units = random.normal(size=(4, 9))
    assert np.allclose(rotation(turned @ units @ units.T), turned)
    # A wire of 4 made from 2 numbers and read by 3: neither side alone decides the map.
    matrix = random.normal(size=(4, 4))
    made, read = random.normal(size=(4, 2)), random.normal(size=(4, 3))
    ours = matrix @ made, np.linalg.inv(matrix).T @ read
    found = two_sided_map([(ours[0], made)], [(ours[1], read)])
    assert np.allclose(found @ made, ours[0]) and np.allclose(found.T @ ours[1], read)


SAMPLED = ROWS if os.environ.get("NNSPEC_WHOLE_TABLE") else ROWS[::12]


@pytest.mark.slow
@pytest.mark.parametrize("row", SAMPLED, ids=lambda row: row.name)
def test_copies_of_the_networks_of_the_table_are_brought_back(row: Row) -> None:
    """Products of two random elements are undone; of a noisy copy no more is left than of its noise."""
    group = symmetry_group(made := graph_of(row))
    d = group.derivation
    state = random_state(made, group, 1)
    planted = random_element(group, 5).then(random_element(group, 6))
    assert align(group, state, act(d, planted, state)).after < 1e-6
    random = torch.Generator().manual_seed(0)
    noisy = dict(state)
    for key in weight_keys(d, state):
        if key in state:
            noise = torch.randn(state[key].shape, generator=random, dtype=torch.float64)
            noisy[key] = state[key] + 1e-3 * noise
    found = align(group, state, act(d, planted, noisy))
    assert found.after <= 1.05 * distance(d, state, noisy) + 1e-9


def test_what_is_found_does_not_depend_on_chance(build: Build) -> None:
    group = symmetry_group(graph := build(PLANTED["recurrent"]))
    ours, theirs = (random_state(graph, group, seed) for seed in (1, 2))
    first, second = (align(group, ours, theirs, seed=3) for _ in range(2))
    assert first.after == second.after < first.before
