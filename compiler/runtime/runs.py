"""The folder of a run: its name, its lock, and the files in it.

    runs/<experiment>-<12 digits of the identity>/
      run.json              settings, environment, status, results; replaced in one step
      metrics.jsonl         a line for each measured epoch of each seed, in the order they were written
      seed-<k>/checkpoint.safetensors     or stack.safetensors for trials trained at once;
                                          seed-<k>.<r> for a restart
      lock                  held while the run is trained

A run is named by what its numbers depend on: the typed network, the experiment's fields, the data, the
precision, the kind of device, the version of torch. Layout and comments of the spec do not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.experiment import Choice, Experiment, Objective
from nnspec.compiler.runtime.checkpoint import Snapshot, read_snapshot, write_bytes, write_snapshot, written
from nnspec.compiler.runtime.device import describe
from nnspec.compiler.runtime.lock import Lock
from nnspec.compiler.runtime.plan import Plan
from nnspec.compiler.runtime.stack import alone
from nnspec.compiler.runtime.trials import Trial
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import NoSuchRun
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_STACK = "stack.safetensors"
_CHECKPOINT = "checkpoint.safetensors"
_OURS = ("metrics.jsonl", _STACK, f"seed-*/{_CHECKPOINT}", "run.json")
_HALVES = (
    ".metrics.jsonl.*",
    f".{_STACK}.*",
    f"seed-*/.{_CHECKPOINT}.*",
    ".run.json.*",
)  # of killed processes
# Of the experiment, what changes no number: its names, places, and the device, whose kind stands for it.
_NOT_NUMBERS = ("name", "graph", "device", "start", "parts", "claims", "doc", "span")


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment's fields as plain data: words as their name and arguments."""
    fields = {name: getattr(experiment, name) for name in experiment.fields_ if name not in _NOT_NUMBERS}
    return {name: _plain(value) for name, value in fields.items()}


