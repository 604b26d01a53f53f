"""Which restart of each seed is the result.

In: the results of all trials, by name. Out: one trial a seed: the best by `select` of those that did not
diverge, the first of equals; the first of all if every one diverged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.runtime.component import Component, registered
from nnspec.compiler.runtime.trials import Trial
from nnspec.dsl.catalog import Argument, Entry

_SCORE = Argument(name="score", kind="score", doc="a score on a part: `validation.loss`")
PARTS = ("train", "validation", "test")


class Select(Component):
    """A choice among restarts."""

    family = "select"
    arguments = (_SCORE,)
    sign: ClassVar[int]


class Least(Select):
    name = "min"
    doc = "The restart whose score is least."
    example = "select = min(validation.loss)"
    sign = 1


class Greatest(Select):
    name = "max"
    doc = "The restart whose score is greatest."
    example = "select = max(validation.accuracy)"
    sign = -1


_CHOICES: dict[str, Select] = registered((Least(), Greatest()))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the choices among restarts."""
    return tuple(choice.entry() for choice in _CHOICES.values())


# What is on the training part decides if nothing else is said: the test part never does.
DEFAULT = Choice(family="select", name="min", arguments=(("score", ("train", "loss")),))


def selected(experiment: Experiment, results: Mapping[str, Mapping[str, Any]]) -> tuple[Trial, ...]:
    """Return the trial that is kept of each seed, in the order of the seeds."""
    choice = experiment.select or DEFAULT
    return tuple(_best(seed, experiment.restarts, choice, results) for seed in experiment.seeds)


def _best(seed: int, restarts: int, choice: Choice, results: Mapping[str, Mapping[str, Any]]) -> Trial:
    name, sign = ".".join(choice["score"]), _CHOICES[choice.name].sign
    found: dict[Trial, float] = {}
    for restart in range(restarts):
        trial = Trial(seed, restart)
        value = results[trial.name]["metrics"].get(name)
        if value is not None:
            found[trial] = sign * value
    return min(found, key=lambda trial: (found[trial], trial.restart)) if found else Trial(seed)
