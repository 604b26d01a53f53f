"""Motions built by hand, of which everything is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nnspec.compiler.checks.equilibria import Motions, ends, exponent, newton, random_starts
from nnspec.compiler.checks.motion import Motion, followed, settled
from nnspec.compiler.checks.spectra import jacobian, spectrum


def motions(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    form: str = "map",
    stride: float = 1.0,
    clip: tuple[float, float] | None = None,
) -> Motions:
    """The same motion for every sample."""
    return lambda samples: Motion(form, function, start[samples % len(start)], stride, clip)


def only(made: Motions) -> Motion:
    return made(torch.tensor([0]))


def turned(values: list[float], seed: int = 0) -> Tensor:
    """A matrix with these eigenvalues, in a basis that is not orthogonal."""
    basis = np.random.default_rng(seed).normal(size=(len(values), len(values)))
    return torch.tensor(basis @ np.diag(values) @ np.linalg.inv(basis))


@pytest.mark.parametrize("form", ["map", "flow"])
def test_a_linear_system_settles_where_algebra_says(form: str) -> None:
    matrix, drive = turned([0.9, -0.5, 0.2]), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    own = matrix if form == "map" else matrix - torch.eye(3)  # both settle at (I - A)^-1 b
    motion = only(motions(lambda s: s @ own.mT + drive, torch.zeros(1, 3).double(), form, 0.5))
    states, residual = settled(motion, motion.start, 4000, 1e-12)
    expected = np.linalg.solve(np.eye(3) - matrix.numpy(), drive.numpy())
    np.testing.assert_allclose(states[0].numpy(), expected, atol=1e-9)
    assert float(residual) < 1e-12
    found = spectrum(jacobian(motion, states)[0], form, motion.stride)
    np.testing.assert_allclose(jacobian(motion, states)[0].numpy(), own.numpy(), atol=1e-12)
    assert found.radius == pytest.approx(0.9 if form == "map" else -0.1)
    assert found.step_radius == pytest.approx(0.95)  # 1 + stride (0.9 - 1), of either form
    if form == "map":
        assert found.contraction == pytest.approx(np.linalg.norm(matrix.numpy(), 2))
    else:
        symmetric = (own + own.mT).numpy() / 2
        assert found.contraction == pytest.approx(np.linalg.eigvalsh(symmetric).max())


def test_residuals_shrink_by_the_radius() -> None:
    matrix = turned([0.8, 0.1])
    motion = only(motions(lambda s: s @ matrix.mT, torch.ones(1, 2).double()))
    path = followed(motion, motion.start, 60)
    assert path.states.shape == (61, 1, 2)
    ratio = float(path.residuals[60, 0] / path.residuals[59, 0])
    assert ratio == pytest.approx(0.8, rel=1e-6)


def test_a_bistable_unit_has_two_equilibria_that_attract() -> None:
    """s = tanh(2 s): 0 and two roots, +-0.9575 (bisection), where the slope is 2 (1 - s^2)."""
    low, high = 0.5, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.tanh(2 * middle) > middle else (low, middle)
    made = motions(lambda s: torch.tanh(2 * s), torch.full((1, 1), 0.1).double())
    starts = random_starts(only(made), 40, 1.0, 0)
    found = ends(made, 0, starts, 500, 1e-12, 1e-6)
    ends_: Any = found.equilibria[:, 0]
    assert sorted(ends_.tolist()) == pytest.approx([-low, low], abs=1e-9)
    positive = int((starts > 0).sum())
    assert sorted(found.visits) == sorted([positive, 40 - positive])
    assert (found.unsettled, found.gone) == (0, 0)
    slope = jacobian(only(made), found.equilibria[:1])[0]
    assert float(slope) == pytest.approx(2 * (1 - low**2))
    root, residual = newton(only(made), torch.full((1, 1), 0.2).double(), 1e-12)
    assert float(residual) < 1e-12 and abs(float(root)) < 1e-12  # the one between them, which repels
    assert float(jacobian(only(made), root)) == pytest.approx(2)


def test_cycles_and_growth_are_told_apart() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double()
    cycle = motions(lambda s: s @ turn.mT, torch.ones(1, 2).double())
    found = ends(cycle, 0, random_starts(only(cycle), 7, 1.0, 0), 300, 1e-9, 1e-3)
    assert (len(found.equilibria), found.unsettled, found.gone) == (0, 7, 0)
    growth = motions(lambda s: 2 * s + 1, torch.ones(1, 2).double())
    found = ends(growth, 0, random_starts(only(growth), 7, 0.5, 0), 300, 1e-9, 1e-3)
    assert (len(found.equilibria), found.unsettled, found.gone) == (0, 0, 7)


def test_units_held_at_a_bound_have_settled() -> None:
    """ds/dt = 1 in [0, 1] rests at 1, where nothing is free to move."""
    made = motions(torch.ones_like, torch.zeros(1, 1).double(), "flow", 0.05, (0.0, 1.0))
    states, residual = settled(only(made), only(made).start, 100, 1e-9)
    assert float(states) == 1 and float(residual) == 0
    assert not bool(only(made).free(states).any())


@pytest.mark.parametrize(("rate", "expected"), [(4.0, math.log(2)), (2.0, None)])
def test_the_exponent_of_the_logistic_map(rate: float, expected: float | None) -> None:
    """ln 2 at r = 4 (conjugate to the tent map); superstable at r = 2, where the slope at 1/2 is 0."""
    motion = only(motions(lambda s: rate * s * (1 - s), torch.tensor([[0.3123]]).double()))
    found = float(exponent(motion, motion.start, 3000 if expected else 200, 0))
    assert found < -10 if expected is None else found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("form", ["map", "flow"])
def test_the_exponent_of_a_linear_system_is_its_rate(form: str) -> None:
    matrix = turned([0.7, -0.4]) if form == "map" else turned([-0.3, -8.0])
    motion = only(
        motions(lambda s: s @ matrix.mT, torch.ones(1, 2).double(), form, 1.0 if form == "map" else 0.05)
    )
    expected = math.log(0.7) if form == "map" else math.log(1 - 0.3 * 0.05) / 0.05
    assert float(exponent(motion, motion.start, 500, 0)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_discs_hold_all_eigenvalues_and_prove_what_they_say(seed: int) -> None:
    linear: Any = np.linalg
    random = np.random.default_rng(seed)
    matrix: Any = random.normal(size=(6, 6)) * random.choice([0.03, 0.3]) - random.choice(
        [0.0, 1.0]
    ) * np.eye(6)
    for form in ("map", "flow"):
        found = spectrum(torch.tensor(matrix), form, 1.0)
        values = linear.eigvals(matrix)
        for one, axis in ((found.rows, 1), (found.columns, 0)):
            off = np.abs(matrix).sum(axis) - np.abs(np.diag(matrix))
            np.testing.assert_allclose(one.radii.numpy(), off, atol=1e-12)
            for value in values:
                assert (np.abs(value - np.diag(matrix)) <= off + 1e-12).any()
            if bool(one.safe.all()):
                assert found.radius < (1 if form == "map" else 0)
        expected = np.abs(values).max() if form == "map" else values.real.max()
        assert found.radius == pytest.approx(expected)


def test_the_published_test_of_deep_networks_is_this_one() -> None:
    """Rows: sum_j |W_ji| < sum_j W_ij; columns: sum_j |W_ij| < |sum_j W_ij|, with a positive sum (equilibrium.md, 1).

    The dynamics are ds_i/dt = sum_j W_ji s_j - s_i sum_j W_ij, with W_ij from i to j.
    """
    for seed in range(6):
        weights = np.random.default_rng(seed).normal(0.05, 0.1, size=(5, 5)) * (1 - np.eye(5))
        if seed % 2:
            weights = np.abs(weights)  # columns hold with equality, which proves nothing
        turned_ = torch.tensor(weights)
        motion = only(
            motions(lambda s, w=turned_: s @ w - s * w.sum(1), torch.zeros(1, 5).double(), "flow", 0.05)
        )
        found = spectrum(jacobian(motion, motion.start)[0], "flow", 0.05)
        out = weights.sum(1)
        rows = [np.abs(weights[:, i]).sum() < out[i] for i in range(5)]
        columns = [out[i] > 0 and np.abs(weights[i]).sum() < abs(out[i]) - 1e-12 for i in range(5)]
        safe: Any = found.rows.safe
        assert safe.tolist() == rows
        assert [bool(s) and bool(c + r < -1e-12) for c, r, s in zip(*found.columns, strict=True)] == columns
