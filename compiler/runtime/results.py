"""What a run gives back: scores by seed, the rows of its history, and where everything lies.

Plain data that reports and the command line read; nothing of torch.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.dsl.diagnostics import Error
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from nnspec.compiler.claims.claim import Verdict

Scores: TypeAlias = "dict[str, dict[str, float]]"  # part -> name -> value


class SeedResult(Node):
    """One training of a seed. `metrics` has `loss` and the metrics on the held-out part by their plain names,
    and on every part as `train.loss`, `test.accuracy`."""

    seed: int
    status: str  # "finished", "stopped" (early), "diverged"
    metrics: dict[str, float]
    epochs: int  # trained
    best_epoch: int | None = None  # whose weights were kept, if those of the best epoch were asked for
    confusion: tuple[tuple[int, ...], ...] | None = None  # on the held-out part
    predictions: tuple[tuple[float, float], ...] = ()  # target and output, where both are single numbers
    weights: tuple[dict[str, Any], ...] = ()  # constrained ones of the first seed, see `constraint_log`
    problem: str | None = None  # why it diverged
    restart: int = 0  # which of the seed's initialisations


class RunResult(Node):
    """A run: all seeds of one experiment."""

    experiment: str
    path: Path
    identity: str
    held_out: str  # the part that `metrics` without a prefix are of
    seeds: tuple[SeedResult, ...]  # of each seed the restart that was selected
    # Rows of metrics.jsonl: seed, perhaps restart and stage, epoch, step, loss, scores by part, constraints.
    history: tuple[dict[str, Any], ...]
    settings: dict[str, Any]
    environment: dict[str, Any]
    data: str = ""  # the hash of the data
    class_names: tuple[str, ...] = ()
    problems: tuple[Error, ...] = ()  # a seed that diverged gives one; the command line then exits with 3
    doubts: tuple[Error, ...] = ()  # warnings: states that did not settle
    trials: tuple[SeedResult, ...] = ()  # every restart of every seed, where there are several
    claims: tuple[Verdict, ...] = ()  # what was expected of it, and whether it holds
    replaced: bool = False  # an earlier run of the same name was overwritten
    resumed: bool = False

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over the seeds that were trained to their end."""
        return {name: sum(values) / len(values) for name, values in self._columns().items()}

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviation of each metric over the seeds (of the sample; 0 for one seed)."""
        columns = self._columns().items()  # exact arithmetic: equal values deviate by 0
        return {name: stdev(values) if len(values) > 1 else 0.0 for name, values in columns}

    @property
    def kept_history(self) -> tuple[dict[str, Any], ...]:
        """The rows of the selected restarts alone."""
        kept = {own.seed: own.restart for own in self.seeds}
        return tuple(row for row in self.history if row.get("restart", 0) == kept.get(row["seed"]))

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The epochs after which another stage began, in the longest training."""
        found: dict[int, int] = {}
        for row in self.kept_history:
            stage = row.get("stage", 1)
            found[stage] = max(found.get(stage, 0), row["epoch"])
        return tuple(dict.fromkeys(found[stage] for stage in sorted(found)[:-1]))

    def json(self) -> dict[str, Any]:
        """Return what `train --json` prints."""
        found: dict[str, Any] = {
            "seeds": [self._seed(own) for own in self.seeds],
            "mean": finite(self.mean),
            "run": str(self.path),
        }
        return found | ({"claims": [verdict.json() for verdict in self.claims]} if self.claims else {})

    def _seed(self, own: SeedResult) -> dict[str, Any]:
        found: dict[str, Any] = {"seed": own.seed, "metrics": finite(own.metrics)}
        if own.weights:
            found["constraints"] = {w["weight"]: w["end"] for w in own.weights}
        others = [finite(trial.metrics) for trial in self.trials if trial.seed == own.seed]
        return found | ({"restart": own.restart, "restarts": others} if len(others) > 1 else {})

    @property
    def disappointments(self) -> tuple[Error, ...]:
        """A diagnostic for each claim that does not hold; the command line then exits with 3."""
        return tuple(verdict.error for verdict in self.claims if verdict.error is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the loss and the metrics, as they stand in every part."""
        found = self.mean
        return tuple(name for name in found if f"{self.held_out}.{name}" in found)

    @property
    def shown(self) -> dict[str, str]:
        """Which scores on the held-out part a table shows, with their titles.

        Where there are several ways to judge, each score says which, so that none is taken for another.
        """
        end = f".{self.held_out}.loss"
        ways = [name.removesuffix(end) for name in self.mean if name.endswith(end)]
        if not ways:
            return {name: f"{self.held_out} {self.title(name)}" for name in self.names}
        return {
            f"{way}.{name}": f"{way} {self.held_out} {self.title(name)}"
            for way in ways
            for name in self.names
        }

    def title(self, name: str) -> str:
        """Return what a score is called: a loss that is a value of the network by that one's name, such as `energy`."""
        if name != "loss":
            return name
        written: Any = self.settings.get("loss")
        text = str(written.get("expression", "")) if isinstance(written, dict) else ""
        return text if text.isidentifier() else "loss"

    def _columns(self) -> dict[str, list[float]]:
        sound = [own.metrics for own in self.seeds if own.status != "diverged"]
        names = sound[0] if sound else {}
        return {name: [metrics[name] for metrics in sound if name in metrics] for name in names}


class Progress(Node):
    """Where a run stands, told after each epoch that is measured."""

    seeds: tuple[int, ...]  # those in training now
    networks: int  # in training now: one for each restart of these seeds that is left
    finished: int  # networks that are done
    count: int  # networks in all
    epoch: int
    epochs: int
    rows: tuple[dict[str, Any], ...]  # the history's new rows
    descended: str = "loss"  # what a row calls that which the rule descends

    @property
    def fraction(self) -> float:
        """The part of the whole run that is done, from 0 to 1."""
        return (self.finished + self.networks * self.epoch / max(1, self.epochs)) / self.count


def flat_metrics(scores: Scores, ways: dict[str, Scores], held_out: str) -> dict[str, float]:
    """Return scores by part as one record; the held-out part's stand under their plain names too.

    Those of each way to judge, of which there may be none, bear its name in front: `hard.test.accuracy`.
    """
    found = _by_part(scores, held_out)
    for way, own in ways.items():
        found |= {f"{way}.{name}": value for name, value in _by_part(own, held_out).items()}
    return found


def _by_part(scores: Scores, held_out: str) -> dict[str, float]:
    found = dict(scores[held_out])
    for part, own in scores.items():
        found |= {f"{part}.{name}": value for name, value in own.items()}
    return found


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return a record that JSON can hold: null for what is infinite or not a number."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
