"""Equivariance: the families that commute with known optimizers and rules, measured on the experiment's own steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.runtime.plan import prepare
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
