"""Runs on disk: they resume bit for bit, are locked, survive a full disk, and hold no pickles."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import checkpoint, training
from nnspec.compiler.runtime.lock import Lock
from nnspec.compiler.runtime.results import Progress, RunResult
from nnspec.compiler.runtime.runs import load_state, read_history
from nnspec.dsl.diagnostics import RunError

Make = Callable[..., Experiment]
Train = Callable[..., RunResult]

DROPOUT = """
network n {{ input image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(16) -> batchnorm -> relu -> dropout(0.2) -> dense(10) }}
experiment e {{ network = n
  data = digits(test = 0.2, validation = 0.1)
  loss = cross_entropy
  learn = {learn}
  schedule = cosine
  epochs = 4
  seeds = {seeds}
  seed_mode = "{mode}"
  metrics = [accuracy]
  save = "best" }}
"""


def interrupt_after(epoch: int, seed: int) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.epoch == epoch and seed in progress.seeds:
            raise KeyboardInterrupt

    return on_progress


def same_weights(one: RunResult, other: RunResult, seeds: tuple[int, ...]) -> bool:
    states = [(load_state(one.path, seed), load_state(other.path, seed)) for seed in seeds]
    return all(torch.equal(a[name], b[name]) for a, b in states for name in a)


@pytest.mark.parametrize("mode", ["streams", "torch"])
@pytest.mark.parametrize("learn", ["backprop", "weight_perturbation"])
def test_resumed_run_is_that_of_an_unbroken_one(
    experiment: Make, trained: Train, tmp_path: Path, mode: str, learn: str
) -> None:
    own = experiment(DROPOUT.format(mode=mode, learn=learn, seeds="0..1"))
    whole = trained(own, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(own, out=tmp_path / "broken", on_progress=interrupt_after(2, seed=1))
    record = json.loads(next((tmp_path / "broken").glob("*/run.json")).read_text())
    assert record["status"] == "interrupted" and list(record["results"]) == ["0"]
    resumed = trained(own, out=tmp_path / "broken", resume=True)
    assert resumed.resumed and not resumed.replaced
    assert same_weights(whole, resumed, (0, 1))
    assert resumed.history == whole.history
    assert [seed.metrics for seed in resumed.seeds] == [seed.metrics for seed in whole.seeds]


@pytest.mark.parametrize("mode", ["streams", "torch"])
def test_seeds_at_once_resume(digits: Make, trained: Train, tmp_path: Path, mode: str) -> None:
    own = digits("epochs = 4", "seeds = 0..2", f'seed_mode = "{mode}"')
    whole = trained(own, out=tmp_path / "whole")
    assert (whole.path / "stack.safetensors").exists()
    with pytest.raises(KeyboardInterrupt):
        trained(own, out=tmp_path / "broken", on_progress=interrupt_after(3, seed=1))
    resumed = trained(own, out=tmp_path / "broken", resume=True)
    assert same_weights(whole, resumed, (0, 1, 2))
    assert resumed.history == whole.history


KILLED = """
import os, sys
from pathlib import Path
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime import train, training
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source
training.CHECKPOINT_SECONDS = 0.0
told = []
def die(progress):
    told.append(progress)
    if len(told) == 3:
        os._exit(9)
own = check(Source("test.nnspec", sys.argv[1]), Bag()).experiments[-1]
train.train(own, root=Path("."), out=Path(sys.argv[2]), device="cpu", on_progress=die)
"""


def test_killed_run_resumes(experiment: Make, trained: Train, tmp_path: Path) -> None:
    text = DROPOUT.format(mode="streams", learn="backprop", seeds="0")
    out = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", KILLED, text, str(out)], check=False)
    assert killed.returncode == 9
    assert json.loads(next(out.glob("*/run.json")).read_text())["status"] == "running"
    with next(out.glob("*/metrics.jsonl")).open("a") as file:
        file.write('{"seed": 0, "epo')  # cut off as it was written
    resumed = trained(experiment(text), out=out, resume=True)
    whole = trained(experiment(text), out=tmp_path / "whole")
    assert same_weights(whole, resumed, (0,))
    assert resumed.history == whole.history


def test_resuming_a_finished_run_trains_nothing(digits: Make, trained: Train) -> None:
    first = trained(digits("epochs = 2"))
    told: list[Progress] = []
    again = trained(digits("epochs = 2"), resume=True, on_progress=told.append)
    assert not told
    assert again.seeds == first.seeds and again.history == first.history


def test_overwrites_and_says_so(digits: Make, trained: Train) -> None:
    first = trained(digits("epochs = 2"))
    again = trained(digits("epochs = 2"))
    assert not first.replaced and again.replaced
    assert again.path == first.path and again.history == first.history


def test_name_depends_on_the_numbers_alone(digits: Make, experiment: Make, trained: Train) -> None:
    first = trained(digits("epochs = 1"))
    assert trained(digits("epochs = 1", 'device = "cpu"')).path == first.path
    assert trained(digits("epochs = 1", "# a comment", "")).path == first.path
    assert trained(digits("epochs = 1", "batch = 32")).path != first.path
    assert trained(digits("epochs = 1", 'precision = "float64"')).path != first.path


def test_two_processes_on_one_run(digits: Make, trained: Train) -> None:
    own = digits("epochs = 1")
    result = trained(own)
    code = f"""
