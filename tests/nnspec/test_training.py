"""Training and analysing from the command line: outputs, exit codes, interruptions."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import nnspec
from nnspec.__main__ import main

SPEC = """
network xor_net(width: int = 4) {
  input  x: real[2]
  output y: real[2] = x -> dense(width) as fc -> tanh -> dense(2) as head
}

experiment learn_xor {
  network = xor_net
  data    = xor(samples = 100)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 3
  seeds   = 0..1
  metrics = [accuracy]
}

analyze learn_xor {
  cost
}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A spec in an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("xor.nnspec").write_text(SPEC)
    return "xor.nnspec"


def test_train_json_has_the_promised_keys(spec: str, capsys: Any) -> None:
    assert main(["train", spec, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["seeds", "mean", "run"]
    assert [seed["seed"] for seed in data["seeds"]] == [0, 1]
    accuracies = [seed["metrics"]["accuracy"] for seed in data["seeds"]]
    assert data["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert (Path(data["run"]) / "run.json").exists()


def test_train_from_python_gives_the_same_numbers(spec: str, capsys: Any) -> None:
    main(["train", spec, "--json"])
    printed = json.loads(capsys.readouterr().out)
    result = nnspec.load(spec).experiment().train(out="elsewhere")
    assert result.json()["mean"] == printed["mean"]
    assert result.path.parent == Path("elsewhere")


def test_train_prints_a_table(spec: str, capsys: Any) -> None:
    assert main(["train", spec, "learn_xor"]) == 0
    both = capsys.readouterr()
    assert "mean of 2" in both.out and "run: runs/learn_xor-" in both.out
    assert both.err == ""  # no progress bar away from a terminal


def test_parameters_reach_the_experiment(spec: str, capsys: Any) -> None:
    main(["train", spec, "--json"])
    first = json.loads(capsys.readouterr().out)
    main(["train", spec, "--json", "-p", "width=9"])
    second = json.loads(capsys.readouterr().out)
    assert first["run"] != second["run"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "xor.nnspec", "lern_xor"], 2, "did you mean `learn_xor`?"),
        (["train", "none.nnspec"], 1, "N0111"),
        (["analyze", "xor.nnspec", "--pass", "csot"], 2, "did you mean `cost`?"),
        (["analyze", "xor.nnspec", "--pass", "cost } network n {"], 2, "N01"),
        (["analyze", "xor.nnspec", "xor_net"], 2, "no `analyze` item of `xor_net`"),
        (["analyze", "xor.nnspec"], 3, "has not been trained"),
        (["analyze", "xor.nnspec", "nothing", "--pass", "cost"], 2, "it has `xor_net`"),
    ],
)
def test_what_is_not_there(arguments: list[str], code: int, said: str, spec: str, capsys: Any) -> None:
    assert main(arguments) == code
    assert said in capsys.readouterr().err


def test_several_experiments_need_a_name(spec: str, capsys: Any) -> None:
    Path(spec).write_text(SPEC + "\nexperiment again = learn_xor {\n  epochs = 1\n}\n")
    assert main(["train", spec]) == 2
    assert "has 2 experiments: learn_xor, again" in capsys.readouterr().err
    with pytest.raises(nnspec.UsageError):
        nnspec.load(spec).experiment()


def test_a_failed_run_exits_with_3(spec: str, capsys: Any) -> None:
    Path(spec).write_text(SPEC.replace("xor(samples = 100)", 'csv("none.csv", target = "y")'))
    assert main(["train", spec]) == 3
    assert "none.csv" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_exits_with_3(spec: str, capsys: Any) -> None:
    wild = SPEC.replace("epochs  = 3", "optimizer = sgd(lr = 1e38)\n  epochs  = 3")
    Path(spec).write_text(wild.replace("-> tanh ->", "->").replace("cross_entropy", "hinge"))
    code = main(["train", spec])
    both = capsys.readouterr()
    assert code == 3, both.out + both.err
    assert "error[N08" in both.err


