"""Which seeds solved their task when: counted by hand, from a run, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import nnspec
from nnspec.__main__ import main
from nnspec.compiler.passes.success import Rows, judged, strips

SPEC = """network small {
  input  x: real[2]
  output y: real[2] = x -> dense(3) -> tanh -> dense(2)
}

experiment bits {
  network   = small
  data      = xor(samples = 40, noise = 0.1)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.1)
  epochs    = 12
  batch     = 8
  seeds     = 0..2
  metrics   = [accuracy]
}

analyze bits {
  success(threshold = 0.9)
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bits.nnspec").write_text(SPEC, encoding="utf-8")
    return tmp_path


def test_by_hand() -> None:
    """Seed 4 solves it and leaves it again, seed 7 never does, and what is no number is not solved."""
    found: Rows = {
        4: [(1, 0.5), (2, 0.01), (3, None), (4, 0.02), (5, 0.3)],
        7: [(1, 0.4), (2, 0.021)],
        9: [(1, 0.0)],
    }
    data = judged(found, "train.loss", "lower", 0.02)
    assert (data["solved"], data["solved_at_end"], data["count"], data["of"]) == ([4, 9], [9], 2, 3)
    four, seven, nine = data["seeds"]
    assert four["epochs"] == [2, 4] and four["first"] == 2 and not four["at_end"]
    assert (four["best"], four["best_epoch"], four["measured"], four["last_epoch"]) == (0.01, 2, 5, 5)
    assert seven["epochs"] == [] and seven["first"] is None and seven["best"] == 0.021
    assert nine["at_end"]
    higher = judged(found, "train.accuracy", "higher", 0.3)
    assert [own["epochs"] for own in higher["seeds"]] == [[1, 5], [1], []]


def test_a_strip_for_each_stretch_of_epochs() -> None:
    found: Any = {4: [(1, 0.5), (2, 0.01), (3, 0.01), (4, 0.5)], 7: [(1, 0.5), (2, 0.5)]}
    plot = strips(judged(found, "train.loss", "lower", 0.02), found)
    axes = Figure().subplots(*plot.panels, squeeze=False)
    plot.draw(axes)
    bars = [(b.get_x(), b.get_width(), b.get_y() + b.get_height() / 2) for b in axes[1, 0].patches]
    assert bars == [(0.5, 1, 0), (1.5, 2, 0), (3.5, 1, 0), (0.5, 2, 1)]
    counts = axes[0, 0].lines[0].get_ydata()
    assert list(counts) == [0, 1, 1, 0]


def test_of_a_run_as_its_history_says(folder: Path, capsys: Any) -> None:
    result = nnspec.load("bits.nnspec").experiment().train()
    assert main(["analyze", "bits.nnspec", "bits", "--pass", "success(threshold = 0.9)", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["score"] == "test.accuracy" and data["better"] == "higher"
    for own in data["seeds"]:
        rows = [row for row in result.history if row["seed"] == own["seed"]]
        assert own["epochs"] == [row["epoch"] for row in rows if row["test"]["accuracy"] >= 0.9]
        assert own["best"] == max(row["test"]["accuracy"] for row in rows) and own["measured"] == 12
    scores = {seed.seed: seed.metrics["test.accuracy"] for seed in result.seeds}
    assert data["solved_at_end"] == [seed for seed, score in scores.items() if score >= 0.9]
    assert main(["analyze", "bits.nnspec", "-o", "report.html"]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "test.accuracy ≥ 0.9" in page and "<svg" in page


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ("score = test.acuracy", "N0977", "did you mean `accuracy`?"),
        ("score = tests.accuracy", "N0977", "`tests` is no part"),
        ("score = test.r2", "N0977", "measured are `loss`, `accuracy`"),
    ],
)
def test_scores_that_are_not_measured_are_refused_before_anything_runs(
    asked: str, code: str, said: str, folder: Path, capsys: Any
) -> None:
    spec = SPEC.replace("success(threshold = 0.9)", f"success(threshold = 0.9, {asked})")
    (folder / "bits.nnspec").write_text(spec, encoding="utf-8")
    assert main(["check", "bits.nnspec"]) == 1
    out = capsys.readouterr().out
    assert code in out and said in out


def test_parts_that_the_data_do_not_have_and_networks_alone(folder: Path, capsys: Any) -> None:
    nnspec.load("bits.nnspec").experiment().train()
    asked = "success(threshold = 0.9, score = validation.loss)"
    assert main(["analyze", "bits.nnspec", "bits", "--pass", asked]) == 2
    assert "the data have no part called `validation`" in capsys.readouterr().err
    assert main(["analyze", "bits.nnspec", "small", "--pass", "success(threshold = 1)"]) == 2
    assert "N0967" in capsys.readouterr().err
