"""dF/dtheta: by samples, by rows and by directions it is one matrix, and that of finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nnspec.compiler.emit.load import initial_state
from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres import derivatives
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.derivatives import derivative
from nnspec.compiler.fibres.probe import draw_probe
from nnspec.compiler.ir import Graph

Build = Callable[..., Graph]
PROBE = Choice(family="probe", name="gaussian", arguments=(("samples", 6), ("scale", 1.0)))
RATE = """state h: real[3]
  connect x -> h
  connect h -> h
  dynamics rate(tanh, solve = fixed_point(steps = 4), gradient = {})"""

NETWORKS = {
    "dense": "input x: real[3]\n  output y = x -> dense(4) -> tanh -> dense(2)",
    "planes": "input x: real[1, 5, 5]\n  output y = x -> conv2d(2, kernel = 3) -> tanh -> flatten -> dense(2)",
    "norm": "input x: real[3]\n  output y = x -> dense(4) -> batchnorm -> sigmoid -> dense(1)",
    "sequence": "input x: int[4]\n  output y = x -> embedding(7, 3) -> dense(4) -> gelu -> mean(axis = 0)",
    "many outputs": "input x: real[2]\n  output y = x -> dense(9)",
    "settles": f"input x: real[2]\n  {RATE.format('ift')}\n  output y = h -> dense(1)",
    "cheap gradient": f"input x: real[2]\n  {RATE.format('phantom(1)')}\n  output y = h -> dense(1)",
}


def chart_of(build: Build, body: str) -> tuple[Chart, tuple[torch.Tensor, ...]]:
    graph = build(f"use library.dynamics\n\nnetwork n {{\n  {body}\n}}\n")
    chart = Chart(graph, initial_state(graph, 0))
    inputs = draw_probe(graph, PROBE, 0, 6)
    return chart, tuple(item.double() if item.is_floating_point() else item for item in inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_are_those_of_finite_differences(build: Build, name: str) -> None:
    """Of states that settle, too: after four steps they have not, and the derivative is that of the four."""
    chart, inputs = chart_of(build, NETWORKS[name])
    found = derivative(chart, chart.point, inputs)(chart.point)
    steps = 1e-5 * torch.eye(chart.count, dtype=torch.float64)
    columns = [
        (chart.outputs(chart.point + step, inputs) - chart.outputs(chart.point - step, inputs)).reshape(-1)
        / 2e-5
        for step in steps
    ]
    assert torch.allclose(found, torch.stack(columns, dim=1), atol=1e-8)


def test_the_three_ways_agree(build: Build) -> None:
    chart, inputs = chart_of(build, NETWORKS["planes"])
    ways = [
        derivatives._by_sample(chart, inputs, 2),
        derivatives._by_row(chart, inputs, 2),
        derivatives._by_direction(chart, inputs),
    ]
    first, *others = (way(chart.point) for way in ways)
    assert all(torch.allclose(first, other, rtol=1e-12, atol=1e-15) for other in others)


def test_many_weights_at_once_have_the_derivatives_that_each_has_alone(build: Build) -> None:
    chart, inputs = chart_of(build, NETWORKS["dense"])
    own = derivative(chart, chart.point, inputs)
    points = chart.point + torch.randn(
        3, chart.count, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    together = torch.vmap(own, randomness="same")(points)
    assert torch.allclose(together, torch.stack([own(point) for point in points]), rtol=1e-12, atol=1e-15)


def test_samples_that_are_joined_are_not_taken_alone(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose outputs are centred over the batch: its rows are not those of single samples."""
    chart, inputs = chart_of(build, NETWORKS["dense"])
    plain = chart.outputs

    def centred(vector: torch.Tensor, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        found = plain(vector, given)
        return found - found.mean(dim=0)

    monkeypatch.setattr(chart, "outputs", centred)
    found = derivative(chart, chart.point, inputs)(chart.point).view(6, 2, -1)
    assert torch.allclose(found.sum(dim=0), torch.zeros(2, chart.count, dtype=torch.float64), atol=1e-14)
    assert float(found.abs().max()) > 0.1
