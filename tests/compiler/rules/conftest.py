"""Specs to fitted experiments."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
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