def test_analyze_reads_the_run(spec: str, capsys: Any) -> None:
    assert main(["train", spec, "--out", "kept"]) == 0
    capsys.readouterr()
    assert main(["analyze", spec, "--out", "kept", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["target"], found["pass"], found["data"]["parameters"]) == ("learn_xor", "cost", 22)
    assert main(["analyze", spec, "--pass", "cost(all = false)", "--json", "-p", "width=5"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 27


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nnspec", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"}
    # What runs in the background of a script ignores interrupts, and so would all that it starts.
    options["preexec_fn"] = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, env=environment, **options)


def wait_for(path: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not list(Path().glob(path)):
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


def test_ctrl_c_leaves_a_run_that_resumes(spec: str) -> None:
    long = SPEC.replace("epochs  = 3", "epochs  = 3000").replace("samples = 100", "samples = 2000")
    Path(spec).write_text(long)
    process = start("train", spec, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for("runs/*/metrics.jsonl")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err.decode() == "interrupted; `--resume` goes on with learn_xor where it stopped\n"
    (run,) = Path("runs").iterdir()
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


def test_a_terminal_shows_progress_and_colours(spec: str) -> None:
    Path(spec).write_text(SPEC.replace("epochs  = 3", "epochs  = 300"))
    leader, follower = pty.openpty()
    process = start("train", spec, stdout=follower, stderr=follower, stdin=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not piece:
            break
        shown += piece
    assert process.wait(timeout=60) == 0
    assert b"epoch" in shown and b"\x1b[" in shown and b"run: " in shown


def test_run_trains_analyses_and_reports(spec: str, capsys: Any) -> None:
    assert main(["run", spec, "-p", "width=7"]) == 0
    out = capsys.readouterr().out
    assert "mean of 2" in out and out.endswith("report: reports/xor.html\n")
    page = Path("reports/xor.html").read_text()
    assert "nnspec run xor.nnspec -p width=7" in page
    assert page.count("<svg") >= 3 and "<script" not in page and "http-equiv" not in page
    assert "37 parameters" in page  # 2 x 7 + 7 + 7 x 2 + 2


def test_run_goes_on_after_an_experiment_that_fails(spec: str, capsys: Any) -> None:
    broken = 'experiment broken = learn_xor {\n  data = csv("none.csv", target = "y")\n}\n\n'
    Path(spec).write_text(SPEC.replace("experiment learn_xor", broken + "experiment learn_xor"))
    assert main(["run", spec, "-o", "mine.html"]) == 3
    both = capsys.readouterr()
    assert "none.csv" in both.err and "experiment learn_xor" in both.out
    assert "Experiment learn_xor" in Path("mine.html").read_text()


def test_run_without_experiments_draws(spec: str) -> None:
    Path(spec).write_text(SPEC[: SPEC.index("experiment")])
    assert main(["run", spec]) == 0
    assert "<svg" in Path("reports/xor.html").read_text()


def test_run_reports_what_an_analysis_refuses(spec: str, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nnspec.compiler.symmetry.verification.LARGEST", 10)
    Path(spec).write_text(SPEC.replace("  cost\n", "  symmetry(verify = true)\n  cost\n"))
    assert main(["run", spec]) == 3
    captured = capsys.readouterr()
    assert "N0961" in captured.err and captured.out.endswith("report: reports/xor.html\n")
    page = Path("reports/xor.html").read_text()
    assert "N0961" in page and "Cost: learn_xor" in page


def test_analyze_writes_a_report(spec: str) -> None:
    assert main(["analyze", spec, "--pass", "cost", "-o", "cost.html"]) == 0
    assert "Cost: xor_net" in Path("cost.html").read_text()


def test_run_draws_the_penalties_of_layers(spec: str) -> None:
    own = "layer small(width: int) {\n  input  x: real[n]\n  output y = x -> dense(width) as fc\n"
    own += "  penalty size = 0.1 * mean(y * y)\n}\n"
    Path(spec).write_text(own + SPEC.replace("dense(width) as fc", "small(width) as fc"))
    assert main(["run", spec]) == 0
    assert "penalty fc.size" in Path("reports/xor.html").read_text()
