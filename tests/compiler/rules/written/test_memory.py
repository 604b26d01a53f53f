"""What a step of a rule leaves behind: nothing that waits for the collector, which may come late."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from by_hand import MLP

from nnspec.compiler.rules.written.rule import Prepared
from nnspec.compiler.runtime.group import LearningGroup

SYSTEM = """
use library.dynamics
network n {{
  input  image: real[8, 8]
  x = image -> flatten
  state  h: real[6]
  state  o: real[10]
  connect x -> h as feed
  connect h <-> o as up
  dynamics leaky(sigmoid, solve = euler(dt = 0.5, steps = 4))
  output y = o
}}
experiment e {{
  network   = n
  data      = digits(train = 0.02, test = 0.9)
  loss      = mean_squared_error
  learn     = {rule}
  optimizer = sgd(lr = 0.1)
  batch     = none
  epochs    = 1
}}
"""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (MLP, "fa"),
        (MLP, "difference_target_propagation"),
        (MLP, "node_perturbation"),
        (MLP, "predictive_coding(steps = 2)"),
        (SYSTEM, "equilibrium"),
        (SYSTEM, "contrastive_hebbian"),
    ],
)
def test_what_passed_through_the_network_is_gone_after_the_step(
    begun: Callable[..., LearningGroup], monkeypatch: pytest.MonkeyPatch, text: str, rule: str
) -> None:
    group = begun(text.format(rule=rule))
    records: list[Any] = []
    teach = Prepared.teach

    def noted(self: Prepared, moment: Any, sums: Any) -> Any:
        records.extend(weakref.ref(record) for record in moment.records.values())
        return teach(self, moment, sums)

    monkeypatch.setattr(Prepared, "teach", noted)
    group.learn(group.learner.plan.train, 0)
    del records[:]  # the first step makes what all share
    gc.disable()
    try:
        group.learn(group.learner.plan.train, 1)
        assert records and all(record() is None for record in records)
    finally:
        gc.enable()
