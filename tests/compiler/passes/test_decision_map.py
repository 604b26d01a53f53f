"""Maps of the plane: against the network itself, point by point, and against the scores of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

import nnspec
from nnspec.__main__ import main
from nnspec.compiler.checks import plane, plane_views
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.runs import find_run, load_state

SPEC = """use library.dynamics

network pair {
  input  point: real[2]
  output side: real[2] = point -> dense(4) -> tanh -> dense(2)
}

network one {
  input  a: real
  input  b: real[1]
  output y: real = [a -> unsqueeze(0), b] -> concat -> dense(3) -> tanh -> dense(1) -> squeeze
}

network neurons {
  input  x: real[2]
  state  h: real[3]
  state  o: real[1]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics rate(tanh, solve = fixed_point(steps = 100, damping = 0.5, tolerance = 1e-3))
  output y = o
}

experiment moons_run {
  network   = pair
  data      = moons(samples = 120, noise = 0.1)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.05)
  epochs    = 15
  batch     = 16
  seeds     = 0..2
  metrics   = [accuracy]
}

experiment four = moons_run {
  network = pair_of_four
  data    = blobs(samples = 80, centers = 4)
}

experiment settled = moons_run {
  network = neurons
  data    = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0.1, 1.5, 1, 0])
  loss    = mean_squared_error
  metrics = []
  batch   = none
  seeds   = 1
}

experiment settled_bits = settled {
  data = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
}

network pair_of_four {
  input  point: real[2]
  output side: real[4] = point -> dense(4) -> tanh -> dense(4)
}

