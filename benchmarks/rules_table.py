"""Every learning rule on one network: how close its directions are to the gradient, what it reaches, what a step costs.

`python benchmarks/rules_table.py [SPEC] [EXPERIMENT ..]` prints a row for each experiment of a spec, by default of
`specs/rules/one_network.nnspec`, the first of which is what times are relative to. A row says with which forward the network is
scored: in one pass, or with states that settle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from rounds import seconds, table

import nnspec
from nnspec.compiler.checks.directions import Comparison, averaged, gives_direction, measured
from nnspec.compiler.checks.loops import forward_kind
from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Plan, prepare
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.compiler.runtime.trials import Trial

SPEC = Path(__file__).parent.parent / "specs" / "rules" / "one_network.nnspec"
COLUMNS = ("rule", "cosine at the start", "after training", "accuracy", "time of a step", "scored")
ROUNDS = 9
STEPS = 20  # in a round


class Row(NamedTuple):
    """What was measured of one rule, the means over its seeds."""

    first: float | None
    last: float | None
    score: float
    forward: str


def measure(plan: Plan) -> Row:
    """Train every seed, and compare directions with the gradient at both ends, at a whole batch."""
    found = [_trained(plan, seed) for seed in plan.experiment.seeds]
    first, last = ([ends[place] for ends, _ in found] for place in (0, 1))
    return Row(
        _mean(first), _mean(last), mean(score for _, score in found), forward_kind(plan.graph).split(",")[0]
    )


def _trained(plan: Plan, seed: int) -> tuple[tuple[Any, Any], float]:
    with kept_generators(plan.device):
        comparison = Comparison(plan, seed)
        learner = comparison.learner
        first = _compared(comparison)
        for _ in range(plan.epochs):
            learner.epoch()
        (scores,) = learner.scores()[plan.held_out]
        return (first, _compared(comparison)), scores["accuracy"]


def _compared(comparison: Comparison) -> Any:
    groups = comparison.learner.groups
    if not all(gives_direction(group.rule) for group in groups):
        return None
    streams = comparison.learner.streams
    before = streams.states()
    found = measured(comparison.at(comparison.batches(1)[0])).whole
    streams.restore(before)
    return found


def _mean(found: list[Any]) -> float | None:
    return None if None in found else averaged(found).cosine


def step_of(plan: Plan) -> Callable[[], object]:
    """Return a function that makes some steps of training."""
    learner = Learner(plan.endless(), Trial(plan.experiment.seeds[0]))
    learner.network.train()
    size = plan.experiment.batch
    batch = plan.train if size is None else plan.train.between(0, size)

    def steps() -> None:
        for _ in range(STEPS):
            learner.learn(batch)

    return steps


def _rules(plan: Plan) -> str:
    """Return the rules of an experiment as written, each with what it teaches if that is not everything."""
    own = plan.experiment
    named = [(group.rule or own.rule, group.name) for group in own.groups] or [(own.rule, "")]
    return ", ".join(f"`{_text(rule)}`" + (f" of `{name}`" if name else "") for rule, name in named)


def _text(rule: Choice) -> str:
    return rule.name if rule.span is None else rule.span.text


def _said(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    path = Path(arguments[0]) if arguments else SPEC
    spec = nnspec.load(path)
    names = arguments[1:] or spec.experiments
    plans = {name: prepare(spec.experiment(name).fitted, spec.folder) for name in names}
    times = seconds({name: step_of(plan) for name, plan in plans.items()}, ROUNDS)
    first = times[next(iter(names))]
    rows: list[list[str]] = []
    for name, plan in plans.items():
        row = measure(plan)
        cells = (
            _said(row.first),
            _said(row.last),
            _said(row.score),
            f"{times[name] / first:.2g}",
            row.forward,
        )
        rows.append([_rules(plan), *cells])
    print(table(COLUMNS, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
