"""Training an experiment: every seed, to its end or to where it stops, into the folder of its run.

In: a fitted experiment and where its data lie. Out: `RunResult`, and the run on disk. What goes wrong is a
RunError, and the run stays as it was at its last checkpoint; Ctrl-C writes one first. A seed whose loss is
no longer finite is stopped and told in the result's `problems`; the others go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import stops
from nnspec.compiler.runtime.checkpoint import Snapshot
from nnspec.compiler.runtime.device import describe
from nnspec.compiler.runtime.divergence import locate
from nnspec.compiler.runtime.evaluation import confusion_choice
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.memory import check_memory
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.results import Progress, RunResult, SeedResult, finite, flat_metrics
from nnspec.compiler.runtime.runs import RunFolder, read_history
from nnspec.compiler.runtime.stack import Stack, alone, stackable
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.dsl.diagnostics import Error, RunError
from nnspec.dsl.errors.runs import CheckpointUnreadable, LossNotFinite, OutOfMemory

if TYPE_CHECKING:
    import torch

CHECKPOINT_SECONDS = 5.0  # at least so long from one checkpoint to the next
ROWS = 20_000  # of history a run, beyond which only every n-th epoch is measured

OnProgress = Callable[[Progress], None]


def train(
    experiment: Experiment,
    *,
    root: Path,
    data_root: Path | None = None,
    out: Path = Path("runs"),
    device: str | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> RunResult:
    """Train all seeds of an experiment.

    `root` is the folder of the spec, `data_root` the one its data lie in if that is another; `out` is where
    the folder of the run goes. An earlier run of the same name is overwritten (`replaced` says so), or with
    `resume` continued. `on_progress` is called after each measured epoch; KeyboardInterrupt raised in it, or
    anywhere, leaves a run that resumes. Raises RunError.
    """
    plan = prepare(experiment, data_root or root, device)
    together = stackable(plan)
    check_memory(plan, len(experiment.seeds) if together else 1)
    with kept_generators(plan.device), RunFolder(out, plan) as folder:
        existed = folder.begin(resume)
        trainer = _Trainer(plan, folder, on_progress)
        with _status_on_failure(folder):
            left = tuple(seed for seed in plan.experiment.seeds if str(seed) not in trainer.results)
            groups = (left,) if together and len(left) > 1 else tuple((seed,) for seed in left)
            if resume:
                trainer.forget_unsaved(groups)
            for seeds in groups:
                trainer.train(seeds)
        folder.status("diverged" if trainer.problems() else "finished")
        return trainer.result(replaced=existed and not resume, resumed=existed and resume)


class _Trainer:
    """Trains the seeds of a plan, one after another or several at once, and records what comes out."""

    def __init__(self, plan: Plan, folder: RunFolder, on_progress: OnProgress | None) -> None:
        experiment = plan.experiment
        self.plan = plan
        self.folder = folder
        self.on_progress = on_progress
        self.results: dict[str, dict[str, Any]] = folder.record["results"]
        port = plan.graph.root.outputs[0]
        output = dict(plan.graph.root.types)[port.value]
        self.table = confusion_choice(experiment.metrics, experiment.loss, output, plan.target)

    def train(self, seeds: tuple[int, ...]) -> None:
        """Train these seeds at once."""
        learner = Learner(self.plan, seeds[0]) if len(seeds) == 1 else Stack(self.plan, seeds)
        training = _Training(self, learner)
        training.begin(self.folder.saved(seeds))
        try:
            training.run()
        except (KeyboardInterrupt, RunError):
            training.save()
            raise
        training.finish()

    def forget_unsaved(self, groups: tuple[tuple[int, ...], ...]) -> None:
        """Drop the rows of the history that are later than the checkpoints: they will come again."""
        saved = {seeds: self.folder.saved(seeds) for seeds in groups}
        epochs = {seeds: 0 if found is None else found.data["epoch"] for seeds, found in saved.items()}
        self.folder.forget_after({seed: epoch for seeds, epoch in epochs.items() for seed in seeds})

    def tell(self, training: _Training, rows: list[dict[str, Any]]) -> None:
        """Say how far the run is, and the new rows of its history."""
        if self.on_progress is not None:
            self.on_progress(
                Progress(
                    seeds=training.learner.seeds,
                    finished=len(self.results),
                    count=len(self.plan.experiment.seeds),
                    epoch=training.epoch,
                    epochs=self.plan.epochs,
                    rows=tuple(rows),
                )
            )

    def problems(self) -> tuple[Error, ...]:
        """Return a diagnostic for each seed that diverged."""
        found = ((seed, result["problem"]) for seed, result in self.results.items() if result.get("problem"))
        span = self.plan.experiment.span
        return tuple(
            LossNotFinite(span, seed=int(seed), path=str(self.folder.path), **problem)
            for seed, problem in found
        )

    def result(self, replaced: bool, resumed: bool) -> RunResult:
        """Return what the run gives back."""
        listed = [self.results[str(seed)] | {"seed": seed} for seed in self.plan.experiment.seeds]
        return RunResult(
            experiment=self.plan.experiment.name,
            path=self.folder.path,
            identity=self.folder.identity,
            held_out=self.plan.held_out,
            seeds=tuple(_seed_result(own) for own in listed),
            history=tuple(read_history(self.folder.path)),
            settings=self.folder.record["settings"],
            environment=self.folder.record["environment"],
            data=self.plan.identity,
            class_names=self.plan.target.class_names,
            problems=self.problems(),
            replaced=replaced,
            resumed=resumed,
        )


class _Training:
    """One learner on its way: epochs between two measurements, what is kept, and when to stop."""

    def __init__(self, trainer: _Trainer, learner: Learner | Stack) -> None:
        experiment = trainer.plan.experiment
        self.trainer = trainer
        self.plan = trainer.plan
        self.learner = learner
        self.watch = stops.build(experiment.stop)
        self.watches = experiment.stop is not None or experiment.save == "best"
        self.epoch = 0
        self.diverged: dict[int, dict[str, Any]] = {}
        self.scores: dict[str, list[dict[str, float]]] = {}
        rows = self.plan.epochs * len(learner.seeds)
        self.stride = 1 if self.watches else max(1, math.ceil(rows / ROWS))
        self.saved_at = time.monotonic()

    # ---------------------------------------------------------------------------------------- checkpoints

    def begin(self, snapshot: Snapshot | None) -> None:
        """Start anew, or where a checkpoint stands."""
        if snapshot is not None:
            try:
                self._restore(snapshot)
            except (RuntimeError, KeyError, ValueError, TypeError) as failure:
                path, why = str(self.trainer.folder.path), "it is of another network or version"
                raise RunError(CheckpointUnreadable(None, path=path, why=why)) from failure
        self.sound = self.capture()

    def _restore(self, snapshot: Snapshot) -> None:
        self.learner.restore(snapshot)
        self.epoch = snapshot.data["epoch"]
        self.diverged = {int(seed): why for seed, why in snapshot.data["diverged"].items()}
        self.watch.restore(snapshot.data["watch"])

    def capture(self) -> Snapshot:
        """Return all that is needed to go on from here."""
        snapshot = self.learner.capture()
        own = {"epoch": self.epoch, "diverged": self.diverged, "watch": self.watch.state()}
        return Snapshot(snapshot.tensors, snapshot.data | own)

    def save(self) -> None:
        """Write the last sound state."""
        self.trainer.folder.save(self.sound)
        self.saved_at = time.monotonic()

    # --------------------------------------------------------------------------------------------- epochs

    def run(self) -> None:
        """Train until the epochs are over, or there is a reason to stop."""
        while self.epoch < self.plan.epochs and not self._over():
            epochs = min(self.stride - self.epoch % self.stride, self.plan.epochs - self.epoch)
            with _memory_told(self.plan, self.epoch + 1):
                losses = [self.learner.epoch() for _ in range(epochs)]
                self._check(losses)
                self.epoch += epochs
                self.scores = self.learner.scores()
            self._close(losses[-1])

    def _over(self) -> bool:
        stopped = self.plan.experiment.stop is not None and self.watch.done
        return stopped or len(self.diverged) == len(self.learner.seeds)

    def _close(self, losses: torch.Tensor) -> None:
        """Record an epoch: rows, the best weights, a sound snapshot, and now and then a checkpoint."""
        means: Any = losses.mean(0)
        rows = self._rows(means.tolist())
        if self.watches and not self.diverged and isinstance(self.learner, Learner):
            value = self.scores["validation"][0][self.watch.metric]
            if self.watch.update(value, self.epoch) and self.plan.experiment.save == "best":
                self.learner.keep_best()
        if len(self.diverged) < len(self.learner.seeds):
            self.sound = self.capture()
        # Rows first: a run that goes on from the checkpoint has no second chance to write them.
        self.trainer.folder.append(rows)
        if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            self.save()
        self.trainer.tell(self, rows)

    def _rows(self, losses: list[float]) -> list[dict[str, Any]]:
        """Return a row of history for each seed that is sound. `loss` is the mean over the epoch's steps."""
        rows: list[dict[str, Any]] = []
        for index, seed in enumerate(self.learner.seeds):
            if seed not in self.diverged:
                row: dict[str, Any] = {"seed": seed, "epoch": self.epoch, "step": self.learner.step}
                scores = {part: finite(own[index]) for part, own in self.scores.items()}
                rows.append(row | {"loss": losses[index]} | scores)
        return rows

    def _check(self, losses: list[torch.Tensor]) -> None:
        """Note the seeds whose loss is no longer finite, and keep their last sound weights."""
        import torch

        together = torch.cat(losses)
        if bool(together.isfinite().all()):
            return
        sound = together.isfinite().cpu()
        for index, seed in enumerate(self.learner.seeds):
            if seed not in self.diverged and not bool(sound[:, index].all()):
                step = int((~sound[:, index]).nonzero()[0])
                self._diverge(index, step, str(float(together[step, index])))

    def _diverge(self, index: int, step: int, value: str) -> None:
        """Stop a seed at a step after the last sound snapshot, counted from 0."""
        seed = self.learner.seeds[index]
        own = alone(self.sound, index) if isinstance(self.learner, Stack) else self.sound
        first = own.data["step"]
        where = locate(self.plan, seed, own, step + 1)
        epoch = (first + step) // self.plan.steps_per_epoch + 1
        self.diverged[seed] = {"epoch": epoch, "step": first + step + 1, "value": value, "where": where}
        if isinstance(self.learner, Stack):
            self.trainer.folder.save(own)

    # ------------------------------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Measure the weights that are kept, write the checkpoint, and record the results."""
        learner = self.learner
        self.save()
        if isinstance(learner, Learner) and learner.best:
            learner.use_best()
            self.scores = {}
        self.scores = self.scores or learner.scores()
        tables = learner.tables(self.trainer.table)
        for index, seed in enumerate(learner.seeds):
            scores = {part: own[index] for part, own in self.scores.items()}
            self.trainer.results[str(seed)] = self._result(seed, scores, tables[index])

    def _result(self, seed: int, scores: dict[str, dict[str, float]], tables: tuple[Any, Any]) -> Any:
        problem = self.diverged.get(seed)
        if problem is not None:
            epochs = problem["epoch"] - 1
            return {"status": "diverged", "metrics": {}, "epochs": epochs, "problem": problem}
        experiment = self.plan.experiment
        table, pairs = tables
        return {
            "status": "stopped" if self.epoch < self.plan.epochs else "finished",
            "metrics": finite(flat_metrics(scores, self.plan.held_out)),
            "epochs": self.epoch,
            "best_epoch": self.watch.best_epoch if experiment.save == "best" else None,
            "confusion": table,
            "predictions": pairs if seed == experiment.seeds[0] else (),
        }


