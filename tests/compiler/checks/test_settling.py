"""Truth checks of networks that settle: gradients against finite differences, spectra against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.checks.asymmetry import asymmetry, recurrent, with_asymmetry
from nnspec.compiler.checks.directions import Comparison
from nnspec.compiler.experiment import Choice
from nnspec.compiler.passes.analysis import Result, Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.short_training import exactly, initial_weights
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.dsl.diagnostics import SpecError
from nnspec.spec import load

SPEC = """
use library.dynamics

network small {{
  input  x: real[2]
  state  h: real[4]
  state  o: real[2]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics {dynamics}
  output y = o
}}

experiment run {{
  network   = small
  data      = moons(samples = 40)
  loss      = cross_entropy
  learn     = backprop
  optimizer = sgd(lr = 0.1)
  epochs    = 2
  batch     = 8
}}
"""
EXACT = "rate(tanh, solve = fixed_point(steps = 400, tolerance = 1e-14){more})"
TIGHT = ", gradient = ift(steps = 400, tolerance = 1e-14)"


def planned(dynamics: str = EXACT.format(more="")) -> Plan:
    return exactly(prepare(load(SPEC.format(dynamics=dynamics)).experiment().fitted, Path()))


def analysed(plan: Plan, name: str, **options: Any) -> Result:
    subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
    return find(name).run(subject, options)


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ("", "implicit differentiation"),
        (", gradient = phantom(2)", "implicit differentiation"),
        (", gradient = unrolled", "backpropagation through time"),
    ],
)
def test_the_exact_gradient_is_the_slope_of_the_settled_loss(more: str, how: str) -> None:
    plan = planned(EXACT.format(more=more))
    with kept_generators(plan.device):
        comparison = Comparison(plan, 0)
        (batch,) = comparison.batches(1)
        pairs = comparison.at(batch)
        (group,) = comparison.learner.groups
        assert comparison.how == how
        for name, parameter in zip(group.names, group.parameters, strict=True):
            slope = torch.zeros_like(parameter)
            for place in range(parameter.numel()):
                ends: list[float] = []
                for move in (1e-5, -2e-5):
                    with torch.no_grad():
                        parameter.view(-1)[place] += move
                        ends.append(float(group.mean_loss(batch)))
                with torch.no_grad():
                    parameter.view(-1)[place] += 1e-5
                slope.view(-1)[place] = (ends[0] - ends[1]) / 2e-5
            torch.testing.assert_close(pairs[name][1], slope, rtol=1e-5, atol=1e-8)


def test_a_truncated_gradient_is_not_taken_for_the_truth() -> None:
    whole = analysed(planned(EXACT.format(more=TIGHT)), "gradient_check").data
    assert whole["relative_error"] < 1e-10 and whole["residual"] < 1e-12
    assert whole["forward"] == "settled by fixed_point, 400 steps"
    errors = [
        analysed(planned(EXACT.format(more=f", gradient = phantom({steps})")), "gradient_check").data[
            "relative_error"
        ]
        for steps in (1, 3, 40)
    ]
    assert errors[0] > 1e-2 and errors[0] > errors[1] > errors[2]


def test_too_few_steps_are_seen_in_the_gradient() -> None:
    """Implicit differentiation where nothing has settled is not the gradient of the equilibrium, and less so the earlier."""
    plan = planned(EXACT.format(more=TIGHT))
    rows = analysed(plan, "gradient_check", over=(("steps", (2, 5, 20, 400)),)).data["sweep"]
    errors = [row["relative_error"] for row in rows]
    assert errors == sorted(errors, reverse=True) and errors[0] > 1e-2 and errors[-1] < 1e-10


def test_steps_that_are_unrolled_have_a_gradient_of_their_own() -> None:
    plan = planned(EXACT.format(more=", gradient = unrolled"))
    rows = analysed(plan, "gradient_check", over=(("steps", (2, 40)),)).data["sweep"]
    assert [row["relative_error"] < 1e-10 for row in rows] == [True, True]


def test_states_that_do_not_settle_have_no_gradient() -> None:
    plan = planned(EXACT.format(more=""))
    wild = {
        key: 40 * value if key == "rec.weight" else value for key, value in initial_weights(plan, 0).items()
    }
    subject = Subject(graph=plan.graph, states=(wild,), experiment=plan.experiment, plan=plan)
    result = find("gradient_check").run(subject, {"weights": "trained"})
    assert result.data["residual"] > 1e-3 and "did not settle" in result.summary


def weights_of(plan: Plan) -> dict[str, Any]:
    """The weights in use: no unit drives itself."""
    return {key: value.numpy() for key, value in initial_weights(plan, 0).items()}


def settled_by_numpy(weights: dict[str, Any], x: Any) -> Any:
    recurrent_, bias = (
        weights["rec.weight"] * (1 - np.eye(6)),
        np.concatenate([weights["h.bias"], weights["o.bias"]]),
    )
    s = np.zeros(6)
    for _ in range(3000):
        s = np.tanh(weights["feed.weight"] @ x + recurrent_ @ s + bias)
    return s


def test_spectra_are_those_of_numpy() -> None:
    plan = planned()
    weights, rows = weights_of(plan), plan.train.inputs[0].numpy()[:3]
    (data,) = analysed(plan, "stability", samples=3, weights="initial").data["loops"]
    radii: list[float] = []
    linear: Any = np.linalg
    for x in rows:
        s = settled_by_numpy(weights, x)
        jacobian = (1 - s**2)[:, None] * weights["rec.weight"] * (1 - np.eye(6))
        radii.append(float(np.abs(linear.eigvals(jacobian)).max()))
    assert data["radii"] == pytest.approx(radii, rel=1e-8)
    assert (data["units"], data["settled"], data["form"]) == (6, 3, "map")
    assert all(own["count"] == 1 for own in data["equilibria"]) and data["energy"] is None


def test_an_energy_falls_along_its_flow() -> None:
    text = SPEC.format(dynamics="hopfield(tanh, solve = euler(dt = 0.1, steps = 300))")
    text = text.replace("[h, o] as rec except self", "[h, o] as rec").replace(
        "connect [h, o] ->", "connect [h, o] <->"
    )
    plan = exactly(prepare(load(text).experiment().fitted, Path()))
    few = {"samples": 1, "starts": 3, "steps": 40}
    (data,) = analysed(plan, "stability", weights="initial", **few).data["loops"]
    assert data["form"] == "flow" and data["radius"] < 0
    assert data["energy"]["end"] < data["energy"]["start"] and data["energy"]["largest_increase"] < 1e-12
    assert not recurrent(plan.graph)


def test_a_network_that_settles_nothing_is_refused() -> None:
    graph = load("network n { input x: real[2]\n output y = x -> dense(2) }").network().graph
    with pytest.raises(SpecError) as refused:
        find("stability").run(Subject(graph=graph), {})
    assert refused.value.errors[0].code == "N0913"


def test_weights_are_made_symmetric_and_back() -> None:
    plan = planned()
    state = initial_weights(plan, 0)
    even, whole = (with_asymmetry(plan.graph, state, amount) for amount in (0.0, 1.0))
    assert torch.equal(even["rec.weight"], even["rec.weight"].T)
    torch.testing.assert_close(whole["rec.weight"], state["rec.weight"])
    assert asymmetry(plan.graph, even) == pytest.approx(0)
    first = asymmetry(plan.graph, state)
    assert first is not None and asymmetry(
        plan.graph, with_asymmetry(plan.graph, state, 0.5)
    ) == pytest.approx(first / 2)
    assert {key for key in state if not torch.equal(state[key], even[key])} == {"rec.weight"}


def test_asymmetry_is_a_variable() -> None:
    data = analysed(
        planned(EXACT.format(more=TIGHT)), "gradient_check", over=(("asymmetry", (0.0, 1.0)),)
    ).data
    assert [row["asymmetry"] for row in data["sweep"]] == [0, 1]
    assert data["sweep"][0]["asymmetry_of_weights"] == pytest.approx(0)
    assert all(row["relative_error"] < 1e-10 for row in data["sweep"])


def test_a_layer_that_settles_inside_a_network() -> None:
    text = """
