"""Rules of the language in a network: a group that is ready to step, and its direction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.render import to_text
from nnspec.dsl.source import Source


@pytest.fixture
def begun() -> Callable[..., LearningGroup]:
    """`begun(text)`: the first group of the last experiment of a spec."""

    def made(text: str, seed: int = 0) -> LearningGroup:
        bag = Bag()
        own = check(Source("test.nnspec", text), bag).experiments
        assert not bag.failed, "\n".join(to_text(error) for error in bag)
        plan = prepare(own[-1].replace(seeds=(seed,)), Path("."), "cpu")
        group = Learner(plan, plan.trials[0]).groups[0]
        group.network.train()
        return group

    return made
