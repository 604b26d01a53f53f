"""Schedules: the learning rate's factor at each step.

In: a choice and the number of steps of the whole run. Out: a function from the step (0 is the first) to
the factor on the optimizer's `lr`. Pure arithmetic: no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry

_WARMUP = Argument(name="warmup", kind="int", default=0, at_least=0, doc="steps that rise linearly to 1")
_FINAL = Argument(name="final", kind="real", default=0.0, at_least=0, doc="the factor at the end")


class Schedule(Component):
    """A schedule. `factor` is asked for each step."""

    family = "schedule"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        """Return the factor on the learning rate at a step from 0 to total - 1."""
        raise TypeError(f"{self.name} has no factor")


class Constant(Schedule):
    name = "constant"
    doc = "The factor is 1 from the first step (after a warmup) to the last."
    arguments = (_WARMUP,)
    example = "schedule = constant(warmup = 100)"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        return _rising(step, options["warmup"])


class Cosine(Schedule):
    name = "cosine"
    doc = "Half a cosine from 1 down to `final`: final + (1 - final) (1 + cos(pi t)) / 2, t from 0 to 1."
    arguments = (_WARMUP, _FINAL)
    example = "schedule = cosine(warmup = 100)"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        warmup, final = options["warmup"], options["final"]
        if step < warmup:
            return _rising(step, warmup)
        return final + (1 - final) * (1 + math.cos(math.pi * _progress(step, warmup, total))) / 2


class Linear(Schedule):
    name = "linear"
    doc = "A straight line from 1 down to `final`."
    arguments = (_WARMUP, _FINAL)
    example = "schedule = linear(final = 0.1)"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        warmup, final = options["warmup"], options["final"]
        if step < warmup:
            return _rising(step, warmup)
        return 1 + (final - 1) * _progress(step, warmup, total)


class StepDown(Schedule):
    name = "step"
    doc = "The factor is multiplied by `factor` after every `every` steps: factor^(step // every)."
    arguments = (
        Argument(name="every", kind="int", at_least=1, doc="steps between two drops"),
        Argument(name="factor", kind="real", default=0.1, above=0, doc="what each drop multiplies by"),
    )
    example = "schedule = step(every = 1000, factor = 0.5)"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        return float(options["factor"]) ** (step // options["every"])


class Exponential(Schedule):
    name = "exponential"
    doc = "Falls by the same ratio each step, from 1 to `final` after the last: final^(step / steps)."
    arguments = (Argument(name="final", kind="real", default=0.01, above=0, doc="the factor at the end"),)
    example = "schedule = exponential(final = 0.01)"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        return float(options["final"]) ** (step / max(1, total))


class OneCycle(Schedule):
    name = "one_cycle"
    doc = """Rises by half a cosine from `start` to 1 at the fraction `peak` of the run, then falls by half a
cosine to `final` at the last step (Smith and Topin, 2017); `lr` is the rate at the peak."""
    arguments = (
        Argument(name="peak", kind="real", default=0.3, above=0, below=1, doc="when the rate is highest"),
        Argument(name="start", kind="real", default=0.04, at_least=0, at_most=1, doc="the first factor"),
        Argument(name="final", kind="real", default=4e-6, at_least=0, at_most=1, doc="the last factor"),
    )
    example = "schedule = one_cycle(peak = 0.3)"

    def factor(self, step: int, total: int, options: dict[str, Any]) -> float:
        peak = options["peak"] * total - 1
        if step <= peak:
            return _half_cosine(options["start"], 1.0, step / peak if peak > 0 else 1.0)
        return _half_cosine(1.0, options["final"], (step - peak) / max(1e-9, total - 1 - peak))


_SCHEDULES: dict[str, Schedule] = registered(
    (Constant(), Cosine(), Linear(), StepDown(), Exponential(), OneCycle())
)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the schedules."""
    return tuple(schedule.entry() for schedule in _SCHEDULES.values())


def build(choice: Choice | None, total_steps: int) -> Callable[[int], float]:
    """Return the factor on the learning rate as a function of the step; None is no schedule."""
    if choice is None:
        return lambda step: 1.0
    schedule, options = _SCHEDULES[choice.name], choice.options
    return lambda step: schedule.factor(step, total_steps, options)


def _rising(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _progress(step: int, warmup: int, total: int) -> float:
    return min(1.0, (step - warmup) / max(1, total - warmup))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