use library.dynamics

layer settles(width: int = 3) {
  input  u: real[n]
  state  h: real[width]
  connect u -> h as feed
  connect h -> h as rec
  dynamics rate(tanh)
  output y = h
}

network deeper {
  input  x: real[2]
  output y: real[2] = x -> dense(4) as stem -> tanh -> settles as inner -> dense(2)
}
"""
    graph = load(text).network().graph
    result = find("stability").run(Subject(graph=graph), {"samples": 2, "seed": 1})
    (data,) = result.data["loops"]
    from nnspec.compiler.emit.load import initial_state
    from nnspec.compiler.experiment import Choice
    from nnspec.compiler.fibres.probe import draw_probe

    weights = {key: value.double().numpy() for key, value in initial_state(graph, 1).items()}
    probe = Choice(family="probe", name="gaussian", arguments=(("samples", 2), ("scale", 1.0)))
    (inputs,) = draw_probe(graph, probe, 1)
    for x, radius in zip(inputs.numpy(), data["radii"], strict=True):
        u = np.tanh(weights["stem.weight"] @ x + weights["stem.bias"])
        s = np.zeros(3)
        for _ in range(3000):
            s = np.tanh(
                weights["inner.feed.weight"] @ u + weights["inner.rec.weight"] @ s + weights["inner.h.bias"]
            )
        slope = (1 - s**2)[:, None] * weights["inner.rec.weight"]
        assert radius == pytest.approx(np.abs(np.linalg.eigvals(slope)).max(), rel=1e-7)


@pytest.fixture(scope="module")
def recurrent_plan() -> Plan:
    text = SPEC.format(dynamics=EXACT.format(more=TIGHT)).replace(
        "learn     = backprop", 'learn     = equilibrium(variant = "asymmetric")'
    )
    return exactly(prepare(load(text).experiment().fitted, Path()))


def test_equilibrium_propagation_is_the_gradient_where_theory_says(recurrent_plan: Plan) -> None:
    """Of asymmetric EP the error is of the order beta, centered beta^2; vector-field EP is biased on directed weights."""

    def errors(variant: str, nudging: str, asymmetry: float) -> list[float]:
        over = (
            ("variant", variant),
            ("nudging", word(nudging)),
            ("asymmetry", asymmetry),
            ("beta", (0.1, 0.01)),
        )
        rows = analysed(recurrent_plan, "gradient_check", over=over).data["sweep"]
        return [row["relative_error"] for row in rows]

    for amount in (0.0, 1.0):
        first, second = errors("asymmetric", "one_sided", amount)
        assert first / second == pytest.approx(10, rel=0.2)
        first, second = errors("asymmetric", "centered", amount)
        assert first < 2e-2 and first / second == pytest.approx(100, rel=0.2)
    assert max(errors("vector_field", "centered", 0.0)) < 2e-2
    assert min(errors("vector_field", "centered", 1.0)) > 0.2


def word(name: str) -> Choice:
    """A word of the family `nudging`."""
    return Choice(family="nudging", name=name)


def test_words_are_varied_as_they_are_written(recurrent_plan: Plan) -> None:
    text = """analyze run {
  gradient_check(nudging = [one_sided, holomorphic(points = 8)])
}
"""
    spec = load(SPEC.format(dynamics=EXACT.format(more="")) + text)
    (choice,) = spec.checked.analyses[0].passes
    (data,) = [analysed(recurrent_plan, "gradient_check", over=choice["over"]).data]
    assert [row["nudging"] for row in data["sweep"]] == ["one_sided", "holomorphic(points = 8)"]
    assert data["sweep"][0]["relative_error"] > 1e-3 and data["sweep"][1]["relative_error"] < 1e-5


def test_an_ordinary_chain_is_checked_as_the_system_that_its_rule_reads() -> None:
    text = """
