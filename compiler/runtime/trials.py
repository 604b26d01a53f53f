"""Trials: the networks that an experiment trains, one for each seed and each of its restarts."""

from __future__ import annotations

from typing import NamedTuple

from nnspec.compiler.experiment import Experiment


class Trial(NamedTuple):
    """One training from one initialisation. Restart 0 is what the seed alone would give."""

    seed: int
    restart: int = 0

    @property
    def name(self) -> str:
        """The name among the results of a run and of its files."""
        return f"{self.seed}.{self.restart}" if self.restart else str(self.seed)


def trials(experiment: Experiment) -> tuple[Trial, ...]:
    """Return the trials of an experiment, those of a seed together."""
    return tuple(Trial(seed, r) for seed in experiment.seeds for r in range(experiment.restarts))
