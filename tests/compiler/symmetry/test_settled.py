"""States at rest: which networks the theorem of docs/settled.md covers, what breaks its conditions, and whether it is true."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from math import factorial, log10
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.completeness import completeness
from nnspec.compiler.symmetry.draws import random_state
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group
from nnspec.compiler.symmetry.settled import FEWEST_STEPS, SettledUnits, settled_units

Build = Callable[..., Graph]
State = dict[str, Any]
NAME = "the theorem on settled states"


def system(lines: str, dynamics: str = "rate(tanh)", width: int = 4, out: str = "h -> dense(2)") -> str:
    return (
        f"use library.dynamics\nnetwork n {{\n  input  x: real[{width}]\n  {lines}\n  dynamics {dynamics}\n"
        f"  output y = {out}\n}}"
    )


ONE = "state  h: real[5]\n  connect x -> h as feed\n  connect h -> h as rec"
TWO = (
    "state  h: real[3]\n  state  o: real[2]\n  connect x -> [h, o] as feed\n"
    "  connect [h, o] -> [h, o] as rec except self"
)
CELL = """
layer cell {
  input  z: real[5]
  input  x: real[4]
  output next = (z -> dense(5, bias = false) as again) + (x -> dense(5) as inject) -> tanh
}
network n {
  input  x: real[4]
  output y = x -> equilibrium(cell) -> dense(3)
}
"""
# name: (spec, order)
COVERED = {
    "one state": (system(ONE), factorial(5) * 2**5),
    "the output is one state of two": (system(TWO, out="o"), factorial(3) * 2**3),
    "a map behind one of two": (system(TWO, out="o -> dense(3)"), factorial(3) * 2**3 * factorial(2) * 2**2),
    "a ring": (
        system(ONE + " where (i, j) => (i + 1) % 5 == j or i == j"),
        5 * 2**5,
    ),
    "a flow": (
        "dynamics slow(tau: real = 2.0) {\n  s' = (tanh(drive) - s) / tau\n}\n" + system(ONE, "slow"),
        factorial(5) * 2**5,
    ),
    "inputs beside": (
        system(ONE, out="(h -> dense(2)) + (x -> dense(2, bias = false))"),
        factorial(5) * 2**5,
    ),
    "equilibrium": (CELL, factorial(5) * 2**5),
}


@pytest.mark.parametrize("name", COVERED)
def test_covered_systems_are_complete_and_their_dimension_is_that_of_the_fibre(
    build: Build, name: str
) -> None:
    text, order = COVERED[name]
    graph = build(text)
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    known = completeness(group, (state,))
    (one,) = (one for one in known.applied if one.theorem.name == NAME)
    assert one.holds is True and not one.violated
    assert known.text == f"complete by {NAME}, under its conditions (which hold on these weights)"
    assert group.order == order
    verified = verify_group(graph, group)
    assert verified.max_output_error < 1e-10
    assert group.continuous_dimension == 0 == verified.nullity - group.redundant


ALLOWED = {
    "logistic": (system(ONE, "rate(sigmoid)"), factorial(5) * 2**5),
    "states that are one set of units": (
        system(TWO.replace(" except self", ""), out="concat(h, o) -> dense(3)"),
        factorial(5) * 2**5,
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_where_the_theorem_allows_more_than_was_derived_that_is_said(build: Build, name: str) -> None:
    """Flips of units that are odd about 1/2, and exchanges between states, are not derived in loops."""
    text, order = ALLOWED[name]
    group = symmetry_group(build(text))
    units = settled_units(group.derivation)
    assert isinstance(units, SettledUnits) and abs(units.log10_order() - log10(order)) < 1e-9
    known = completeness(group).text
    is_all = abs(group.log10_order - log10(order)) < 1e-9
    assert known.startswith(f"complete by {NAME}") == is_all
    assert ("allows more than was derived" in known) != is_all


def unheard(state: State) -> None:
    state["rec.weight"][:, 2] = 0
    state["dense.weight"][:, 2] = 0


def undriven(state: State) -> None:
    state["feed.weight"][2] = 0


def parallel(state: State) -> None:
    state["feed.weight"][3] = -2 * state["feed.weight"][1]


def in_one_plane(state: State) -> None:
    state["feed.weight"][4] = state["feed.weight"][0] - state["feed.weight"][1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unheard, "unit 2 of `h` is not read by the output, nor by all units that are"),
        (undriven, "no input drives unit 2 of `h`"),
        (parallel, "what drives unit 1 of `h`, unit 3 of `h` lies on one line"),
        (in_one_plane, "what drives unit 0 of `h`, unit 1 of `h`, unit 4 of `h` lies in one plane"),
    ],
)
def test_conditions_are_tested_on_weights(build: Build, change: Callable[[State], None], said: str) -> None:
    graph = build(system(ONE))
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    change(state)
    known = completeness(group, (state,))
    (one,) = known.applied
    assert one.holds is False and said in one.violated
    assert known.text.startswith(f"lower bound on these weights: {NAME} would make it complete, but ")


REFUSED = {
    "its functions are not hyperbolic tangents": system(ONE, "rate(relu)"),
    "its states are driven by fewer than 3 numbers": system(ONE, width=2),
    "its states take fewer than 4 steps": system(ONE, "rate(tanh, solve = fixed_point(steps = 3))"),
    "its states are kept between two numbers": system(ONE, "rate(tanh, clip = [-1, 1])"),
    "no input drives unit 0 of `o`": system(
        "state  h: real[3]\n  state  o: real[2]\n  connect x -> h\n  connect h -> o\n  connect o -> h",
        out="o",
    ),
    "`rec.weight` is not free": system(ONE + "\n  constrain rec.weight: spectral(0.9)"),
    "functions that are not odd have no biases behind them": system(
        ONE, "rate(sigmoid)", out="h -> dense(2, bias = false)"
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_not_covered_says_why(build: Build, said: str) -> None:
    text = completeness(symmetry_group(build(REFUSED[said]))).text
    assert text.startswith("lower bound only: the theorem on settled states does not cover it: ")
    assert said in text


def test_states_that_no_output_hears_of_are_unused(build: Build) -> None:
    """A second state that the first one drives, and that drives nothing: 3 biases and 15 weights that no output depends on."""
    text = system(ONE + "\n  state  d: real[3]\n  connect h -> d as lost")
    graph = build(text)
    group = symmetry_group(graph)
    assert group.families["unused"] == 18 == group.continuous_dimension == verify_group(graph, group).nullity
    assert group.order == factorial(5) * 2**5
    assert completeness(group).text.startswith(f"complete by {NAME}")


def test_the_next_value_of_a_state_is_seen_by_the_step_that_follows(build: Build) -> None:
    """A state that is linear in what comes in, and read through a function: nothing of it is a kernel of the read-out."""
    text = "dynamics mine {\n  s = incoming(tanh(s)) + bias\n}\n" + system(
        ONE.replace("5", "3"), "mine", width=3
    )
    graph = build(text)
    group = symmetry_group(graph)
    assert group.continuous_dimension == verify_group(graph, group).nullity == 0


# ------------------------------------------------------------------------------- the theorem itself, by numbers


def parts(weights: Any, n: int, m: int) -> tuple[Any, ...]:
    """Cut a vector into U [n, m], W [n, n], b [n], C [n] and d."""
    own = np.split(weights, np.cumsum([n * m, n * n, n, n]))
    return own[0].reshape(n, m), own[1].reshape(n, n), own[2], own[3], own[4]


def settled(weights: Any, x: Any, n: int) -> tuple[Any, Any]:
    """Return outputs and states at rest."""
    u, w, b, c, d = parts(weights, n, x.shape[1])
    drive = x @ u.T + b
    h = np.zeros_like(drive)
    for _ in range(40):
        h = np.tanh(drive + h @ w.T)
    return h @ c + d, h


def slopes(weights: Any, x: Any, n: int) -> Any:
    """Return the Jacobian by the implicit function theorem: dh = (1 - D W)^-1 D (dU x + dW h + db)."""
    _, w, _, c, _ = parts(weights, n, x.shape[1])
    h = settled(weights, x, n)[1]
    bend = 1 - h**2
    back = np.eye(n) - (bend[:, :, None] * w).transpose(0, 2, 1)
    pulled = np.linalg.solve(back, np.broadcast_to(c, h.shape)[..., None])[..., 0] * bend
    count = len(x)
    return np.concatenate(
        [
            (pulled[:, :, None] * x[:, None, :]).reshape(count, -1),
            (pulled[:, :, None] * h[:, None, :]).reshape(count, -1),
            pulled,
            h,
            np.ones((count, 1)),
        ],
        axis=1,
    )


def apart(one: Any, other: Any, n: int, m: int) -> float:
    """Return how far two networks are apart up to signed permutations."""
    u, w, b, c, d = parts(one, n, m)
    found: list[float] = []
    for p in map(np.array, permutations(range(n))):
        for s in map(np.array, product((1, -1), repeat=n)):
            moved = [s[:, None] * u[p], s[:, None] * w[np.ix_(p, p)] * s, s * b[p], c[p] * s, d]
            found.append(float(abs(np.concatenate([own.ravel() for own in moved]) - other).max()))
    return min(found)


@pytest.mark.slow
def test_weights_that_agree_at_rest_are_signed_permutations_of_each_other() -> None:
    n, m = 2, 3
    random = np.random.default_rng(0)
    x = random.normal(size=(200, m)) * 2

    def drawn() -> Any:
        weights = random.normal(size=n * m + n * n + 2 * n + 1)
        weights[n * m : n * m + n * n] *= 0.3
        return weights

    teacher = drawn()
    wanted = settled(teacher, x, n)[0]
    way = random.normal(size=teacher.shape)
    step = (settled(teacher + 1e-6 * way, x, n)[0] - settled(teacher - 1e-6 * way, x, n)[0]) / 2e-6
    assert abs(step - slopes(teacher, x, n) @ way).max() < 1e-8
    reached: list[float] = []
    for _ in range(120):
        fit = least_squares(
            lambda own: settled(own, x, n)[0] - wanted,
            drawn(),
            lambda own: slopes(own, x, n),
            method="lm",
            max_nfev=600,
            **dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15),
        )
        if fit.cost < 1e-16:
            reached.append(apart(fit.x, teacher, n, m))
    assert len(reached) >= 3 and max(reached) < 1e-5


@pytest.mark.parametrize("steps", [2, 3, FEWEST_STEPS, 60])
def test_the_three_powers_that_the_proof_reads(steps: int) -> None:
    """q = p exp(4 w q' / (1 + q')), q' of the step before: 1 - 2 q / (1 + q) by powers of p, from the second step on one more."""
    w, known = 0.7, np.zeros(4)  # q as a series, by powers of p from 0 on

    def times(one: Any, other: Any) -> Any:
        return np.convolve(one, other)[:4]

    def over(one: Any) -> Any:  # q / (1 + q) = q - q^2 + q^3
        square = times(one, one)
        return one - square + times(square, one)

    known[1] = 3.3  # a first step from anywhere
    for _ in range(steps - 1):
        power = 4 * w * over(known)
        square = times(power, power)
        series = np.array([1.0, 0, 0, 0]) + power + square / 2 + times(square, power) / 6
        known = times([0, 1.0, 0, 0], series)
    found = -2 * over(known)[1:]
    wanted = np.array([-2, 2 * (1 - 4 * w), -2 * (24 * w**2 - 12 * w + 1)])
    right = np.isclose(found, wanted, rtol=1e-12)
    assert right.tolist() == [steps >= 2, steps >= 3, steps >= 4]
