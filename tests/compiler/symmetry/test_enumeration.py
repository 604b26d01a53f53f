"""The component group element by element: orders, orbits and stabilisers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from symmetric_nets import NETS, net

from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.symmetry.draws import random_state
from nnspec.compiler.symmetry.elements import random_element
from nnspec.compiler.symmetry.enumeration import orbit_size, reached
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.moves import Shift
from nnspec.dsl.diagnostics import SpecError

Build = Callable[..., Graph]


SMALL = [
    "output y = x -> dense(3) -> tanh -> dense(2) -> tanh -> dense(3)",
    "output y = x -> dense(3) -> gelu -> dense(3) -> gelu -> dense(3)",
    "shared w = dense(3)\n  h = x -> dense(3) -> tanh -> w -> tanh\n  output y = h -> dense(2)",
    "output y = (x -> dense(4) -> silu) * (x -> dense(4, bias = false)) -> dense(3)",
    "output y = x -> dense(4) -> gelu -> dense(4) as b -> tanh -> dense(3)\n"
    "  constrain b.weight: mask((i, j) => abs(i - j) <= 1)",
    "output y = x -> dense(6) -> gelu -> dense(6) as b -> gelu -> dense(3)\n"
    "  constrain b.weight: mask((i, j) => i // 3 == j // 3)",
    # Units change their branch, behind a sum that takes one of them twice.
    "output y = (x -> dense(2) -> tanh -> dense(3)) - 2 * (x -> dense(2) -> tanh -> dense(3))",
    # Branches change places at each index, and as wholes.
    "output y = (x -> dense(3) -> gelu) * (x -> dense(3) -> gelu) * (x -> dense(3) -> gelu) -> dense(2)",
    "output y = (x -> dense(3) -> sigmoid -> dense(2) -> gelu -> dense(2, bias = false))"
    " + (x -> dense(3) -> sigmoid -> dense(2) -> gelu -> dense(2, bias = false))",
    "output y = (x -> dense(3) -> gelu) - (x -> dense(3) -> gelu) -> tanh -> dense(2)",
    # Signs that alternate from unit to unit.
    "output y = x -> dense(4) -> tanh -> dense(4) as b -> tanh -> dense(3)\n  constrain b.weight: toeplitz",
    "output y = x -> dense(4) -> tanh -> dense(4) as b -> tanh -> dense(3)\n  constrain b.weight: circulant",
]


@pytest.mark.parametrize("body", SMALL)
def test_generic_weights_have_an_orbit_as_large_as_the_group(build: Build, body: str) -> None:
    group = symmetry_group(graph := build(net(body)))
    assert group.order == orbit_size(group, random_state(graph, group, 0), 50_000)


@pytest.mark.parametrize("body", SMALL)
def test_random_elements_generate_the_group(build: Build, body: str) -> None:
    """Closed under products, ten of them are as many as the derived order says: they draw from all of it."""
    group = symmetry_group(graph := build(net(body)))
    drawn = [
        tuple(m for m in random_element(group, seed).moves if getattr(m, "sign", not isinstance(m, Shift)))
        for seed in range(10)
    ]
    assert group.order == reached(group.derivation, drawn, random_state(graph, group, 0))


def test_equal_units_halve_the_orbit(build: Build) -> None:
    group = symmetry_group(graph := build(net("output y = x -> dense(4) -> gelu -> dense(3)")))
    state = random_state(graph, group, 0)
    for key, axis in (("dense.weight", 0), ("dense.bias", 0), ("dense_2.weight", 1)):
        state[key].select(axis, 1).copy_(state[key].select(axis, 3))
    assert orbit_size(group, state, 10_000) == 24 // 2


def test_too_large_a_group_is_refused_and_the_pass_counts_small_ones(build: Build) -> None:
    group = symmetry_group(graph := build(NETS["tanh"]))
    with pytest.raises(SpecError) as refusal:
        orbit_size(group, random_state(graph, group, 0), 10_000)
    (error,) = refusal.value.errors
    assert error.code == "N0965" and "10^8.2" in error.message  # 5! 6! 2^11
    graph = build(net("output y = x -> dense(4) -> gelu -> dense(3)"))
    found = find("canonical").run(Subject(graph=graph), {"enumerate": True, "limit": 100}).data
    assert found["members"][0]["orbit"] == 24 and found["distances"] == []
