"""States by phase: against the equations written out in numpy, and fixed points against many more steps of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import nnspec
from nnspec.__main__ import main
from nnspec.compiler.checks import phase_views
from nnspec.compiler.checks.phase_paths import Course, phase_paths
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.short_training import exactly, initial_weights

SPEC = """use library.dynamics

network neurons {
  input  x: real[2]
  state  h: real[3]
  state  o: real[2]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics rate(tanh, solve = fixed_point(steps = 9))
  output y = o
  initialize feed.weight: normal
  initialize rec.weight: normal(std = 0.2)
}

experiment centered {
  network   = neurons
  data      = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], test = 0)
  loss      = mean_squared_error
  learn     = equilibrium(variant = "vector_field", beta = 0.3, nudged_steps = 5)
  optimizer = sgd(lr = 0.1)
  epochs    = 1
  batch     = none
  precision = "float64"
  seeds     = 2..3
}

experiment around = centered {
  learn = equilibrium(variant = "asymmetric", beta = 0.3, nudged_steps = 5, nudging = holomorphic(points = 4))
}

experiment restless = centered {
  initialize rec.weight: normal(std = 4)
}

experiment by_gradient = centered {
  learn = backprop
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "n.nnspec").write_text(SPEC, encoding="utf-8")
    return tmp_path


def courses(name: str) -> tuple[Any, dict[str, Any], tuple[Course, ...]]:
    plan = exactly(prepare(nnspec.load("n.nnspec").experiment(name).fitted, Path()))
    state = initial_weights(plan, 2)
    return plan, {k: t.numpy() for k, t in state.items()}, phase_paths(plan, 2, state, 3)[0]


def by_hand(plan: Any, w: dict[str, Any], start: Any, nudge: float, steps: int) -> Any:
    """s = tanh(U x + W s + b - nudge dC/ds), C the mean of (o - target)^2 over the two outputs of a sample."""
    x = plan.train.inputs[0][:3].numpy()
    target = np.eye(2)[plan.train.target[:3].numpy()]
    mask = w.get("rec.weight_mask", 1)
    bias = np.concatenate([w["h.bias"], w["o.bias"]])
    path = [start]
    for _ in range(steps):
        s = path[-1]
        push = np.concatenate([np.zeros((3, 3)), s[:, 3:] - target], 1)
        path.append(np.tanh(x @ w["feed.weight"].T + s @ (w["rec.weight"] * mask).T + bias - nudge * push))
    return np.stack(path)


def test_every_step_is_that_of_the_equations(folder: Path) -> None:
    plan, w, (free, plus, minus) = courses("centered")
    assert [(own.phase, own.begins, own.nudge, own.steps) for own in (free, plus, minus)] == [
        ("free", None, 0, 9),
        ("nudged", "free", 0.3, 5),
        ("nudged", "free", -0.3, 5),
    ]
    expected = by_hand(plan, w, np.zeros((3, 5)), 0.0, 9)
    assert np.allclose(free.states, expected, atol=1e-13)
    for own in (plus, minus):
        path = by_hand(plan, w, expected[-1], own.nudge.real, 5)
        assert np.allclose(own.states, path, atol=1e-13)
        rest = by_hand(plan, w, expected[-1], own.nudge.real, 3_000)[-1]
        distances = own.distances
        assert own.rest is not None and distances is not None
        assert np.allclose(distances, np.linalg.norm(path - rest, axis=2), atol=1e-8)
        assert np.allclose(own.changes, np.linalg.norm(path[1:] - path[:-1], axis=2), atol=1e-13)


def test_complex_nudges_stand_on_a_circle(folder: Path) -> None:
    """Of four points the one below the real axis mirrors the one above, and is not run."""
    _, _, (free, *nudged) = courses("around")
    assert [own.nudge for own in nudged] == pytest.approx([0.3, 0.3j, -0.3])
    assert all(own.begins == "free" and own.steps == 5 for own in nudged)
    assert nudged[1].states.is_complex() and float(nudged[1].states.imag.abs().max()) > 1e-3
    assert all(torch.equal(own.states[0].real, free.states[-1]) for own in nudged)


def test_what_comes_to_no_rest_says_so(folder: Path, capsys: Any) -> None:
    _, _, (free, *_) = courses("restless")
    assert free.rest is None and free.distances is None and free.residual > 1e-3
    assert main(["analyze", "n.nnspec", "restless", "--pass", 'phases(weights = "initial")']) == 0
    assert "no fixed point" in capsys.readouterr().out


def test_as_json_and_in_a_report(folder: Path, capsys: Any) -> None:
    asked = 'phases(weights = "initial", samples = 2, seeds = 2)'
    assert main(["analyze", "n.nnspec", "centered", "--pass", asked, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["groups"] == [{"name": "h", "units": 3}, {"name": "o", "units": 2}] and data["read"] == [3, 4]
    assert [own["weights"] for own in data["weights"]] == ["initial, seed 2", "initial, seed 3"]
    free = data["weights"][0]["phases"][0]
    assert np.array(free["states"]).shape == (2, 10, 5) and free["listed_steps"] == list(range(10))
    assert np.array(free["distances"]).shape == (2, 10) and free["at_rest"]
    assert main(["analyze", "n.nnspec", "centered", "--pass", asked, "-o", "report.html"]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "distance to rest" in page and "nudged, +0.3" in page


def test_the_picture_marks_the_phases_one_after_the_other(folder: Path) -> None:
    _, _, found = courses("centered")
    assert phase_views.begins(found) == [0, 9, 9]
    plot = phase_views.plot("states", found, [3, 4])
    panels = Figure().subplots(*plot.panels, squeeze=False)
    plot.draw(panels)
    assert panels.shape == (2, 3)
    names = [(text.get_text(), text.get_position()[0]) for text in panels[0, 0].texts]
    assert names == [("free", pytest.approx(4.5 / 14)), ("nudged", pytest.approx(11.5 / 14))]
    lines = panels[0, 1].lines
    assert len(lines) == 3 * 5
    last = sorted(float(line.get_ydata()[-1]) for line in lines if line.get_xdata()[0] == 0)
    ended: Any = found[0].states[-1, 1]
    assert last == pytest.approx(sorted(ended.tolist()))
    assert [float(line.get_xdata()[0]) for line in panels[1, 0].lines] == [0, 9, 9]


@pytest.mark.parametrize(("name", "code"), [("by_gradient", "N0978"), ("neurons", "N0967")])
def test_rules_without_such_phases_are_refused(name: str, code: str, folder: Path, capsys: Any) -> None:
    assert main(["analyze", "n.nnspec", name, "--pass", "phases"]) == 2
    assert code in capsys.readouterr().err
