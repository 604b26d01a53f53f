"""Equilibrium propagation of units that obey other equations than a rate map: where pushes act, and the gradient that results."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_equilibrium
from test_equilibrium import begun, cosine, directions, equilibrium, gradients, worst

from nnspec.compiler.rewrites.acting import acting
from nnspec.compiler.rewrites.hoist import hoisted
from nnspec.compiler.rules.settled.scheme import loop_of

SOLVER = (
    "solve = euler(dt = 0.4, steps = 200, tolerance = 1e-13), gradient = ift(steps = 200, tolerance = 1e-13)"
)
EQUATIONS = """
dynamics follows(f: activation = tanh) { s' = f(drive) - s }
dynamics sends(f: activation = tanh) {
  drive = incoming(sigmoid(s)) + bias
  s = f(drive)
}
dynamics bends { s' = drive / (2 + s * s) - s - 0.3 * s ^ 3 + 0.1 }
dynamics twice { s' = 2 * incoming(s) + bias - s }
"""
DIRECTED, BOTH = "connect [h, o] -> [h, o] as rec except self", "connect [h, o] <-> [h, o] as rec"
EXACT = "gradient = ift(steps = 200, tolerance = 1e-13)"
SOLVED = {
    "anderson_map": (f"rate(tanh, solve = anderson(steps = 30), {EXACT})", DIRECTED),
    "broyden_map": (f"rate(tanh, solve = broyden(steps = 30), {EXACT})", DIRECTED),
    "anderson_flow": (f"leaky(sigmoid, tau = 2, solve = anderson(steps = 30), {EXACT})", DIRECTED),
    "runge_kutta": (f"leaky(sigmoid, tau = 2, solve = rk4(dt = 1, steps = 60), {EXACT})", DIRECTED),
    "damped_flow": (f"leaky(sigmoid, solve = fixed_point(damping = 0.5, steps = 80), {EXACT})", BOTH),
}
CASES = SOLVED | {
    "leaky_both": (f"leaky(sigmoid, {SOLVER})", BOTH),
    "leaky_slow": (f"leaky(sigmoid, tau = 2, {SOLVER})", BOTH),
    "leaky_directed": (f"leaky(sigmoid, tau = 2, {SOLVER})", DIRECTED),
    "identity_directed": (f"leaky(identity, {SOLVER})", DIRECTED),
    "follows_both": (f"follows({SOLVER})", BOTH),
    "follows_directed": (f"follows({SOLVER})", DIRECTED),
    "bends_directed": (f"bends({SOLVER})", DIRECTED),
    "kept": (f"leaky(hard_sigmoid, {SOLVER}, clip = [0, 1])", BOTH),
    "let_go": (f"leaky(hard_sigmoid, {SOLVER})", BOTH),
    "sends_both": (f"sends({test_equilibrium.SOLVER})", BOTH),
    "twice_both": (f"twice({SOLVER})", BOTH),
    "leaks": (f"deep({SOLVER})", DIRECTED),
}


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = "".join(
        f"""
network {name} {{
  input x: real[8]
  state h: real[6]
  state o: real[4]
  connect x -> [h, o] as feed
  {connection}
  dynamics {dynamics}
  output y = o
  initialize rec.weight: normal(std = 0.25)
}}
"""
        for name, (dynamics, connection) in CASES.items()
    )
    monkeypatch.setattr(test_equilibrium, "NETWORKS", test_equilibrium.NETWORKS + EQUATIONS + made)


folder = test_equilibrium.folder


@pytest.mark.parametrize(
    ("network", "variant"),
    [
        ("leaky_slow", "symmetric"),
        ("leaky_slow", "asymmetric"),
        ("leaky_directed", "asymmetric"),
        ("identity_directed", "asymmetric"),
        ("follows_both", "symmetric"),
        ("follows_directed", "asymmetric"),
        ("bends_directed", "asymmetric"),
        ("kept", "symmetric"),
        ("kept", "asymmetric"),
    ],
)
def test_it_is_the_gradient_whatever_units_do_with_what_drives_them(
    folder: Path, network: str, variant: str
) -> None:
    rule = equilibrium(variant, beta=0.005, free_steps=200, nudged_steps=200)
    group, batch = begun(folder, network, rule)
    assert worst(directions(group, batch), gradients(group, batch)) < 1e-3


@pytest.mark.parametrize("network", ["leaky_directed", "follows_directed", "bends_directed"])
def test_points_on_a_circle_leave_no_bias(folder: Path, network: str) -> None:
    nudging = "holomorphic(points = 8)"
    rule = equilibrium("asymmetric", beta=0.05, free_steps=200, nudged_steps=200, nudging=nudging)
    group, batch = begun(folder, network, rule)
    assert worst(directions(group, batch), gradients(group, batch)) < 1e-6


@pytest.mark.parametrize("network", SOLVED)
def test_phases_settle_by_the_solver_of_the_network(folder: Path, network: str) -> None:
    """Nudges are complex numbers here, which Anderson's and Broyden's methods mix as well."""
    rule = 'equilibrium(variant = "asymmetric", beta = 0.05, nudging = holomorphic(points = 8))'
    group, batch = begun(folder, network, rule)
    assert worst(directions(group, batch), gradients(group, batch)) < 5e-6


def test_a_rate_that_jumps_never_comes_to_rest(folder: Path) -> None:
    """Which is warned of: the same equation is exact where a clip holds the states at the border."""
    group, batch = begun(folder, "let_go", equilibrium("symmetric", free_steps=200, nudged_steps=200))
    assert cosine(directions(group, batch), gradients(group, batch)) < 0.9


@pytest.mark.parametrize(
    ("network", "at", "why"),
    [
        ("leaky_both", ("h_rate", "o_rate"), None),
        ("follows_both", ("h_drive", "o_drive"), None),
        ("pairs", ("h_drive", "o_drive"), None),
        ("sends_both", None, "what arrives at `h` does not act on it by the slope of what it sends"),
        ("twice_both", None, "what arrives at `h` does not act on it by the weights as they are"),
        ("leaks", None, "the weights of `rec` act otherwise too than on what is sent through them"),
    ],
)
def test_where_pushes_act(folder: Path, network: str, at: tuple[str, ...] | None, why: str | None) -> None:
    group, _ = begun(folder, network, equilibrium("vector_field"))
    root = hoisted(group.learner.plan.sources.graph.root)
    found = acting(root, loop_of(group.learner.plan.sources.graph.replace(root=root)))
    assert found.why == why
    if at is not None:
        carried = loop_of(group.learner.plan.sources.graph.replace(root=root)).carried
        expected = {
            s.name: s.after if "rate" in value else value for s, value in zip(carried, at, strict=True)
        }
        assert found.at == expected


def test_products_with_what_is_no_gradient_are_biased(folder: Path) -> None:
    """Which is warned of too: units that send one function of their states and are driven through another."""
    group, batch = begun(folder, "sends_both", equilibrium("symmetric", free_steps=80))
    assert worst(directions(group, batch), gradients(group, batch)) > 0.1
