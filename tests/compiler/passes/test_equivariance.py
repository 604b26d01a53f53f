"""Equivariance: the families that commute with known optimizers and rules, measured on the experiment's own steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group
from nnspec.dsl.diagnostics import SpecError
from nnspec.spec import load

SPEC = """
network small {{
  input  x: real[2]
  output y = x -> dense(5) -> {activation} -> dense(4) -> dense(4) -> {activation} -> dense(2)
}}

experiment run {{
  network   = small
  data      = circles(samples = 60, noise = 0.1)
  loss      = cross_entropy
  learn     = {rule}
  optimizer = {optimizer}
  epochs    = 4
  batch     = 16
}}
"""
ISOMETRIES = {"permutations", "signs", "rotations"}  # a linear wire has a sign as a whole


def commuting(activation: str, optimizer: str, rule: str = "backprop") -> tuple[set[str], set[str]]:
    text = SPEC.format(activation=activation, optimizer=optimizer, rule=rule)
    plan = prepare(load(text).experiment().fitted, Path())
    subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
    data = find("equivariance").run(subject, {"steps": 3, "seed": 0}).data
    kept = {one["family"] for one in data["families"] if one["commutes"]}
    return kept, {one["family"] for one in data["families"]} - kept


@pytest.mark.parametrize(
    ("activation", "optimizer", "kept"),
    [
        ("relu", "sgd(lr = 0.1)", ISOMETRIES),
        ("tanh", "sgd(lr = 0.1)", ISOMETRIES),
        ("tanh", "sgd(lr = 0.1, momentum = 0.9)", ISOMETRIES),
        ("tanh", "sgd(lr = 0.1, weight_decay = 0.1)", ISOMETRIES),
        ("tanh", "adam(lr = 0.01)", {"permutations", "signs"}),
        ("relu", "adam(lr = 0.01)", {"permutations", "signs"}),
        ("relu", "lion(lr = 0.01)", {"permutations", "signs"}),
    ],
)
def test_what_optimizers_commute_with(activation: str, optimizer: str, kept: set[str]) -> None:
    found, broken = commuting(activation, optimizer)
    assert found == kept
    assert {"stretches", "shifts", "scales"} <= broken


def test_a_rule_that_draws_directions_commutes_with_nothing() -> None:
    """The directions of weight perturbation are drawn for each weight, and do not move with the units."""
    found, broken = commuting("tanh", "sgd(lr = 0.1)", "weight_perturbation(sigma = 0.001)")
    assert not found and {"permutations", "signs", "rotations"} <= broken


@pytest.mark.parametrize("rule", ["fa", "dfa"])
def test_feedback_that_is_drawn_does_not_move_with_the_units(rule: str) -> None:
    """The feedback of each unit is its own: exchanged or turned units hear what others heard."""
    found, broken = commuting("tanh", "sgd(lr = 0.1)", rule)
    assert not found and {"permutations", "signs", "rotations"} <= broken


def test_equations_without_feedback_keep_what_backpropagation_keeps() -> None:
    found, _ = commuting("tanh", "sgd(lr = 0.1)", "backprop_written")
    assert found == ISOMETRIES


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("usf", {"permutations", "signs"}),  # sign(P W D) = P sign(W) D
        ("brsf", {"signs"}),  # |B| is drawn once and stays with its unit, signs follow the weight's
        ("hebb", ISOMETRIES),  # post pre' turns as W does
        ("oja", {"permutations", "signs"}),  # post^2 W is unit by unit
        ("bcm", {"permutations"}),  # post (post - threshold) is not odd
        ("predictive_coding", ISOMETRIES),  # a sum of squares of errors
        ("equilibrium(free_steps = 20, nudged_steps = 10)", ISOMETRIES),  # so is the energy
    ],
)
def test_what_rules_of_the_library_commute_with(rule: str, kept: set[str]) -> None:
    assert commuting("tanh", "sgd(lr = 0.05)", rule)[0] == kept


SYSTEM = """use library.dynamics
network energy {
  input  x: real[2]
  state  h: real[4]
  state  g: real[3]
  connect x -> h
  connect h <-> g
  dynamics DYNAMICS
  output y: real[2] = g -> dense(2)
}
"""


def system(dynamics: str, rule: str, rate: float = 0.1) -> Subject:
    run = SPEC[SPEC.index("experiment") :].format(rule=rule, optimizer=f"sgd(lr = {rate})")
    text = SYSTEM.replace("DYNAMICS", dynamics) + run.replace("small", "energy")
    plan = prepare(load(text).experiment().fitted, Path())
    return Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)


@pytest.mark.parametrize("rule", ["backprop", "equilibrium(beta = 0.1)"])
def test_systems_move_with_their_units(rule: str) -> None:
    found = find("equivariance").run(system("hopfield(tanh)", rule), {"steps": 2}).data["families"]
    assert {one["family"] for one in found if one["commutes"]} == {"permutations", "signs"}
    assert all(one["commutes"] for one in found)


def test_steps_that_blow_up_tell_nothing() -> None:
    subject = system("hopfield(tanh)", "backprop", rate=1e300)
    for name in ("equivariance", "teleport"):
        with pytest.raises(SpecError) as refusal:
            find(name).run(subject, {"steps": 4} if name == "equivariance" else {"train": 4})
        assert refusal.value.errors[0].code == "N0959"


def test_the_group_of_a_system_with_a_linear_state_is_no_larger_than_its_fibre() -> None:
    """The state of fc2 has no function: what its maps make goes on through the steps, and none of it is unseen."""
    text = SPEC.format(activation="tanh", rule="equilibrium(free_steps = 5)", optimizer="sgd(lr = 0.1)")
    graph = prepare(load(text).experiment().fitted, Path()).graph
    group = symmetry_group(graph)
    assert verify_group(graph, group).nullity >= group.continuous_dimension > 0


def test_feedback_made_of_the_signs_of_weights_moves_with_the_units() -> None:
    """sign(P W D) = P sign(W) D for permutations P and signs D, not for rotations."""
    rule = """rule concordant {
  feedback B: drive -> pre = sign(weight)
  update weight -= drive.error * pre
  update bias   -= drive.error
}
"""
    text = rule + SPEC.format(activation="tanh", optimizer="sgd(lr = 0.1)", rule="concordant")
    plan = prepare(load(text).experiment().fitted, Path())
    subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
    data = find("equivariance").run(subject, {"steps": 3, "seed": 0}).data
    kept = {one["family"] for one in data["families"] if one["commutes"]}
    assert kept == {"permutations", "signs"}


def test_branches_that_change_places_are_permutations() -> None:
    text = """network two {
  input  x: real[2]
  output y: real[2] = (x -> dense(2) as left) * (x -> dense(2) as right)
}
""" + SPEC[SPEC.index("experiment") :].format(rule="backprop", optimizer="sgd(lr = 0.1)").replace(
        "small", "two"
    )
    plan = prepare(load(text).experiment().fitted, Path())
    subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
    data = find("equivariance").run(subject, {"steps": 2, "seed": 0}).data
    kept = {one["family"] for one in data["families"] if one["commutes"]}
    assert "permutations" in kept


def test_a_network_alone_has_no_steps() -> None:
    graph = load(SPEC.format(activation="relu", optimizer="sgd(lr = 0.1)", rule="backprop")).network().graph
    with pytest.raises(SpecError) as refusal:
        find("equivariance").run(Subject(graph=graph), {})
    assert refusal.value.errors[0].code == "N0967"
