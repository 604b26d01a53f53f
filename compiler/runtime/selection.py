"""Which restart of each seed is the result.

In: the results of all trials, by name. Out: one trial a seed: the best by `select` of those that did not
diverge, the first of equals; the first of all if every one diverged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.runtime.trials import Trial

# What is on the training part decides if nothing else is said: the test part never does.
DEFAULT = Choice(family="select", name="min", arguments=(("metric", "loss"), ("part", "train")))


def selected(experiment: Experiment, results: Mapping[str, Mapping[str, Any]]) -> tuple[Trial, ...]:
    """Return the trial that is kept of each seed, in the order of the seeds."""
    choice = experiment.select or DEFAULT
    return tuple(_best(seed, experiment.restarts, choice, results) for seed in experiment.seeds)


def _best(seed: int, restarts: int, choice: Choice, results: Mapping[str, Mapping[str, Any]]) -> Trial:
    name = f"{choice['part']}.{choice['metric']}"
    sign = -1 if choice.name == "max" else 1
    found: dict[Trial, float] = {}
    for restart in range(restarts):
        trial = Trial(seed, restart)
        value = results[trial.name]["metrics"].get(name)
        if value is not None:
            found[trial] = sign * value
    return min(found, key=lambda trial: (found[trial], trial.restart)) if found else Trial(seed)
