"""Schedules against torch's own schedulers, step by step."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime import schedules
from nnspec.dsl.catalog import validate

ENTRIES = {entry.name: entry for entry in schedules.entries()}
TOTAL = 40


def factors(name: str, **given: Any) -> list[float]:
    options, problems = validate(ENTRIES[name], given)
    assert not problems
    choice = Choice(family="schedule", name=name, arguments=tuple(options.items()))
    factor = schedules.build(choice, TOTAL)
    return [factor(step) for step in range(TOTAL)]


def of_torch(make: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found: list[float] = []
    for _ in range(TOTAL):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("name", "given", "make"),
    [
        ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("cosine", {"final": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL, eta_min=0.1)),
        (
            "linear",
            {"final": 0.25},
            lambda o: lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=TOTAL),
        ),
        (
            "step",
            {"every": 7, "factor": 0.5},
            lambda o: lr_scheduler.StepLR(o, step_size=7, gamma=0.5),
        ),
        (
            "exponential",
            {"final": 0.02},
            lambda o: lr_scheduler.ExponentialLR(o, gamma=0.02 ** (1 / TOTAL)),
        ),
    ],
)
def test_against_torch(name: str, given: dict[str, Any], make: Any) -> None:
    assert factors(name, **given) == pytest.approx(of_torch(make), abs=1e-9)


def test_one_cycle() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=TOTAL, pct_start=0.3, cycle_momentum=False
    )
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(TOTAL - 1):  # torch refuses a step beyond the last
        optimizer.step()
        scheduler.step()
        expected.append(optimizer.param_groups[0]["lr"])
    assert factors("one_cycle") == pytest.approx(expected, abs=1e-9)


def test_warmup_rises_to_one_and_then_follows_the_curve() -> None:
    found = factors("cosine", warmup=4)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[22] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(found[4:]))


@pytest.mark.parametrize("name", sorted(ENTRIES))
@pytest.mark.parametrize("total", [1, 2])
def test_short_runs_have_finite_factors(name: str, total: int) -> None:
    options, _ = validate(ENTRIES[name], {"every": 3} if name == "step" else {})
    factor = schedules.build(Choice(family="schedule", name=name, arguments=tuple(options.items())), total)
    assert all(0 <= factor(step) <= 1 for step in range(total))


def test_no_schedule_is_constant() -> None:
    assert schedules.build(None, 5)(3) == 1.0