from pathlib import Path
from nnspec.compiler.runtime.lock import Lock
lock = Lock(Path({str(result.path / "lock")!r}))
lock.acquire()
print("held", flush=True)
input()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    before = (result.path / "run.json").read_bytes()
    with pytest.raises(RunError) as failure:
        trained(own)
    assert failure.value.error.code == "N0802" and str(other.pid) in failure.value.error.message
    assert (result.path / "run.json").read_bytes() == before
    other.kill()
    other.wait()
    trained(own)  # the lock went with the process


def test_lock_is_released(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    for _ in range(2):
        lock.acquire()
        with pytest.raises(RunError):
            Lock(tmp_path / "lock").acquire()
        lock.release()


def test_disk_full_keeps_the_last_checkpoint(
    digits: Make, trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = digits("epochs = 4")
    whole = trained(own, out=tmp_path / "whole")
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    flush, saved = os.fsync, []

    def full(descriptor: int) -> None:
        saved.append(descriptor)
        if len(saved) > 3:  # the record, and two checkpoints
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(RunError) as failure:
        trained(own, out=tmp_path / "full")
    assert failure.value.error.code == "N0803"
    monkeypatch.setattr(checkpoint.os, "fsync", flush)
    path = next((tmp_path / "full").glob("*"))
    assert not list(path.rglob(".*"))  # nothing half written is left
    assert len(read_history(path)) == 3
    resumed = trained(own, out=tmp_path / "full", resume=True)
    assert same_weights(whole, resumed, (0,)) and resumed.history == whole.history


def test_folder_that_cannot_be_made(digits: Make, trained: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as failure:
        trained(digits("epochs = 1"), out=tmp_path / "file")
    assert failure.value.error.code == "N0804"


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint(digits: Make, trained: Train, damage: bytes | None) -> None:
    own = digits("epochs = 2")
    with pytest.raises(KeyboardInterrupt):
        trained(own, on_progress=interrupt_after(1, seed=0))
    result = trained(own)
    file = result.path / "seed-0" / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-8] if damage is None else damage)
    with pytest.raises(RunError) as failure:
        load_state(result.path, 0)
    assert failure.value.error.code == "N0807"


def test_checkpoint_of_another_network(digits: Make, trained: Train) -> None:
    own = digits("epochs = 2")
    with pytest.raises(KeyboardInterrupt):
        trained(own, on_progress=interrupt_after(1, seed=0))
    result = trained(digits("epochs = 2", "batch = 32"))
    other = next(path for path in result.path.parent.glob("*") if path != result.path)
    snapshot = checkpoint.read_snapshot(result.path / "seed-0" / "checkpoint.safetensors")
    del snapshot.tensors["model.fc1.weight"]
    checkpoint.write_snapshot(other / "seed-0" / "checkpoint.safetensors", snapshot)
    with pytest.raises(RunError) as failure:
        trained(own, resume=True)
    assert failure.value.error.code == "N0807"


def test_resumes_without_a_record(digits: Make, trained: Train, tmp_path: Path) -> None:
    own = digits("epochs = 4")
    whole = trained(own, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(own, out=tmp_path / "broken", on_progress=interrupt_after(2, seed=0))
    next((tmp_path / "broken").glob("*/run.json")).write_text("{")
    resumed = trained(own, out=tmp_path / "broken", resume=True)
    assert same_weights(whole, resumed, (0,)) and resumed.history == whole.history


def test_no_pickles(digits: Make, trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickled")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    with pytest.raises(KeyboardInterrupt):
        trained(digits("epochs = 2"), on_progress=interrupt_after(1, seed=0))
    trained(digits("epochs = 2"), resume=True)


def test_weights_of_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError) as failure:
        load_state(tmp_path, 0)
    assert failure.value.error.code == "N0810"
