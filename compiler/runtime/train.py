"""Training an experiment: every trial, to its end or to where it stops, into the folder of its run.

In: a fitted experiment and where its data lie. Out: `RunResult`, and the run on disk. What goes wrong is a
RunError, and the run stays as it was at its last checkpoint; Ctrl-C writes one first. A trial whose loss
is no longer finite is stopped, and told in the result's `problems` if it is all that its seed has; the others
go on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnspec.compiler.claims.experiments import judged
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.evaluation import confusion_choice
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.memory import check_memory
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.results import Progress, RunResult, SeedResult
from nnspec.compiler.runtime.runs import RunFolder, read_history
from nnspec.compiler.runtime.selection import selected
from nnspec.compiler.runtime.settling import diagnostics
from nnspec.compiler.runtime.stack import Stack, stackable
from nnspec.compiler.runtime.start import started
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.compiler.runtime.training import Training
from nnspec.compiler.runtime.trials import Trial
from nnspec.dsl.diagnostics import Error, RunError
from nnspec.dsl.errors.runs import LossNotFinite
from nnspec.dsl.errors.settling import StatesBlewUp

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
    """Train all seeds of an experiment, and all restarts of each; first the one it begins with, if need be.

    `root` is the folder of the spec, `data_root` the one its data lie in if that is another; `out` is where
    the folder of the run goes. An earlier run of the same name is overwritten (`replaced` says so), or with
    `resume` continued. `on_progress` is called after each measured epoch; KeyboardInterrupt raised in it, or
    anywhere, leaves a run that resumes. Raises RunError.
    """
    options: dict[str, Any] = {"root": root, "data_root": data_root, "out": out, "device": device}
    options |= {"resume": resume, "on_progress": on_progress}
    plan = prepare(experiment, data_root or root, device)
    plan = started(plan, out, lambda first: train(first, **options))
    together = stackable(plan)
    check_memory(plan, len(plan.trials) if together else 1)
    with kept_generators(plan.device), RunFolder(out, plan) as folder:
        existed = folder.begin(resume)
        trainer = _Trainer(plan, folder, on_progress)
        with _status_on_failure(folder):
            left = tuple(trial for trial in plan.trials if trial.name not in trainer.results)
            groups = (left,) if together and len(left) > 1 else tuple((trial,) for trial in left)
            if resume:
                trainer.forget_unsaved(groups)
            for trials in groups:
                trainer.train(trials)
        trainer.select()
        folder.status("diverged" if trainer.problems() else "finished")
        return trainer.result(replaced=existed and not resume, resumed=existed and resume)


class _Trainer:
    """Trains the trials of a plan, one after another or several at once, and records what comes out."""

    def __init__(self, plan: Plan, folder: RunFolder, on_progress: OnProgress | None) -> None:
        self.plan = plan
        self.folder = folder
        self.on_progress = on_progress
        self.results: dict[str, dict[str, Any]] = folder.record["results"]
        self.table = confusion_choice(plan)

    def train(self, trials: tuple[Trial, ...]) -> None:
        """Train these trials at once."""
        learner = Learner(self.plan, trials[0]) if len(trials) == 1 else Stack(self.plan, trials)
        training = Training(self, learner)
        training.begin(self.folder.saved(trials))
        try:
            training.run()
        except (KeyboardInterrupt, RunError):
            training.save()
            raise
        training.finish()

    def forget_unsaved(self, groups: tuple[tuple[Trial, ...], ...]) -> None:
        """Drop the rows of the history that are later than the checkpoints: they will come again."""
        places: dict[Trial, tuple[int, int]] = {}
        for trials in groups:
            found = self.folder.saved(trials)
            place = (0, 0) if found is None else (found.data["stage"], found.data["epoch"])
            places |= dict.fromkeys(trials, place)
        self.folder.forget_after(places)

    def select(self) -> None:
        """Note which restart of each seed is the result."""
        if self.plan.experiment.restarts > 1:
            chosen = selected(self.plan.experiment, self.results)
            self.folder.record["selected"] = {str(trial.seed): trial.restart for trial in chosen}

    def tell(self, training: Training, rows: list[dict[str, Any]]) -> None:
        """Say how far the run is, and the new rows of its history."""
        if self.on_progress is not None:
            self.on_progress(
                Progress(
                    seeds=tuple(dict.fromkeys(trial.seed for trial in training.learner.trials)),
                    networks=len(training.learner.trials),
                    finished=len(self.results),
                    count=len(self.plan.trials),
                    epoch=training.epoch,
                    epochs=self.plan.epochs,
                    rows=tuple(rows),
                    descended=training.learner.descended,
                )
            )

    def problems(self) -> tuple[Error, ...]:
        """Return a diagnostic for each seed that diverged, in all of its restarts."""
        span, path = self.plan.experiment.span, str(self.folder.path)
        kept = ((trial, self.results[trial.name]) for trial in selected(self.plan.experiment, self.results))
        return tuple(
            (StatesBlewUp if "state" in own["problem"] else LossNotFinite)(
                span, seed=trial.seed, path=path, **own["problem"]
            )
            for trial, own in kept
            if own.get("problem")
        )

    def doubts(self) -> tuple[Error, ...]:
        """Return a warning for each seed whose states, or their gradients, did not settle."""
        span = self.plan.experiment.span
        kept = ((trial, self.results[trial.name]) for trial in selected(self.plan.experiment, self.results))
        return tuple(
            error for trial, own in kept for error in diagnostics(own.get("unsettled", {}), trial.seed, span)
        )

    def result(self, replaced: bool, resumed: bool) -> RunResult:
        """Return what the run gives back."""
        experiment = self.plan.experiment
        found = {trial: _trial_result(trial, self.results[trial.name]) for trial in self.plan.trials}
        made = RunResult(
            experiment=experiment.name,
            path=self.folder.path,
            identity=self.folder.identity,
            held_out=self.plan.held_out,
            seeds=tuple(found[trial] for trial in selected(experiment, self.results)),
            trials=tuple(found.values()) if experiment.restarts > 1 else (),
            history=tuple(read_history(self.folder.path)),
            settings=self.folder.record["settings"],
            environment=self.folder.record["environment"],
            data=self.plan.identity,
            class_names=self.plan.target.class_names,
            problems=self.problems(),
            doubts=self.doubts(),
            replaced=replaced,
            resumed=resumed,
        )
        sound = sum(own.status != "diverged" for own in made.seeds)
        return made.replace(claims=judged(experiment, made.mean, sound))


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


def _trial_result(trial: Trial, own: dict[str, Any]) -> SeedResult:
    table, problem = own.get("confusion"), own.get("problem")
    return SeedResult(
        seed=trial.seed,
        restart=trial.restart,
        status=own["status"],
        metrics={name: float("nan") if v is None else v for name, v in own["metrics"].items()},
        epochs=own["epochs"],
        best_epoch=own.get("best_epoch"),
        confusion=None if table is None else tuple(tuple(row) for row in table),
        predictions=tuple((wanted, found) for wanted, found in own.get("predictions", ())),
        weights=tuple(own.get("weights", ())),
        problem=None if problem is None else problem["where"],
    )
