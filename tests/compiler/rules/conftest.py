"""Specs to fitted experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source


@pytest.fixture
def experiment() -> Callable[[str], Experiment]:
    """`experiment(text)`: the last experiment of a spec."""

    def made(text: str) -> Experiment:
        bag = Bag()
        checked = check(Source("test.nnspec", text), bag)
        assert not bag.failed, [repr(error) for error in bag]
        return checked.experiments[-1]

    return made


@pytest.fixture
def begun(experiment: Callable[[str], Experiment]) -> Callable[[str], LearningGroup]:
    """`begun(text)`: the first group of the last experiment of a spec, about to learn."""

    def made(text: str) -> LearningGroup:
        plan = prepare(experiment(text), Path("."), "cpu")
        group = Learner(plan, plan.trials[0]).groups[0]
        group.network.train()
        return group

    return made
