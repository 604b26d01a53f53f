"""Matrices that keep masks, against linear algebra on the masks themselves, and against the fibre."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.draws import idealised, random_state
from nnspec.compiler.symmetry.elements import act, random_element
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import largest_change, verify_group

Build = Callable[..., Graph]
linear_algebra: Any = torch.linalg

MASKS = {
    "triangular": "j <= i",
    "of blocks": "i // 2 == j // 2",
    "of blocks below the diagonal": "j // 2 <= i // 2",
    "banded": "abs(i - j) <= 1",
    "with a full row": "i == 0 or j == i",
}


def net(mask: str, norm: str = "", bias: str = "false", first: int = 4) -> str:
    return f"""
network n {{
  input  x: real[{first}]
  output y = x -> dense(4, bias = {bias}) -> dense(4, bias = {bias}) as b{norm} -> dense(4, bias = {bias})
  constrain b.weight: mask((i, j) => {mask})
}}
"""


def allowed(kept: Any) -> Any:
    """Return where X may have entries if X W must have none beside those of a mask, for every W that has these."""
    size = len(kept)
    places = np.zeros((size, size), dtype=bool)
    for i in range(size):
        for a in range(size):
            x = np.zeros((size, size))
            x[i, a] = 1.0
            places[i, a] = all(
                not (x @ unit)[~kept].any()
                for row in range(size)
                for column in range(size)
                if kept[row, column]
                for unit in [np.outer(np.eye(size)[row], np.eye(size)[column])]
            )
    return places


@pytest.mark.parametrize("mask", MASKS)
def test_places_are_those_of_matrices_that_keep_the_mask(build: Build, mask: str) -> None:
    d = Derivation(build(net(MASKS[mask])))
    kept = np.array([[eval_mask(mask, i, j) for j in range(4)] for i in range(4)])
    found = {space.tensor: item.places for space, item in d.incidences.items()}
    ours, theirs = allowed(kept), allowed(kept.T).T
    expected = {
        name: places
        for name, places in (("b.weight", ours), ("dense.weight", theirs))
        if places.sum() > len(places)
    }
    assert found.keys() == expected.keys()
    for name, places in expected.items():
        assert np.array_equal(found[name], places), name


def eval_mask(mask: str, i: int, j: int) -> bool:
    return {
        "triangular": j <= i,
        "of blocks": i // 2 == j // 2,
        "of blocks below the diagonal": j // 2 <= i // 2,
        "banded": abs(i - j) <= 1,
        "with a full row": i == 0 or j == i,
    }[mask]


@pytest.mark.parametrize("bias", ["false", "true"])
@pytest.mark.parametrize("mask", MASKS)
def test_the_group_reaches_the_fibre(build: Build, mask: str, bias: str) -> None:
    graph = build(net(MASKS[mask], bias=bias))
    group = symmetry_group(graph)
    verified = verify_group(graph, group)
    assert verified.max_output_error < 1e-10
    assert group.continuous_dimension + group.redundant == verified.nullity


@pytest.mark.parametrize(
    ("norm", "turns"), [(" -> rmsnorm(affine = false)", 2), (" -> layernorm(affine = false)", 0)]
)
def test_rotations_behind_a_mask_are_those_of_its_blocks(build: Build, norm: str, turns: int) -> None:
    """Of two blocks of 2 units: O(2) each under a norm of root mean squares; O(1), which turns nothing, if centred."""
    graph = build(net(MASKS["of blocks"], norm))
    group = symmetry_group(graph)
    item = next(item for space, item in group.derivation.incidences.items() if space.tensor == "b.weight")
    assert item.group == ("orthogonal" if turns else "centred")
    assert item.beside == turns
    assert verify_group(graph, group).max_output_error < 1e-10


def test_larger_blocks_turn_beside_their_ones(build: Build) -> None:
    text = net("i // 3 == j // 3", " -> layernorm(affine = false)").replace("dense(4", "dense(6")
    graph = build(text)
    group = symmetry_group(graph)
    item = next(item for space, item in group.derivation.incidences.items() if space.tensor == "b.weight")
    assert (item.beside, item.label) == (2, "O(2)^2")
    verified = verify_group(graph, group)
    assert verified.max_output_error < 1e-10
    assert group.families["orthogonal"] == 2


def test_random_elements_mix_units_and_change_no_output(build: Build) -> None:
    graph = idealised(build(net(MASKS["of blocks below the diagonal"])))
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    moved = act(group.derivation, random_element(group, 1), state)
    assert largest_change(graph, group, state, moved, 0) < 1e-10
    assert not torch.allclose(moved["b.weight"], state["b.weight"])


def test_components_count_a_sign_for_each_class(build: Build) -> None:
    """GL(2)^2 on both wires, and the blocks change places on both at once."""
    group = symmetry_group(build(net(MASKS["of blocks"])))
    assert group.order == 2**4 * 2
    assert prod(factor.order or 0 for factor in group.factors) == group.order
    triangular = symmetry_group(build(net(MASKS["triangular"])))
    assert triangular.order == 2**8
    assert {wire.group for wire in triangular.wires if wire.group != "1"} == {"R*^4 . R^6"}


def test_a_function_of_entries_leaves_the_diagonal_alone(build: Build) -> None:
    assert not Derivation(build(net(MASKS["triangular"], " -> relu"))).incidences.keys() - {
        space
        for space in Derivation(build(net(MASKS["triangular"]))).incidences
        if space.tensor == "dense.weight"
    }


def test_large_networks_count_what_certainly_moves(build: Build) -> None:
    """A map of more inputs than the wire is wide pins its matrices."""
    from nnspec.compiler.symmetry.dimensions import by_equations

    for first, linear in ((4, 0), (5, 6)):
        found = by_equations(Derivation(build(net(MASKS["triangular"], " -> tanh", first=first))))
        assert (found["linear"], found["scale"]) == (linear, 4)
