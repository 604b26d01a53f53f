"""Groups of permutations: orders that are known, members by trying all, and one result for all keys of an orbit."""

from __future__ import annotations

from itertools import permutations
from math import factorial, isclose, log10
from typing import Any

import numpy as np
import pytest

from nnspec.compiler.symmetry.permutations import PermutationGroup


def cycles(size: int, *given: list[int]) -> Any:
    found = np.arange(size)
    for one in given:
        found[one] = [*one[1:], one[0]]
    return found


# The generators of the Mathieu group M24 of the ATLAS of finite groups: z + 1, and two more.
M24 = [
    cycles(24, list(range(23))),
    cycles(24, [2, 16, 9, 6, 8], [3, 12, 13, 18, 4], [7, 17, 10, 11, 22], [14, 19, 21, 20, 15]),
    cycles(
        24,
        *([0, 23], [1, 22], [2, 11], [3, 15], [4, 17], [5, 9]),
        *([6, 19], [7, 13], [8, 20], [10, 16], [12, 21], [14, 18]),
    ),
]
BLOCKS = np.arange(48).reshape(6, 8)
WREATH = [
    cycles(48, [0, 1]),
    cycles(48, list(range(8))),
    BLOCKS[[1, 0, 2, 3, 4, 5]].ravel(),
    np.roll(BLOCKS, 1, axis=0).ravel(),
]
GROUPS: dict[str, tuple[list[Any], int, int]] = {
    "trivial": ([], 4, 1),
    "symmetric": ([cycles(7, [0, 1]), cycles(7, list(range(7)))], 7, factorial(7)),
    "alternating": ([cycles(6, [0, 1, 2]), cycles(6, [1, 2, 3, 4, 5])], 6, 360),
    "dihedral": ([cycles(11, list(range(11))), np.arange(11)[::-1]], 11, 22),
    "two factors": ([cycles(7, [0, 1, 2]), cycles(7, [4, 6])], 7, 6),
    "wreath": (WREATH, 48, factorial(8) ** 6 * factorial(6)),
    "M24": (M24, 24, 244_823_040),
    "M23": (M24[:2], 24, 10_200_960),
}


@pytest.mark.parametrize("name", GROUPS)
def test_orders_are_known(name: str) -> None:
    generators, size, order = GROUPS[name]
    assert isclose(PermutationGroup(generators, size).log10_order, log10(order), abs_tol=1e-9)


@pytest.mark.parametrize("name", GROUPS)
def test_all_keys_of_an_orbit_have_one_best_arrangement(name: str) -> None:
    generators, size, _ = GROUPS[name]
    group, random = PermutationGroup(generators, size), np.random.default_rng(1)
    keys = random.normal(size=size)
    best = keys[group.best(keys)]
    for _ in range(10):
        other = keys[group.drawn(random)]
        assert (other[group.best(other)] == best).all()


def test_what_no_member_does_gives_another_best() -> None:
    group, random = PermutationGroup(M24[:2], 24), np.random.default_rng(2)
    keys = random.normal(size=24)
    swapped = keys[cycles(24, [0, 1])]
    assert (keys[group.best(keys)] != swapped[group.best(swapped)]).any()


@pytest.mark.parametrize("name", ["trivial", "alternating", "dihedral", "two factors", "closed"])
def test_members_are_those_that_multiplication_reaches(name: str) -> None:
    closed = ([cycles(6, [0, 1]), cycles(6, [0, 3], [1, 4], [2, 5]), cycles(6, [0, 1, 2])], 6, 72)
    generators, size, order = {**GROUPS, "closed": closed}[name]
    group = PermutationGroup(generators, size)
    reached, waiting = {tuple(range(size))}, [tuple(range(size))]
    while waiting:
        here = np.array(waiting.pop())
        for one in generators:
            if (made := tuple(here[one].tolist())) not in reached:
                reached.add(made)
                waiting.append(made)
    assert {tuple(member.tolist()) for member in group.members()} == reached and len(reached) == order
    random = np.random.default_rng(0)
    assert {tuple(group.drawn(random).tolist()) for _ in range(40 * order)} == reached
    orbits = group.orbits()
    for one, other in permutations(range(size), 2):
        assert (orbits[one] == orbits[other]) == any(member[one] == other for member in reached)


def test_a_factor_of_too_many_points_is_left_and_said() -> None:
    group = PermutationGroup([np.roll(np.arange(500), 1)], 500)
    assert group.left == 500 and group.log10_order == 0.0
