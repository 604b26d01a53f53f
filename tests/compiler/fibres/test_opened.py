"""Networks cut open at their functions: what their pieces do not show is null in the whole, at any weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.derivatives import derivative
from nnspec.compiler.fibres.opened import unseen
from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.draws import idealised, random_inputs, random_state
from nnspec.compiler.symmetry.group import symmetry_group

Build = Callable[..., Graph]
HEAD = "network n {\n  input x: real[3]\n"
# How many directions no linear piece shows, and no polynomial one.
NETS = {
    "exponential": ("output y = x -> dense(3) -> exp -> dense(2)", 3, 3),
    "logarithm": ("output y = log(abs(x -> dense(3))) -> dense(2)", 3, 3),
    "quotient of exponentials": ("output y = exp(x -> dense(2)) / exp(x -> dense(2)) -> dense(2)", 10, 10),
    "maximum": ("output y = maximum(x -> dense(3), x -> dense(3)) -> dense(2)", 9, 9),
    "largest": ("output y = x -> dense(6) -> reshape([3, 2]) -> max(axis = -1) -> dense(2)", 9, 9),
    "choice": ("output y = where(x > 0, x -> dense(3), x -> dense(3)) -> dense(2)", 9, 9),
    "running sum": ("output y = x -> dense(3) -> cumsum -> dense(2)", 12, 12),
    "normalized": (
        "output y = x -> dense(3) -> relu -> dense(3) as m -> relu -> dense(2)\n constrain m.weight: normalized",
        6,
        6,
    ),
    "norm with a gain": ("output y = x -> dense(4) -> layernorm -> tanh -> dense(2)", 5, 5),
    "complex": ("output y = complex(x -> dense(2), x -> dense(2)) -> abs -> dense(2)", 2, 2),
    "square": ("output y = x -> dense(5) -> square -> dense(2)", 5, 12),
    "product": ("output y = (x -> dense(2)) * (x -> dense(2)) -> dense(2)", 4, 4),
    "gelu": ("output y = x -> dense(3) -> gelu -> dense(2)", 0, 0),
}


@pytest.mark.parametrize("name", NETS)
def test_what_no_piece_shows_is_null_in_the_whole(build: Build, name: str) -> None:
    body, *counts = NETS[name]
    graph = idealised(build(f"{HEAD}  {body}\n}}"))
    state = random_state(graph, symmetry_group(graph), 0)
    chart = Chart(graph, state)
    rows = derivative(chart, chart.point, inputs := random_inputs(graph, 60, 3))(chart.point)
    assert torch.isfinite(rows).all() and len(inputs[0]) == 60
    for leave, count in zip(("", "powers"), counts, strict=True):
        found = unseen(graph, state, leave=leave)
        assert found is not None
        opened, null = found
        assert null.shape[1] == count
        places = chart.slices()
        whole = torch.zeros(chart.count, count, dtype=torch.float64)
        for key, part in zip(opened.keys, null.split(opened.sizes), strict=False):
            whole[places[key]] = part
        assert not count or (rows @ whole).abs().max() <= 1e-10 * rows.abs().max()


def test_numbers_of_our_own_are_other_numbers_than_the_inputs(build: Build) -> None:
    """A rectifier of as many units as inputs: equal draws made what flows in and behind it look alike."""
    graph = build(f"{HEAD}  output y = x -> dense(3) -> relu -> dense(3) -> relu -> dense(3)\n}}")
    found = unseen(graph, random_state(graph, symmetry_group(graph), 0))
    assert found is not None
    inputs = found[0].draw(5, 10)
    sizes = torch.stack(
        [torch.corrcoef(torch.stack([inputs[0].flatten(), own.flatten()]))[0, 1] for own in inputs[1:]]
    )
    assert (sizes.abs() < 0.9).all() and found[1].shape[1] == 6


def test_nothing_is_cut_where_states_settle(build: Build) -> None:
    body = """state h: real[3]
  connect x -> h
  connect h -> h
  dynamics rate(tanh, solve = fixed_point(steps = 4))
  output y = h -> dense(2)"""
    graph = build(f"use library.dynamics\n\n{HEAD}  {body}\n}}")
    assert unseen(graph, random_state(graph, symmetry_group(graph), 0)) is None
