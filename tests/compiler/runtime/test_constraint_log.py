"""What is measured of constrained weights, and their pictures in numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.weight_figures import weight_figure
from nnspec.compiler.runtime.weight_pictures import histogram, pattern, picture

SPEC = """
network n {
  input  x: real[13]
  output y: real[3] = x -> dense(8) as first -> tanh -> dense(6) as second -> tanh -> dense(3) as head
  constrain first.weight: binary & box(-0.3, 0.3)
  constrain second.weight: low_rank(2)
  constrain head.weight: l1(0.01)
  constrain head.bias: frozen
}
experiment e {
  network   = n
  data      = wine(test = 0.2, scale = "standard")
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.01)
  epochs    = 4
  seeds     = [5, 6]
}
"""
Trained = Callable[..., RunResult]


@pytest.fixture
def result(experiment: Callable[[str], Experiment], trained: Trained) -> RunResult:
    return trained(experiment(SPEC))


def test_measures_are_those_of_the_weights(result: RunResult) -> None:
    told = {row["seed"]: row["constraints"] for row in result.history if row["epoch"] == 4}
    for seed in (5, 6):
        state = load_state(result.path, seed)
        latent, signs = state["first.weight"], torch.where(state["first.weight"] >= 0, 1.0, -1.0)
        first = told[seed]["first.weight"]
        assert first["latent"] == pytest.approx(float((signs - latent).norm() / latent.norm()), rel=1e-5)
        assert first["residual.binary"] == 0 == first["residual.box"] and first["zeros"] == 0
        second = told[seed]["second.weight"]
        assert second["residual.low_rank"] < 1e-6 and "latent" not in second
        head = told[seed]["head.weight"]
        assert head["penalty.l1"] == pytest.approx(0.01 * float(state["head.weight"].abs().sum()), rel=1e-5)
        assert "residual.l1" not in head
        assert "first.bias" not in told[seed]
    own = result.json()["seeds"]
    assert own[0]["constraints"]["first.weight"]["latent"] == told[5]["first.weight"]["latent"]


def test_pictures_are_those_of_the_first_seed(result: RunResult) -> None:
    assert result.seeds[1].weights == ()
    pictures = {own["weight"]: own for own in result.seeds[0].weights}
    assert list(pictures) == ["first.weight", "second.weight", "head.weight", "head.bias"]
    state = load_state(result.path, 5)
    positive = int((state["first.weight"] >= 0).sum())
    signs = pictures["first.weight"]["histogram"]
    assert signs["values"] == [-1, 1] and signs["after"] == [8 * 13 - positive, positive]
    assert sum(signs["before"]) == 8 * 13
    assert pictures["first.weight"]["free"] == 0
    product = state["second.weight_left"] @ state["second.weight_right"]
    shown = torch.tensor(pictures["second.weight"]["pattern"]["values"])
    assert torch.allclose(shown, product, rtol=1e-3, atol=1e-6)
    assert pictures["head.bias"]["histogram"]["before"] == pictures["head.bias"]["histogram"]["after"]


def test_the_objective_has_the_penalties_of_weights_and_of_layers(
    experiment: Callable[[str], Experiment], trained: Trained
) -> None:
    layer = """layer held {
      input  x: real[n]
      output y = x -> dense(8) as inner
      penalty size = 0.01 * sum(square(inner.weight))
    }"""
    text = layer + SPEC.replace("dense(8) as first", "held as first").replace(
        "constrain first.weight: binary & box(-0.3, 0.3)", ""
    )
    for row in trained(experiment(text).replace(seeds=(5,))).history:
        costs = {
            "size": row["penalties"]["first.size"],
            "l1": row["constraints"]["head.weight"]["penalty.l1"],
        }
        assert row["objective"] == pytest.approx(row["train"]["loss"] + sum(costs.values()))


def test_few_epochs_of_many_are_measured(experiment: Callable[[str], Experiment], trained: Trained) -> None:
    own = experiment(SPEC).replace(seeds=(5,), epochs=450, batch=None)
    measured = [row["epoch"] for row in trained(own).history if "constraints" in row]
    assert 100 <= len(measured) <= 120 and measured[-1] == 450


def test_histograms_count_everything() -> None:
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=1000), generator.normal(size=1000)
    after[:300] = 0
    found = histogram(before, after)
    assert sum(found["before"]) + found["zeros"][0] == 1000 == sum(found["after"]) + found["zeros"][1]
    assert found["zeros"] == [0, 300] and len(found["edges"]) == len(found["after"]) + 1
    assert found["edges"][0] <= min(before.min(), after.min())
    few = histogram(np.repeat([0.5, -0.5], 20), np.repeat([0.5, 0.0], 20))
    assert few == {"values": [-0.5, 0.0, 0.5], "before": [20, 0, 20], "after": [0, 20, 20]}
    assert sum(histogram(np.zeros(3), np.zeros(3))["after"]) == 0


def test_large_patterns_come_in_cells() -> None:
    matrix = np.zeros((250, 130))
    matrix[100, 64] = -3.0
    found = pattern(matrix)
    assert found["cell"] == [3, 2] and found["of"] == "shares"
    values = np.array(found["values"])
    assert values.shape == (84, 65) and values.sum() == pytest.approx(1 / 6, abs=1e-4)
    assert values[33, 32] > 0
    full = pattern(matrix - 0.5)
    assert full["of"] == "entries" and np.array(full["values"])[33, 32] == -3.5
    assert np.array(full["values"])[0, 0] == -0.5


@pytest.mark.parametrize("shape", [(3,), (4, 6), (120, 110), (4, 2, 3, 3)])
def test_figures_of_every_shape(shape: tuple[int, ...]) -> None:
    pytest.importorskip("matplotlib")
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    shown = picture(weight, weight.clamp(min=0), ("topology",))
    assert ("pattern" in shown) == (len(shape) > 1)
    curve = {0: [(1.0, 0.1), (2.0, 0.0)]}
    for measures, penalties in (({}, {}), ({"residual": curve}, {}), ({"residual": curve}, {"l1": curve})):
        svg = weight_figure(shown, measures, penalties)
        assert svg.startswith("<svg") and "entries" in svg and "exactly 0" in svg
        assert len(re.findall(">epoch<", svg)) == bool(measures) + bool(penalties)
        assert len(re.findall(">input<", svg)) == ("pattern" in shown)
