"""Fitted experiments and plans from spec text, for the benchmarks."""

from __future__ import annotations

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag, SpecError
from nnspec.dsl.source import Source


def experiment(text: str) -> Experiment:
    """Return the last experiment of a spec."""
    bag = Bag()
    checked = check(Source("benchmark.nnspec", text), bag)
    if bag.failed:
        raise SpecError(tuple(bag))
    return checked.experiments[-1]
