"""Rules for stopping early: they watch a number over the epochs and say when it no longer gets better.

In: a choice. Out: a `Watch`, told the number after each epoch. Imports no torch.
"""

from __future__ import annotations

import math
from typing import Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.component import Component, registered
from nnspec.compiler.runtime.metrics import better
from nnspec.dsl.catalog import Argument, Entry


class Watch:
    """The best value of a number so far, and for how many epochs it has not got better."""

    def __init__(self, metric: str, mode: str, patience: float = math.inf) -> None:
        self.metric = metric
        self.higher = mode == "max"
        self.patience = patience
        self.best: float | None = None
        self.best_epoch = 0
        self.stale = 0

    def update(self, value: float, epoch: int) -> bool:
        """Take in the value after an epoch; return whether it is the best so far."""
        improved = self.best is None or (value > self.best if self.higher else value < self.best)
        if improved and not math.isnan(value):
            self.best, self.best_epoch, self.stale = value, epoch, 0
            return True
        self.stale += 1
        return False

    @property
    def done(self) -> bool:
        """Whether training should stop now."""
        return self.stale >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"best": self.best, "best_epoch": self.best_epoch, "stale": self.stale}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.best, self.best_epoch, self.stale = state["best"], state["best_epoch"], state["stale"]


class Early(Component):
    name = "early"
    family = "stop"
    doc = """Stops once `metric` on the validation part has not got better for `patience` epochs in a row."""
    arguments = (
        Argument(name="patience", kind="int", default=10, at_least=1, doc="epochs without a better value"),
        Argument(
            name="metric", kind="metric", default=None, nullable=True, doc="what to watch; none: the loss"
        ),
        Argument(
            name="mode",
            kind="choice",
            choices=("auto", "min", "max"),
            default="auto",
            doc="which way is better; auto: the metric knows",
        ),
    )
    example = "stop = early(patience = 5, metric = accuracy)"

    def watch(self, options: dict[str, Any]) -> Watch:
        """Return a new watch."""
        metric = watched(options)
        mode = options["mode"]
        if mode == "auto":
            mode = "max" if better(options["metric"]) == "higher" else "min"
        return Watch(metric, mode, options["patience"])


_STOPS = registered((Early(),))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the rules for stopping."""
    return tuple(stop.entry() for stop in _STOPS.values())


def build(choice: Choice | None) -> Watch:
    """Return a new watch; without a choice, one that watches the loss and never stops."""
    return Watch("loss", "min") if choice is None else _STOPS[choice.name].watch(choice.options)


def watched(options: dict[str, Any]) -> str:
    """Return the name of the number that the options of a choice watch."""
    return "loss" if options["metric"] is None else options["metric"].name
