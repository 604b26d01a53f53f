"""Directions beside gradients: finite differences judge what is called exact, and wrong rules are caught."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nnspec.compiler.checks.directions import Comparison, along, difference, measured
from nnspec.compiler.passes.analysis import Result, Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.rules.backprop import Backprop
from nnspec.compiler.rules.registry import rules
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.short_training import course, exactly
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.dsl.diagnostics import SpecError
from nnspec.spec import load

SPEC = """
network small {{
  input  x: real[2]
  output y: real[2] = x -> {body} -> dense(2) as head
}}

experiment run {{
  network   = small
  data      = moons(samples = 40)
  loss      = cross_entropy
  learn     = {rule}
  optimizer = sgd(lr = 0.1)
  epochs    = 5
  batch     = 16
  seeds     = 0..1
  {more}
}}
"""
BODIES = (
    "dense(4) -> tanh",
    "dense(4) -> softplus -> dense(4) -> sigmoid",
    "dense(4) -> layernorm -> gelu",
    "dense(6) -> batchnorm -> tanh -> dropout(0.3)",
    "unsqueeze(0) -> conv1d(3, kernel = 2) -> tanh -> flatten",
    "repeat(3) { dense(3) -> silu }",
)


def planned(body: str = BODIES[0], rule: str = "backprop", more: str = "") -> Plan:
    text = SPEC.format(body=body, rule=rule, more=more)
    return exactly(prepare(load(text).experiment().fitted, Path()))


def checked(plan: Plan, states: tuple[dict[str, Any], ...] = (), **options: Any) -> Result:
    subject = Subject(graph=plan.graph, states=states, experiment=plan.experiment, plan=plan)
    return find("gradient_check").run(subject, options)


def finite_differences(comparison: Comparison, batch: Any) -> dict[str, torch.Tensor]:
    """Central differences of the very loss that the rule is given, with the same draws each time."""
    (group,) = comparison.learner.groups
    before, step = group.draws(), 1e-6
    found: dict[str, torch.Tensor] = {}
    for name, parameter in zip(group.names, group.parameters, strict=True):
        slope = torch.zeros_like(parameter)
        for place in range(parameter.numel()):
            ends: list[float] = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[place] += sign * step
                    group.draw_again(before)
                    ends.append(float(group.mean_loss(batch)))
                    parameter.view(-1)[place] -= sign * step
            slope.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
        found[name] = slope
    group.draw_again(before)
    return found


@pytest.mark.parametrize("body", BODIES)
def test_the_exact_gradient_is_the_slope_of_the_loss(body: str) -> None:
    plan = planned(body)
    with kept_generators(plan.device):
        comparison = Comparison(plan, 0)
        (batch,) = comparison.batches(1)
        comparison.learner.network.train()
        slopes = finite_differences(comparison, batch)
        pairs = comparison.at(batch)
    assert slopes.keys() == pairs.keys()
    for name, slope in slopes.items():
        torch.testing.assert_close(pairs[name][1], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("body", BODIES)
def test_backpropagation_is_the_gradient(body: str) -> None:
    data = checked(planned(body), batches=2).data
    assert data["exact"] == "backpropagation" and data["forward"] == "feed-forward"
    assert data["cosine"] == pytest.approx(1, abs=1e-10) and data["relative_error"] < 1e-10
    assert all(one["relative_error"] is None or one["relative_error"] < 1e-10 for one in data["layers"])


class Wrong(Backprop):
    """Backpropagation with the sign of one layer turned, and another layer twice as long."""

    def direction(self, run: Any, batch: Any, streams: Any) -> torch.Tensor:
        loss = super().direction(run, batch, streams)
        for name, parameter in zip(run.names, run.parameters, strict=True):
            assert parameter.grad is not None
            parameter.grad.mul_({"dense.weight": -1.0, "head.bias": 2.0}.get(name, 1.0))
        return loss


def test_turned_signs_and_wrong_lengths_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules(), "backprop", Wrong())
    data = checked(planned()).data
    layers = {one["path"]: one for one in data["layers"]}
    assert layers["dense.weight"]["cosine"] == pytest.approx(-1)
    assert layers["dense.weight"]["relative_error"] == pytest.approx(2)
    assert layers["head.bias"]["cosine"] == pytest.approx(1)
    assert layers["head.bias"]["relative_error"] == pytest.approx(1)
    assert layers["head.weight"]["relative_error"] < 1e-10
    assert data["cosine"] < 1 - 1e-3


def test_the_difference_of_vectors_is_that_of_the_plane() -> None:
    turned = torch.tensor([math.cos(0.3), math.sin(0.3)])
    found = difference(3 * turned, torch.tensor([1.0, 0.0]))
    assert found.cosine == pytest.approx(math.cos(0.3))
    assert found.relative_error == pytest.approx(math.hypot(3 * math.cos(0.3) - 1, 3 * math.sin(0.3)))
    assert difference(torch.zeros(2), turned) == (0.0, 1.0)
    assert difference(turned, torch.zeros(2)) == (None, None)
    assert difference(turned / 0, turned) == (None, None)


def test_all_parameters_are_one_vector() -> None:
    pairs = {"a": (torch.tensor([1.0]), torch.tensor([1.0])), "b": (torch.tensor([0.0]), torch.tensor([1.0]))}
    assert measured(pairs).whole.cosine == pytest.approx(1 / math.sqrt(2))


def test_looking_changes_no_training() -> None:
    """The course is that of the training, though a rule that draws was asked for directions all along."""
    plan = planned(BODIES[3], "weight_perturbation(samples = 2)")
    plain = [loss for _, loss in course(plan, 0, 9) if loss is not None]
    looked = [loss for _, loss, _ in along(plan, 0, 9, 1)]
    assert looked == plain


@pytest.mark.parametrize(
    "rule", ["weight_perturbation(samples = 1, sigma = 0.0001)", "random_subspace(dim = 1)"]
)
def test_the_mean_of_many_draws_is_closer_to_the_gradient(rule: str) -> None:
    plan = planned(rule=rule)
    few, many = (checked(plan, draws=draws, seeds=1).data["cosine"] for draws in (1, 3000))
    assert few < many and many > 0.98


def test_a_sweep_has_a_row_for_each_value() -> None:
    plan = planned(rule="weight_perturbation")
    over = (("samples", (1, 300)), ("antithetic", (True, False)))
    data = checked(plan, over=over).data
    assert [(row["samples"], row["antithetic"]) for row in data["sweep"]] == [
        *((1, True), (1, False)),
        *((300, True), (300, False)),
    ]
    assert data["sweep"][0]["cosine"] < data["sweep"][2]["cosine"]


def test_trained_weights_are_those_given() -> None:
    plan = planned("dense(3) -> relu")
    states = tuple(
        {key: torch.zeros_like(value) for key, value in plan.begun(seed).state_dict().items()}
        for seed in (0, 1)
    )
    layers = {one["path"]: one for one in checked(plan, states, weights="trained").data["layers"]}
    assert layers["dense.weight"]["cosine"] is None  # nothing reaches it through a head of zeros
    assert layers["head.bias"]["cosine"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ((("sample", (1,)),), "N0911"),
        ((("samples", (0,)),), "N0304"),
        ((("asymmetry", (0.5,)),), "N0912"),
    ],
)
def test_what_cannot_be_varied_is_said(over: tuple[Any, ...], code: str) -> None:
    with pytest.raises(SpecError) as refused:
        checked(planned(rule="weight_perturbation"), over=over)
    assert refused.value.errors[0].code == code


def test_a_rule_that_only_steps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Search(Rule):
        name = "backprop"
        doc = "Moves the weights itself."

    monkeypatch.setitem(rules(), "backprop", Search())
    with pytest.raises(SpecError) as refused:
        checked(planned())
    assert refused.value.errors[0].code == "N0910"


def test_a_network_alone_has_no_rule() -> None:
    with pytest.raises(SpecError) as refused:
        find("gradient_check").run(Subject(graph=planned().graph), {})
    assert refused.value.errors[0].code == "N0967"
