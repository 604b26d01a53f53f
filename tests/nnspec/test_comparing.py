"""`align`, `merge` and `equivalent` from the command line, and the pass that compares two seeds of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nnspec.__main__ import main
from nnspec.compiler.runtime.straight_path import StraightPath, between

SPEC = """
network small {
  input  x: real[2]
  output y = x -> dense(8) -> relu -> dense(8) -> tanh -> dense(2)
}

experiment circles_run {
  network   = small
  data      = circles(samples = 120, noise = 0.1, test = 0.25)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.02)
  epochs    = 15
  seeds     = 0..1
}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """The folder of a run of `s.nnspec` in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("s.nnspec").write_text(SPEC)
    assert main(["train", "s.nnspec", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["run"]


def test_what_is_aligned_is_written_and_is_the_same_network(run: str, capsys: Any) -> None:
    assert main(["align", "s.nnspec", f"{run}:0", f"{run}:1", "-o", "moved.safetensors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["before", "after", "starts", "solvers", "notes"]
    assert found["after"] < found["before"]
    assert set(found["solvers"].values()) == {"linear assignment", "signed assignment"}
    assert load_file("moved.safetensors")["dense.weight"].dtype == torch.float32
    assert main(["equivalent", "s.nnspec", "moved.safetensors", f"{run}:1"]) == 0
    assert capsys.readouterr().out.startswith("yes: ")
    assert main(["equivalent", "s.nnspec", run, f"{run}:1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "no"


def test_merge_measures_the_ends_as_the_run_did(run: str, capsys: Any) -> None:
    assert main(["merge", "s.nnspec", f"{run}:0", f"{run}:1", "--points", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    results = json.loads((Path(run) / "run.json").read_text())["results"]
    for seed, place in (("0", 0), ("1", -1)):
        for kind in ("before", "after"):
            loss = found[kind]["losses"]["test"][place]
            assert loss == pytest.approx(results[seed]["metrics"]["test.loss"], rel=1e-4)
    assert found["after"]["barrier"]["train"] <= found["before"]["barrier"]["train"]
    assert found["before"]["places"] == [0, 0.25, 0.5, 0.75, 1]
    assert main(["merge", "s.nnspec", f"{run}:0", f"{run}:1", "-o", "merge.html"]) == 0
    assert "loss along the path" in Path("merge.html").read_text()


def test_the_pass_takes_two_seeds_of_a_run(run: str, capsys: Any) -> None:
    assert main(["analyze", "s.nnspec", "circles_run", "--pass", "merge(points = 3)", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["merge", "s.nnspec", f"{run}:0", f"{run}:1", "--points", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    for options, said in (("seeds = [0, 7]", "no seed 7"), ("seeds = [0]", "are two"), (None, "small")):
        target, name = ("circles_run", f"merge({options})") if options else ("small", "merge")
        assert main(["analyze", "s.nnspec", target, "--pass", name]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["align", "s.nnspec", "nowhere", "nowhere"], 2, "N0968"),
        (["align", "s.nnspec", "RUN:x", "RUN"], 2, "N0968"),
        (["align", "s.nnspec", "RUN:9", "RUN"], 3, "N08"),
        (["align", "s.nnspec", "odd.safetensors", "RUN"], 3, "N0963"),
        (["align", "s.nnspec", "text.safetensors", "RUN"], 2, "N0968"),
        (["merge", "s.nnspec", "nan.safetensors", "RUN"], 3, "N0962"),
        (["equivalent", "s.nnspec"], 2, "N0990"),
        (["equivalent", "s.nnspec", "RUN"], 2, "N0990"),
    ],
)
def test_what_cannot_be_compared(arguments: list[str], code: int, error: str, run: str, capsys: Any) -> None:
    save_file({"odd": torch.zeros(2)}, "odd.safetensors")
    Path("text.safetensors").write_text("text")
    assert main(["align", "s.nnspec", run, run, "-o", "nan.safetensors"]) == 0
    broken = load_file("nan.safetensors")
    broken["dense.bias"][0] = float("nan")
    save_file(broken, "nan.safetensors")
    capsys.readouterr()
    assert main([one.replace("RUN", run) for one in arguments]) == code
    assert error in capsys.readouterr().err


def test_specs_are_compared_without_weights(run: str, capsys: Any) -> None:
    text = SPEC.replace("network small", "network other").replace("input  x", "input  point")
    Path("t.nnspec").write_text(text.replace("= x ->", "= point ->").replace("= small", "= other"))
    assert main(["equivalent", "s.nnspec", "--with", "t.nnspec"]) == 0
    assert capsys.readouterr().out.startswith("yes: ")
    Path("t.nnspec").write_text(SPEC.replace("tanh", "sigmoid"))
    assert main(["equivalent", "s.nnspec", "--with", "t.nnspec"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("no: ") and "tanh" in out and "sigmoid" in out


def test_a_barrier_is_the_rise_above_the_line_between_the_ends() -> None:
    path = StraightPath(places=(0.0, 0.5, 1.0), losses={"train": (1.0, 4.0, 3.0), "test": (2.0, 1.0, 2.0)})
    assert path.barrier("train") == 2.0 and path.barrier("test") == 0.0
    ours, theirs = (
        {"w": torch.tensor([0.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([4.0]), "n": torch.tensor(5)},
    )
    middle = between(ours, theirs, 0.25)
    assert float(middle["w"]) == 1.0 and int(middle["n"]) == 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["equivalent", "s.nnspec", "a", "b", "--tolerance", "nan"], "nan is no positive number"),
        (["equivalent", "s.nnspec", "a", "b", "--tolerance", "-1"], "-1 is no positive number"),
        (["align", "s.nnspec", "a", "b", "--restarts", "0"], "0 is less than 1"),
        (["merge", "s.nnspec", "a", "b", "--points", "1"], "1 is less than 2"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(asked: list[str], said: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(asked)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_large_networks_have_no_canonical_form_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large.nnspec").write_text("network n {\n  input x: real[5000]\n  output y = x -> dense(5000)\n}\n")
    assert main(["analyze", "large.nnspec", "n", "--pass", "canonical"]) == 1
    assert "N0969" in capsys.readouterr().err
