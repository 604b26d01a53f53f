"""Plans of functions on slices: the numbers are those of the plain evaluation, and the work is what it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nnspec.compiler.emit.load import initial_state
from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.distance import Distance
from nnspec.compiler.fibres.plans import planned
from nnspec.compiler.fibres.probe import draw_probe
from nnspec.compiler.fibres.slices import Slice
from nnspec.compiler.ir import Graph

Build = Callable[..., Graph]
Tensor = torch.Tensor
PROBE = Choice(family="probe", name="gaussian", arguments=(("samples", 20), ("scale", 1.0)))

NETWORKS = {
    "relu": "input x: real[3]\n  output y = x -> dense(5) -> relu -> dense(2)",
    "deep tanh": "input x: real[3]\n  output y = x -> dense(4) -> tanh -> dense(4) -> tanh -> dense(2)",
    "no function": "input x: real[3]\n  output y = x -> dense(2)",
    "twice": "input x: real[3]\n  shared again = dense(3)\n  output y = x -> again -> sin -> again -> square",
    "residual": "input x: real[3]\n  h = x -> dense(4)\n  z = h + (h -> tanh -> dense(4))\n  output y = z * h -> dense(2)",
    "norm": "input x: real[3]\n  output y = x -> dense(4) -> layernorm -> dense(4) -> batchnorm -> sigmoid -> dense(1)",
    "planes": "input x: real[2, 6, 6]\n  output y = x -> conv2d(3, kernel = 3) -> tanh -> conv2d(2, kernel = 2) -> flatten",
    "pooled": "input x: real[2, 6, 6]\n  output y = x -> conv2d(3, kernel = 3) -> maxpool(2) -> flatten -> dense(2)",
    "numbers": "input x: real[3]\n  h = x -> dense(4)\n"
    "  z = (-(h * 3 + 1) / 4 -> tanh) * 2 - 1\n  output y = z -> dense(3) -> sigmoid -> dense(2)",
    "read twice": "input x: real[3]\n  h = (x -> dense(4) -> tanh -> dense(4)) * 2 + 1\n"
    "  output y = (h -> dense(2)) * 3 + (h -> sin -> dense(2))",
    "two outputs": "input x: real[3]\n  output y = x -> dense(2)\n  output z = y -> exp -> dense(1)",
    "words": "input x: int[4]\n  output y = x -> embedding(7, 3) -> dense(4) -> gelu -> mean(axis = 0)",
    "noise": "input x: real[3]\n  output y = x -> dense(4) -> tanh -> dropout(0.5) -> dense(2)",
}


def distance_of(graph: Graph) -> Distance:
    chart = Chart(graph, initial_state(graph, 0))
    inputs = tuple(i.double() if i.is_floating_point() else i for i in draw_probe(graph, PROBE, 0, 20))
    return Distance(chart, inputs, chart.outputs(chart.point, inputs))


def slice_of(distance: Distance, dims: int) -> Slice:
    random = torch.Generator().manual_seed(1)
    count = distance.chart.count
    drawn = torch.randn(count, dims, generator=random, dtype=torch.float64)
    return Slice(origin=distance.chart.point, basis=torch.linalg.qr(drawn)[0], chosen=())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_plan_gives_the_numbers_of_the_network_itself(
    build: Build, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnspec.compiler.fibres.distance._WORTH_PLANNING", 0)
    distance = distance_of(build(f"network n {{\n  {NETWORKS[name]}\n}}\n"))
    cut = slice_of(distance, 2)
    points = torch.randn(9, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    alone = [
        (distance.chart.outputs(vector, distance.inputs) - distance.targets).square().mean()
        for vector in cut.points(points)
    ]
    assert torch.allclose(distance.on(cut, points), torch.stack(alone), rtol=1e-12, atol=1e-28)


def test_no_points_have_no_values() -> None:
    run = planned(lambda c: (c * c).sum(dim=1), 4, 2)
    assert run is not None
    assert run(torch.zeros(0, 2, dtype=torch.float64)).shape == (0,)


def test_what_is_affine_is_combined_and_functions_write_over_their_arguments() -> None:
    """Of tanh(x W(c)) v(c), made of 2 sigmoid - 1, there are left: x W, 2 v and the sum of v, and one product with a sum."""
    x = torch.randn(7, 3, dtype=torch.float64)
    first, second = torch.randn(2, 12, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)

    def function(c: Tensor) -> Tensor:
        hidden = x @ (c @ first).view(-1, 3, 4)
        return (hidden.tanh() @ (c @ second).unsqueeze(2)).square().sum(dim=(1, 2))

    names = operations(function)
    assert names.count("_combined") == 3
    assert names.count("baddbmm") == 1
    assert [name for name in names if name.startswith("sigmoid")] == ["sigmoid_"]
    assert not {"mul", "sub", "add", "tanh", "bmm", "mm", "mul_", "sub_", "add_"} & set(names)


@pytest.mark.parametrize(
    "between",
    [
        lambda y: y.tanh(),
        lambda y: (y.sigmoid() - 0.5) / 3,
        lambda y: -(y * 3 + 1).sin() * 2 + 1,
        lambda y: (2 * (1 + y) - 1).exp() / -4,
    ],
)
def test_numbers_are_folded_into_the_weights_beside_them(between: Callable[[Tensor], Tensor]) -> None:
    """Between two linear maps of the coordinates there is left: the function, and a product with a sum before it."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, generator=random, dtype=torch.float64).sin()
    first, second, third, bias = (
        torch.randn(2, n, generator=random, dtype=torch.float64) for n in (16, 12, 12, 4)
    )

    def function(c: Tensor) -> Tensor:
        hidden = (x @ (c @ third).view(-1, 3, 4)).cos()  # not affine
        made = hidden @ (c @ first).view(-1, 4, 4) + (c @ bias).unsqueeze(1)
        return (between(made) @ (c @ second).view(-1, 4, 3)).square().sum(dim=(1, 2))

    points = torch.randn(9, 2, generator=random, dtype=torch.float64)
    run = planned(function, 4, 2)
    assert run is not None
    assert torch.allclose(run(points), function(points), rtol=1e-13)
    names = operations(function)
    assert names.count("baddbmm") + names.count("bmm") == 2
    assert not {"mul", "sub", "add", "div", "neg", "mul_", "sub_", "add_", "div_", "neg_"} & set(names)