network wide {
  input  x: real[3]
  output y: real[2] = x -> dense(2)
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plane.nnspec").write_text(SPEC, encoding="utf-8")
    return tmp_path


def asked(name: str, options: str, capsys: Any) -> dict[str, Any]:
    assert main(["analyze", "plane.nnspec", name, "--pass", f"decision_map({options})", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def trained(name: str) -> list[Any]:
    """The networks of a run, one a seed."""
    experiment = nnspec.load("plane.nnspec").experiment(name)
    plan = prepare(experiment.fitted, Path())
    found: list[Any] = []
    for seed in plan.experiment.seeds:
        module: Any = experiment.network.torch()
        module.load_state_dict(load_state(find_run(Path("runs"), plan), seed))
        found.append(module.eval())
    return found


def test_two_classes_point_by_point(folder: Path, capsys: Any) -> None:
    result = nnspec.load("plane.nnspec").experiment("moons_run").train()
    capsys.readouterr()
    data = asked("moons_run", "resolution = 9, margin = 0.5, seeds = 2", capsys)
    assert data["inputs"] == ["point[0]", "point[1]"] and data["classes"] == ["0", "1"]
    assert len(data["x"]) == len(data["y"]) == 9 and len(data["maps"]) == 2
    for own, network, run in zip(data["maps"], trained("moons_run"), result.seeds, strict=False):
        for row, y in enumerate(data["y"]):
            for column, x in enumerate(data["x"]):
                first, second = network(torch.tensor([[x, y]]))[0].tolist()
                assert own["values"][row][column] == pytest.approx(second - first, abs=1e-5)
                assert own["classes"][row][column] == int(second > first)
        assert own["right"]["test"] == pytest.approx(run.metrics["test.accuracy"])
        assert own["right"]["train"] == pytest.approx(run.metrics["train.accuracy"])


def test_the_grid_reaches_beyond_the_data_by_the_margin(folder: Path) -> None:
    plan = prepare(nnspec.load("plane.nnspec").experiment("moons_run").fitted, Path())
    points = torch.cat([part.inputs[0] for part in plan.parts.values()])
    grid = plane.grid_of(plan, 5, 0.25)
    extent = points.amax(0) - points.amin(0)
    for axis, place in ((grid.x, 0), (grid.y, 1)):
        assert float(axis[0]) == pytest.approx(float(points[:, place].min() - extent[place] / 4))
        assert float(axis[-1]) == pytest.approx(float(points[:, place].max() + extent[place] / 4))
    assert plane.listed(grid.points[7]) == [float(grid.x[2]), float(grid.y[1])]


def test_leads_of_several_classes_meet_where_the_class_changes(folder: Path) -> None:
    plan = prepare(nnspec.load("plane.nnspec").experiment("four").fitted, Path())
    grid, read = plane.grid_of(plan, 21, 0.2), plane.reading(plan)
    assert read is not None and read.classes == ("0", "1", "2", "3")
    state = plan.make().state_dict()
    found = plane.mapped(plan, state, "by hand", grid, read, 0)
    assert found.values is None and found.leads is not None and found.chosen is not None
    assert torch.equal((found.leads > 0).long().argmax(0), found.chosen)
    assert torch.equal((found.leads > 0).sum(0), torch.ones(21, 21).long())
    outputs = plan.make()
    outputs.load_state_dict(state)
    best: Any = outputs(grid.points).topk(2, 1).values
    lead = found.leads.gather(0, found.chosen[None])[0].flatten()
    assert torch.allclose(lead, best[:, 0] - best[:, 1])


@pytest.mark.parametrize(("name", "halfway"), [("settled", 0.0), ("settled_bits", 0.5)])
def test_a_system_with_one_output(name: str, halfway: float, folder: Path, capsys: Any) -> None:
    """A number as it is; of two classes by how much it is above what lies halfway between their labels."""
    nnspec.load("plane.nnspec").experiment(name).train()
    capsys.readouterr()
    data = asked(name, "resolution = 5", capsys)
    values = torch.tensor(data["maps"][0]["values"])
    x, y = data["x"][3], data["y"][1]
    output = float(trained(name)[0](torch.tensor([[x, y]])).detach())
    assert output - halfway == pytest.approx(float(values[1, 3]), abs=1e-5)
    assert (data["classes"] is None) == (name == "settled")
    if halfway:
        assert data["maps"][0]["classes"][1][3] == int(output > halfway)
    assert main(["analyze", "plane.nnspec", name, "--pass", "decision_map(resolution = 5)"]) == 0
    assert ("values from" if name == "settled" else "right side") in capsys.readouterr().out


def test_two_inputs_of_one_number_each(folder: Path) -> None:
    graph = nnspec.load("plane.nnspec").network("one").graph
    assert plane.why_no_plane(graph) is None and plane.names_of(graph) == ("a", "b")


def test_the_line_is_where_neither_class_leads(folder: Path) -> None:
    """Of the network x[0] > 0.5 the line stands upright at 0.5, and every data point is drawn on its own side."""
    plan = prepare(nnspec.load("plane.nnspec").experiment("moons_run").fitted, Path())
    grid, read = plane.grid_of(plan, 31, 0.2), plane.reading(plan)
    assert read is not None
    lead = (grid.x - 0.5).expand(31, 31)
    by_hand = plane.Map("by hand", lead, (lead > 0).long(), None, {"test": 1.0})
    plot = plane_views.plot(plan, grid, read, [by_hand])
    axes = Figure().subplots(*plot.panels, squeeze=False)[0, 0]
    plot.draw(axes)
    lines = [
        path for kind in axes.collections if "ContourSet" in type(kind).__name__ for path in kind.get_paths()
    ]
    assert lines and all(abs(x - 0.5) < 1e-6 for path in lines for x, _ in path.vertices)
    drawn = sum(len(c.get_offsets()) for c in axes.collections if "PathCollection" in type(c).__name__)
    assert drawn == plan.train.rows + plan.parts["test"].rows


def test_what_has_no_map_is_refused(folder: Path, capsys: Any) -> None:
    for name, code in (("wide", "N0976"), ("pair", "N0967")):
        assert main(["analyze", "plane.nnspec", name, "--pass", "decision_map"]) == 2
        assert code in capsys.readouterr().err
