"""Experiments to groups that are about to learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare


@pytest.fixture
def begun(experiment: Callable[[str], Experiment]) -> Callable[..., LearningGroup]:
    """`begun(text, seed)`: the first group of the last experiment of a spec, about to learn; without a seed, its first."""

    def made(text: str, seed: int | None = None) -> LearningGroup:
        own = experiment(text)
        plan = prepare(own if seed is None else own.replace(seeds=(seed,)), Path("."), "cpu")
        group = Learner(plan, plan.trials[0]).groups[0]
        group.network.train()
        return group

    return made
