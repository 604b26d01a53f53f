"""`align`, `merge` and `equivalent` from the command line, and the pass that compares two seeds of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
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
        assert main(["analyze", "s.nnspec", target, "--pass", name]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["align", "s.nnspec", "nowhere", "nowhere"], 2, "N0968"),
        (["align", "s.nnspec", "RUN:x", "RUN"], 2, "N0968"),
        (["align", "s.nnspec", "RUN:9", "RUN"], 3, "N08"),
        (["align", "s.nnspec", "odd.safetensors", "RUN"], 2, "N0963"),
        (["align", "s.nnspec", "text.safetensors", "RUN"], 2, "N0968"),
        (["merge", "s.nnspec", "nan.safetensors", "RUN"], 2, "N0962"),
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
    assert main(asked) == 2
    assert said in capsys.readouterr().err


def test_large_networks_have_no_canonical_form_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large.nnspec").write_text("network n {\n  input x: real[5000]\n  output y = x -> dense(5000)\n}\n")
    assert main(["analyze", "large.nnspec", "n", "--pass", "canonical"]) == 2
    assert "N0969" in capsys.readouterr().err


def _changed(run: str, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Write the weights of a run, each changed, to a file."""
    assert main(["align", "s.nnspec", run, run, "-o", name]) == 0
    save_file({key: change(tensor) for key, tensor in load_file(name).items()}, name)


@pytest.mark.parametrize("command", ["align", "equivalent", "merge"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_not_real_are_refused(
    command: str, dtype: torch.dtype, run: str, capsys: Any
) -> None:
    _changed(run, "whole.safetensors", lambda tensor: tensor.to(dtype))
    capsys.readouterr()
    for pair in (["whole.safetensors", run], [run, "whole.safetensors"], ["whole.safetensors"] * 2):
        assert main([command, "s.nnspec", *pair]) == 2
        said = " ".join(capsys.readouterr().err.split())
        name = str(dtype).removeprefix("torch.")
        assert "N0963" in said and f"dense.weight {name} for real numbers" in said


def test_real_weights_of_another_precision_are_the_same_weights(run: str, capsys: Any) -> None:
    _changed(run, "double.safetensors", torch.Tensor.double)
    assert main(["equivalent", "s.nnspec", "double.safetensors", run]) == 0
    assert "yes: " in capsys.readouterr().out
    _changed(run, "eight.safetensors", lambda tensor: tensor.to(torch.float8_e4m3fn))
    values = {key: tensor.float() for key, tensor in load_file("eight.safetensors").items()}
    save_file(values, "single.safetensors")
    for command in ("align", "equivalent", "merge"):
        capsys.readouterr()
        assert main([command, "s.nnspec", "eight.safetensors", "single.safetensors"]) == 0
        assert command != "equivalent" or "yes: " in capsys.readouterr().out


def test_weights_whose_products_overflow_are_refused(run: str, capsys: Any) -> None:
    _changed(run, "vast.safetensors", lambda tensor: tensor.double().sign() * 1e200)
    for command in ("align", "equivalent", "merge"):
        capsys.readouterr()
        assert main([command, "s.nnspec", run, "vast.safetensors"]) == 2
        said = capsys.readouterr().err
        assert "N0962" in said and "`dense.bias` holds 8 entries beyond 1e+100" in said


def test_a_loss_that_is_not_finite_has_no_barrier(run: str, capsys: Any) -> None:
    _changed(run, "huge.safetensors", lambda tensor: tensor.sign() * 1e30)
    capsys.readouterr()
    assert main(["merge", "s.nnspec", run, "huge.safetensors", "--points", "3", "-o", "m.html"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "is not finite at 2 of 3 places, B among them, on the straight path" in out
    assert "nan" not in out and "not finite" in Path("m.html").read_text()
    assert main(["merge", "s.nnspec", run, "huge.safetensors", "--points", "3", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)["before"]
    assert "NaN" not in out and "Infinity" not in out  # JSON has neither
    assert found["barrier"]["test"] is None and found["losses"]["test"][1:] == [None, None]
    assert isinstance(found["losses"]["test"][0], float)


def test_orbits_that_are_not_counted_say_how_large_they_are(run: str, capsys: Any) -> None:
    assert main(["analyze", "s.nnspec", "circles_run", "--pass", "canonical"]) == 0
    # 8! permutations of relu units, 8! 2^8 of tanh units
    out = " ".join(capsys.readouterr().out.split())
    assert "too large to count" in out and "10^11.6" in out and "none" in out
    small = SPEC.replace("dense(8) -> relu -> dense(8) -> tanh", "dense(3) -> gelu")
    Path("small.nnspec").write_text(small)
    assert main(["analyze", "small.nnspec", "small", "--pass", "canonical"]) == 0
    assert "at most 6" in " ".join(capsys.readouterr().out.split())
    assert main(["analyze", "small.nnspec", "small", "--pass", "canonical(enumerate = true)"]) == 0
    assert "at most" not in capsys.readouterr().out


def test_an_orbit_too_large_to_count_stops_no_other_pass(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "s.nnspec"
    path.write_text(SPEC + "\nanalyze small {\n  canonical(enumerate = true)\n  cost\n}\n")
    assert main(["analyze", str(path)]) == 1
    said = capsys.readouterr()
    line = SPEC.count("\n") + 3
    assert "N0965" in said.err and f"s.nnspec:{line}:" in said.err
    assert "114 parameters" in " ".join(said.out.split())  # 8 (2 + 1) + 8 (8 + 1) + 2 (8 + 1)
    assert main(["analyze", str(path), "small", "--pass", "canonical(enumerate = true)"]) == 2
    assert "N0965" in capsys.readouterr().err


def test_options_stand_anywhere_and_a_misspelt_one_is_told_the_nearest(run: str, capsys: Any) -> None:
    moved = "moved.safetensors"
    assert main(["align", "s.nnspec", "-o", moved, f"{run}:0", "--network", "small", f"{run}:1"]) == 0
    capsys.readouterr()
    assert main(["equivalent", "s.nnspec", "--network", "small", moved, f"{run}:1"]) == 0
    assert capsys.readouterr().out.startswith("yes: ")
    assert main(["align", "s.nnspec", run, run, "--restart", "3"]) == 2
    assert "did you mean `--restarts`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"), [("x.txt", "FILE.safetensors"), ("no/x.safetensors", "no folder `no`")]
)
def test_what_is_aligned_goes_to_no_other_place(run: str, capsys: Any, name: str, said: str) -> None:
    assert main(["align", "s.nnspec", run, run, "-o", name]) == 2
    assert said in capsys.readouterr().err
    assert not Path(name).exists() and not Path("no").exists()
