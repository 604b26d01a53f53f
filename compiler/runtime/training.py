"""One learner on its way through the phases of its experiment.

In: a learner and the record of the run that it writes to. Epochs go by between two measurements; what is
kept, when a phase is over, and what happens when a loss is no longer finite is decided here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from nnspec.compiler.runtime import stops
from nnspec.compiler.runtime.checkpoint import Snapshot
from nnspec.compiler.runtime.constraint_log import ConstraintLog
from nnspec.compiler.runtime.device import describe
from nnspec.compiler.runtime.divergence import locate
from nnspec.compiler.runtime.judging import judge
from nnspec.compiler.runtime.layer_penalties import penalty_row
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.notes import notes_row
from nnspec.compiler.runtime.plan import Plan
from nnspec.compiler.runtime.results import Scores, finite, flat_metrics
from nnspec.compiler.runtime.settling import Unsettled
from nnspec.compiler.runtime.stack import Stack, alone
from nnspec.compiler.runtime.trials import Trial
from nnspec.dsl.diagnostics import Error, RunError
from nnspec.dsl.errors.runs import CheckpointUnreadable, OutOfMemory

if TYPE_CHECKING:
    import torch

    from nnspec.compiler.experiment import Judged
    from nnspec.compiler.runtime.runs import RunFolder

CHECKPOINT_SECONDS = 5.0  # at least so long from one checkpoint to the next
ROWS = 20_000  # of history a run, beyond which only every n-th epoch is measured


class Record(Protocol):
    """What a training tells of itself, and where it writes."""

    plan: Plan
    folder: RunFolder
    results: dict[str, dict[str, Any]]  # by the name of the trial
    table: Judged | None

    def tell(self, training: Training, rows: list[dict[str, Any]]) -> None:
        """Say how far the run is, and the new rows of its history."""
        ...


class Training:
    """One learner on its way: epochs between two measurements, what is kept, and when to stop."""

    def __init__(self, record: Record, learner: Learner | Stack) -> None:
        experiment = record.plan.experiment
        self.record = record
        self.plan = record.plan
        self.learner = learner
        self.watch = stops.build(experiment.stop)
        self.watches = experiment.stop is not None or experiment.save == "best"
        self.epoch = 0  # of all phases together
        self.phase_epoch = 0
        self.diverged: dict[Trial, dict[str, Any]] = {}
        self.scores: dict[str, list[dict[str, float]]] = {}
        rows = self.plan.epochs * len(learner.trials)
        self.stride = 1 if self.watches else max(1, math.ceil(rows / ROWS))
        self.saved_at = time.monotonic()
        self.constraints = ConstraintLog(learner, self.plan.epochs)
        self.unsettled = Unsettled()
        learner.unsettled = self.unsettled

    # ---------------------------------------------------------------------------------------- checkpoints

    def begin(self, snapshot: Snapshot | None) -> None:
        """Start anew, or where a checkpoint stands."""
        if snapshot is not None:
            try:
                self._restore(snapshot)
            except (RuntimeError, KeyError, ValueError, TypeError) as failure:
                path, why = str(self.record.folder.path), "it is of another network or version"
                raise RunError(CheckpointUnreadable(None, path=path, why=why)) from failure
        self.sound = self.capture()

    def _restore(self, snapshot: Snapshot) -> None:
        self.learner.restore(snapshot)
        self.epoch, self.phase_epoch = snapshot.data["epoch"], snapshot.data["phase_epoch"]
        self.diverged = {Trial(*trial): why for trial, why in snapshot.data["diverged"]}
        self.watch.restore(snapshot.data["watch"])

    def capture(self) -> Snapshot:
        """Return all that is needed to go on from here."""
        snapshot = self.learner.capture()
        own = {
            "epoch": self.epoch,
            "phase_epoch": self.phase_epoch,
            "stage": self.learner.phase.stage,
            "diverged": [[list(trial), why] for trial, why in self.diverged.items()],
            "watch": self.watch.state(),
        }
        return Snapshot(snapshot.tensors, snapshot.data | own)

    def save(self) -> None:
        """Write the last sound state."""
        self.record.folder.save(self.sound)
        self.saved_at = time.monotonic()

    # --------------------------------------------------------------------------------------------- phases

    def run(self) -> None:
        """Train until the phases are over, or no network is left that is sound."""
        while len(self.diverged) < len(self.learner.trials):
            if not self._phase_over():
                self._advance()
            elif self.learner.phase_number + 1 < len(self.plan.phases):
                self._next_phase()
            else:
                break

    def _phase_over(self) -> bool:
        stopped = self.plan.experiment.stop is not None and self.watch.done
        return stopped or self.phase_epoch >= self.learner.phase.epochs

    def _next_phase(self) -> None:
        """Go on with the weights that are kept; they are measured again if they are changed first."""
        if isinstance(self.learner, Learner):
            self.learner.use_best()
            self.learner.best = {}
        self.learner.enter(self.learner.phase_number + 1)
        self.watch = stops.build(self.plan.experiment.stop)
        self.phase_epoch = 0
        rows: list[dict[str, Any]] = []
        if self.learner.phase.before:
            self.scores = self.learner.scores()
            rows = self._rows([None] * len(self.learner.trials))
            self.record.folder.append(rows)
        self.sound = self.capture()
        self.record.tell(self, rows)

    # --------------------------------------------------------------------------------------------- epochs

    def _advance(self) -> None:
        """Train to the next measurement."""
        epochs = min(self.stride - self.epoch % self.stride, self.learner.phase.epochs - self.phase_epoch)
        with _memory_told(self.plan, self.epoch + 1), self.unsettled.watching():
            losses = [self.learner.epoch() for _ in range(epochs)]
            self._check(losses)
            self.epoch += epochs
            self.phase_epoch += epochs
            self.scores = self.learner.scores()
        self._close(losses[-1])

    def _close(self, losses: torch.Tensor) -> None:
        """Record an epoch: rows, the best weights, a sound snapshot, and now and then a checkpoint."""
        means: Any = losses.mean(0)
        rows = self._rows(means.tolist())
        if self.watches and not self.diverged and isinstance(self.learner, Learner):
            value = self.scores["validation"][0][self.watch.metric]
            if self.watch.update(value, self.epoch) and self.plan.experiment.save == "best":
                self.learner.keep_best()
        if len(self.diverged) < len(self.learner.trials):
            self.sound = self.capture()
        # Rows first: a run that goes on from the checkpoint has no second chance to write them.
        self.record.folder.append(rows)
        if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            self.save()
        self.record.tell(self, rows)

    def _rows(self, losses: Sequence[float | None]) -> list[dict[str, Any]]:
        """Return a row of history for each trial that is sound.

        `loss`, or what else the rule descends, is the mean over the epoch's steps, None right after the weights were pruned.
        """
        descended = self.learner.descended
        rows: list[dict[str, Any]] = []
        constrained = self.constraints.rows(self.epoch)
        for index, trial in enumerate(self.learner.trials):
            if trial not in self.diverged:
                row: dict[str, Any] = {"seed": trial.seed} | self._place(trial)
                row |= {"epoch": self.epoch, "step": self.learner.step, descended: losses[index]}
                row |= penalty_row(self.learner) | notes_row(self.learner)
                row |= {part: finite(own[index]) for part, own in self.scores.items()}
                rows.append(row | self.constraints.fields(constrained[index], row))
        return rows

    def _place(self, trial: Trial) -> dict[str, int]:
        """Return what tells a row from others of its seed and epoch, where there are such."""
        experiment = self.plan.experiment
        restart = {"restart": trial.restart} if experiment.restarts > 1 else {}
        return restart | ({"stage": self.learner.phase.stage} if experiment.stages else {})

    def _check(self, losses: list[torch.Tensor]) -> None:
        """Note the trials whose loss is no longer finite, and keep their last sound weights."""
        import torch

        together = torch.cat(losses)
        if bool(together.isfinite().all()):
            self._check_weights(len(together))
            return
        sound = together.isfinite().cpu()
        for index, trial in enumerate(self.learner.trials):
            if trial not in self.diverged and not bool(sound[:, index].all()):
                step = int((~sound[:, index]).nonzero()[0])
                self._diverge(index, step, str(float(together[step, index])))

    def _check_weights(self, steps: int) -> None:
        """Note a training whose losses were finite and whose weights are not: the next loss cannot be."""
        if isinstance(self.learner, Learner) and not self.learner.is_finite():
            self._diverge(0, steps, "nan")

    def _diverge(self, index: int, step: int, value: str) -> None:
        """Stop a trial at a step after the last sound snapshot, counted from 0."""
        trial = self.learner.trials[index]
        own = alone(self.sound, index) if isinstance(self.learner, Stack) else self.sound
        first = own.data["step"]
        place = locate(self.plan, trial, own, step + 1)
        phase = self.plan.phases[own.data["phase"]]
        epoch = own.data["epoch"] + step // phase.steps_per_epoch + 1
        self.diverged[trial] = {"epoch": epoch, "step": first + step + 1, "value": value, **place.facts}
        if isinstance(self.learner, Stack):
            self.record.folder.save(own)

    # ------------------------------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Measure the weights that are kept, write the checkpoint, and record the results."""
        learner = self.learner
        self.save()
        if isinstance(learner, Learner) and learner.best:
            learner.use_best()
            self.scores = {}
        with self.unsettled.watching():
            self.scores = self.scores or learner.scores()
            tables, states = learner.tables(self.record.table), learner.states()
        for index, trial in enumerate(learner.trials):
            scores = {part: own[index] for part, own in self.scores.items()}
            unsettled = self.unsettled.of(index)
            with unsettled.watching():
                ways = judge(self.plan, trial, states[index], scores) if trial not in self.diverged else {}
            if trial not in self.diverged:
                unsettled.explain(self.plan.graph, states[index], self.plan.train.inputs)
            result = self._result(trial, scores, ways, tables[index])
            result |= {} if trial in self.diverged else {"unsettled": unsettled.found}
            pictures = [] if trial in self.diverged else self.constraints.pictures(index)
            self.record.results[trial.name] = result | {"weights": pictures}

    def _result(
        self, trial: Trial, scores: Scores, ways: dict[str, Scores], tables: tuple[Any, Any]
    ) -> dict[str, Any]:
        problem = self.diverged.get(trial)
        if problem is not None:
            epochs = problem["epoch"] - 1
            return {"status": "diverged", "metrics": {}, "epochs": epochs, "problem": problem}
        experiment = self.plan.experiment
        table, pairs = tables
        return {
            "status": "stopped" if self.epoch < self.plan.epochs else "finished",
            "metrics": finite(flat_metrics(scores, ways, self.plan.held_out)),
            "epochs": self.epoch,
            "best_epoch": self.watch.best_epoch or None if experiment.save == "best" else None,
            "confusion": table,
            "predictions": pairs if trial.seed == experiment.seeds[0] else (),
        }


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