def test_what_is_read_again_is_not_written_over() -> None:
    def function(c: Tensor) -> Tensor:
        hidden = c.sin()
        return (hidden.exp() * hidden).sum(dim=1)

    points = torch.randn(5, 2, dtype=torch.float64)
    run = planned(function, 4, 2)
    assert run is not None
    assert torch.equal(run(points), function(points))
    kept = points.clone()
    run(points)
    assert torch.equal(points, kept)


def test_products_of_two_affine_values_and_divisions_by_one_are_not_affine() -> None:
    def function(c: Tensor) -> Tensor:
        a, b = c @ torch.ones(2, 2, dtype=torch.float64) + 1, c * 2
        return (a * b).sum(dim=1) + (b / (a * a + 1)).sum(dim=1) + (b * c).mean(dim=1)

    points = torch.randn(11, 2, dtype=torch.float64)
    run = planned(function, 4, 2)
    assert run is not None
    assert torch.allclose(run(points), function(points), rtol=1e-13)


def test_random_numbers_that_follow_a_coordinate_are_not_planned() -> None:
    assert planned(lambda c: torch.bernoulli(c.sigmoid()).sum(dim=1), 4, 2) is None


def operations(function: Callable[[Tensor], Tensor]) -> list[str]:
    run: Any = planned(function, 4, 2)
    code = dict(zip(run.__code__.co_freevars, (cell.cell_contents for cell in run.__closure__), strict=True))[
        "code"
    ]
    called = [node for node in code.graph.nodes if node.op == "call_function"]
    return [getattr(node.target, "_opname", getattr(node.target, "__name__", "")) for node in called]