network chain {
  input  x: real[2]
  output y: real[2] = x -> dense(5) as fc -> tanh -> dense(4) as fc2 -> tanh -> dense(2) as head
}

experiment run {
  network = chain
  data    = moons(samples = 40)
  loss    = cross_entropy
  learn   = equilibrium(beta = 0.01, free_steps = 300, nudged_steps = 300)
  epochs  = 2
  batch   = 8
}
"""
    plan = exactly(prepare(load(text).experiment().fitted, Path()))
    data = analysed(plan, "gradient_check").data
    assert data["exact"] == "implicit differentiation" and data["forward"].startswith("settled by")
    assert data["cosine"] > 0.999999 and data["relative_error"] < 1e-3


def test_a_nudge_under_which_states_do_not_settle_is_told() -> None:
    """The free states settle to rounding, and the difference of the nudged ones is still that of states on their way."""
    rule = 'equilibrium(variant = "asymmetric")'
    text = SPEC.format(dynamics=EXACT.format(more=TIGHT)).replace("backprop", rule)
    text = text.replace("cross_entropy", "mean_squared_error")
    plan = exactly(prepare(load(text).experiment().fitted, Path()))
    found = analysed(plan, "gradient_check", over=(("beta", (0.1, 20.0)),))
    small, large = found.data["sweep"]
    assert small["nudged_residual"] < 1e-6 and large["nudged_residual"] > 0.1
    assert small["residual"] < 1e-9 and large["residual"] < 1e-9
    assert "At 1 of these 2 the nudged states did not settle" in found.summary