def identity(plan: Plan) -> str:
    """Return the hash that names a run."""
    import torch

    content = {
        "network": _without_places(graph_data(plan.graph)),
        "experiment": settings_of(plan.experiment),
        "data": plan.identity,
        "device": plan.device.type,
        "torch": torch.__version__,
    }
    if plan.loaded_hash is not None:
        content["loaded"] = plan.loaded_hash
    if plan.parent is not None:
        content["start"] = identity(plan.parent)
    if plan.borrowed:
        content["parts"] = [[identity(part), start.paths] for start, part in plan.borrowed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def environment(plan: Plan) -> dict[str, Any]:
    """Return what a reader needs to run it again: versions, device, threads."""
    import platform
    from importlib.metadata import version

    import numpy
    import torch

    return {
        "nnspec": version("nnspec"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "device": describe(plan.device),
        "threads": torch.get_num_threads(),
    }


class RunFolder:
    """A run on disk. Holding one holds its lock; use as a context."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self.plan = plan
        self.identity = identity(plan)
        name = re.sub(r"\W+", "_", plan.experiment.name, flags=re.ASCII)[:80]
        self.path = out / f"{name}-{self.identity[:12]}"
        self.record: dict[str, Any] = {}
        self._lock = Lock(self.path / "lock")

    def __enter__(self) -> RunFolder:
        with written(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    # ------------------------------------------------------------------------------------------- run.json

    def begin(self, resume: bool) -> bool:
        """Start the record, or with `resume` go on with the one there is; return whether there was one."""
        old = read_record(self.path)
        if not resume:
            self._clear(_OURS)
        self._clear(_HALVES)
        self.record = old if old is not None and resume else {"results": {}}
        source = self.plan.graph.source
        text = getattr(source, "text", None)
        self.record |= {
            "experiment": self.plan.experiment.name,
            "identity": self.identity,
            "data": self.plan.identity,
            "spec": {
                "file": getattr(source, "name", None),
                "sha256": hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) else None,
            },
            "seeds": list(self.plan.experiment.seeds),
            "settings": settings_of(self.plan.experiment),
            "environment": environment(self.plan),
        }
        if self.plan.parent is not None:
            parent = self.plan.parent
            self.record["start"] = {"experiment": parent.experiment.name, "identity": identity(parent)}
        if self.plan.borrowed:
            self.record["parts"] = [
                {"experiment": part.experiment.name, "identity": identity(part), "paths": dict(start.paths)}
                for start, part in self.plan.borrowed
            ]
        self.status("running")
        return old is not None

    def status(self, status: str) -> None:
        """Write the record with a status: "running", "interrupted", "failed", "diverged", "finished"."""
        self.record["status"] = status
        text = json.dumps(self.record, indent=2, ensure_ascii=False) + "\n"
        write_bytes(self.path / "run.json", text.encode())

    def _clear(self, patterns: tuple[str, ...]) -> None:
        """Remove what an earlier run of this name wrote, and nothing else."""
        with written(self.path):
            for pattern in patterns:
                for file in self.path.glob(pattern):
                    file.unlink()

    # -------------------------------------------------------------------------------------- metrics.jsonl

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows to the history, out of this process's hands when this returns."""
        path = self.path / "metrics.jsonl"
        with written(path), path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()

    def forget_after(self, places: dict[Trial, tuple[int, int]]) -> None:
        """Drop the rows of these trials that are later than a stage and epoch: they will come again."""
        end = (1 << 62, 0)

        def kept(row: dict[str, Any]) -> bool:
            trial = Trial(row["seed"], row.get("restart", 0))
            return (row.get("stage", 1), row["epoch"]) <= places.get(trial, end)

        rows = [row for row in read_history(self.path) if kept(row)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_bytes(self.path / "metrics.jsonl", text.encode())

    # ---------------------------------------------------------------------------------------- checkpoints

    def save(self, snapshot: Snapshot) -> None:
        """Write the checkpoint of the trials that a snapshot holds."""
        write_snapshot(self._file(trials_in(snapshot)), snapshot)

    def saved(self, trials: tuple[Trial, ...]) -> Snapshot | None:
        """Return the checkpoint of these trials, None if none was written."""
        path = self._file(trials)
        if not path.exists():
            return None
        snapshot = read_snapshot(path)
        return snapshot if trials_in(snapshot) == trials else None

    def _file(self, trials: tuple[Trial, ...]) -> Path:
        return _checkpoint(self.path, trials[0]) if len(trials) == 1 else self.path / _STACK


def trials_in(snapshot: Snapshot) -> tuple[Trial, ...]:
    """Return the trials that a snapshot is of."""
    return tuple(Trial(*trial) for trial in snapshot.data.get("trials", ()))


def _checkpoint(path: Path, trial: Trial) -> Path:
    return path / f"seed-{trial.name}" / _CHECKPOINT


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a run, None if there is none that can be read."""
    try:
        return json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's history; a last line that was cut off is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def kept_history(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the rows of a run's history, of each seed those of the restart selected."""
    chosen: dict[str, int] = (read_record(path) or {}).get("selected", {})
    rows = read_history(path)
    return tuple(row for row in rows if row.get("restart", 0) == chosen.get(str(row["seed"]), 0))


def load_state(path: Path, seed: int) -> dict[str, Tensor]:
    """Return the trained weights of one seed of a run: of the restart selected, the best if those were kept."""
    snapshot = _last(path, seed)
    return snapshot.under("best.") or snapshot.under("model.")


def load_removed(path: Path, seed: int) -> dict[str, Tensor]:
    """Return which entries of the trained weights of one seed were pruned, true where they were."""
    return _last(path, seed).under("mask.")


def _last(path: Path, seed: int) -> Snapshot:
    """Return the last checkpoint of one seed, of the restart selected."""
    chosen: dict[str, int] = (read_record(path) or {}).get("selected", {})
    trial = Trial(seed, chosen.get(str(seed), 0))
    own, stack = _checkpoint(path, trial), path / _STACK
    if own.exists():
        return read_snapshot(own)
    snapshot = read_snapshot(stack) if stack.exists() else None
    trials = () if snapshot is None else trials_in(snapshot)
    if snapshot is None or trial not in trials:
        raise RunError(NoSuchRun(None, why=f"{path} holds no weights of seed {seed}"))
    return alone(snapshot, trials.index(trial))


def find_run(out: Path, plan: Plan) -> Path:
    """Return the folder of an experiment's run; RunError if it has not been trained to its end."""
    path = RunFolder(out, plan).path
    record = read_record(path)
    if record is None or record.get("status") not in ("finished", "diverged"):
        why = f"`{plan.experiment.name}` has not been trained to its end: there is no such run in {out}"
        raise RunError(NoSuchRun(plan.experiment.span, why=why))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        plain = {"word": value.name} | {name: _plain(item) for name, item in sorted(value.arguments)}
        own = value.definition  # of a rule of the language, whose equations change the numbers
        return plain if own is None else plain | {"equations": own.item.span.text}
    if isinstance(value, Objective):
        graph = None if value.graph is None else _without_places(graph_data(value.graph))
        content = json.dumps([graph, _plain(value.metric)], sort_keys=True)  # `let` values count too
        return {"expression": value.text, "hash": hashlib.sha256(content.encode()).hexdigest()[:12]}
    if isinstance(value, Node):
        return {name: _plain(getattr(value, name)) for name in value.compared_}
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    return os.fspath(value) if isinstance(value, Path) else value


def _without_places(data: Any) -> Any:
    """The graph without what says where and why rather than what."""
    if isinstance(data, dict):
        items = cast("dict[str, Any]", data).items()
        return {k: _without_places(v) for k, v in items if k not in ("place", "doc", "reason", "begins")}
    if isinstance(data, list):
        return [_without_places(item) for item in cast("list[Any]", data)]
    return data
