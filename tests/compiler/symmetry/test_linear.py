"""Sparse equations against dense elimination."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from nnspec.compiler.symmetry.linear import Equations, independent


@pytest.mark.parametrize("seed", range(40))
def test_rational_solutions_agree_with_a_dense_null_space(seed: int) -> None:
    draw = random.Random(seed)
    unknowns, rows = draw.randint(1, 9), draw.randint(0, 8)
    matrix = [[draw.choice([0, 0, 0, 1, -1, 2]) for _ in range(unknowns)] for _ in range(rows)]
    system = Equations()
    system.unknown(*range(unknowns))
    for row in matrix:
        system.add({i: number for i, number in enumerate(row) if number})
    rank = int(np.linalg.matrix_rank(np.array(matrix, dtype=float))) if rows else 0
    assert len(system.free()) == unknowns - rank
    basis = system.basis()
    assert len(basis) == unknowns - rank
    for solution in basis:
        for row in matrix:
            assert sum(Fraction(number) * solution.get(i, 0) for i, number in enumerate(row)) == 0
    assert independent([dict(solution) for solution in basis]) == len(basis)


def test_signs_are_counted_modulo_two() -> None:
    system = Equations(2)
    for i in range(3):
        system.equal(i, (i + 1) % 3)
    assert len(system.free()) == 1
    twice = Equations(2)
    twice.unknown("a")
    twice.add({"a": 2})
    assert twice.free() == ["a"]


def test_long_chains_take_linear_time() -> None:
    system = Equations()
    for i in range(20000):
        system.equal(i, i + 1)
    assert len(system.of(0)) == 1
    assert len(system.free()) == 1