@contextmanager
def _status_on_failure(folder: RunFolder) -> Generator[None]:
    """Say in the record how a run ended, if it did not end well."""
    try:
        yield
    except BaseException as failure:
        status = "interrupted" if isinstance(failure, KeyboardInterrupt) else "failed"
        with suppress(RunError):  # the failure itself is what to tell
            folder.status(status)
        raise


@contextmanager
def _memory_told(plan: Plan, epoch: int) -> Generator[None]:
    """Turn what torch says when memory ends into a diagnostic."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as failure:
        raise RunError(_out_of_memory(plan, epoch)) from failure
    except RuntimeError as failure:
        if "can't allocate memory" not in str(failure):
            raise
        raise RunError(_out_of_memory(plan, epoch)) from failure


def _out_of_memory(plan: Plan, epoch: int) -> Error:
    return OutOfMemory(plan.experiment.span, device=describe(plan.device), epoch=epoch)


def _seed_result(own: dict[str, Any]) -> SeedResult:
    table, problem = own.get("confusion"), own.get("problem")
    return SeedResult(
        seed=own["seed"],
        status=own["status"],
        metrics={name: float("nan") if v is None else v for name, v in own["metrics"].items()},
        epochs=own["epochs"],
        best_epoch=own.get("best_epoch"),
        confusion=None if table is None else tuple(tuple(row) for row in table),
        predictions=tuple((wanted, found) for wanted, found in own.get("predictions", ())),
        problem=None if problem is None else problem["where"],
    )
