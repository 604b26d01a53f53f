"""Ranks of Jacobians: of rows that differ by many orders of magnitude, and the most inputs that are tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nnspec.compiler.fibres import rank
from nnspec.compiler.fibres.chart import Chart, normal_state
from nnspec.compiler.fibres.probe import DEFAULT, draw_probe
from nnspec.compiler.ir import Graph

Build = Callable[..., Graph]
STEEP = """
activation bump(learn w: real = 0.7) { x => exp(-w * x ^ 2) }
network n {
  input x: real[3]
  output y = x -> dense(3) -> bump -> dense(2)
}
"""


@pytest.mark.parametrize("exponent", [-3.0, 1.0])
def test_rows_that_are_far_longer_than_others_hide_none(build: Build, exponent: float) -> None:
    """With w < 0 some outputs are beyond 1e30; of 21 directions exactly one is flat, that of w t^2 and x / t."""
    graph = build(STEEP)
    state = normal_state(graph, 0)
    key = next(name for name in state if name.endswith("w"))
    state[key] = torch.full_like(state[key], exponent)
    found = rank.spectrum(Chart(graph, state), lambda more, count: draw_probe(graph, DEFAULT, more, count))
    assert found.settled
    assert found.nullity == 1


def test_inputs_are_doubled_up_to_a_limit(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that never settles (here: each doubling shows one direction more) ends at the most inputs there may be."""
    graph = build(
        "network n {\n  input x: real[3]\n  output y = x -> dense(30, bias = false) -> sum(axis = 0)\n}\n"
    )
    monkeypatch.setattr(rank, "_MOST_INPUTS", 1000)
    chart = Chart(graph, normal_state(graph, 0))
    seen: list[int] = []

    def draw(seed: int, count: int) -> tuple[torch.Tensor, ...]:
        drawn = draw_probe(graph, DEFAULT, seed, count)[0]
        drawn[:, min(3, len(seen)) :] = 0
        seen.append(count)
        return (drawn,)

    found = rank.spectrum(chart, draw)
    assert found.inputs <= 2000
    assert not found.settled or found.rank == 3
