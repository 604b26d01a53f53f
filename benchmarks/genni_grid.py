"""A grid of functional distances: ours beside a module copied for each point, and beside one changed in place.

In: nothing. Out: a table in Markdown; double precision, one thread, medians of interleaved rounds in one run. "A
copy a point" is what the code of the GENNI paper does (deepcopy of the module, its parameters moved, mean squared
error over the probe); "in place" moves the parameters of one module. All three give the same numbers. "Alone" is what
no evaluation can leave out, in memory that is there: the product that makes all first layers of a chunk of points, a
batched product for each later layer, the functions between them, and the sum of squares.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from rounds import seconds, table
from torch import Tensor, nn

from nnspec.compiler.emit.load import module
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.distance import Distance
from nnspec.compiler.fibres.probe import DEFAULT, draw_probe
from nnspec.compiler.fibres.slices import Slice, grid
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

POINTS, ROUNDS, SAMPLES = 35, 5, 500  # along each of three axes, as in specs/genni/fcn.nnspec
FCN, SMALL, DEEP = "FCN of the paper, 1-2-1", "tanh 2-3-1", "tanh 4-8-8-3"
NETWORKS = {
    FCN: "x: real[1]\n  output y = x -> dense(2, bias = false) -> relu -> dense(1, bias = false)",
    SMALL: "x: real[2]\n  output y = x -> dense(3) -> tanh -> dense(1)",
    DEEP: "x: real[4]\n  output y = x -> dense(8) -> tanh -> dense(8) -> tanh -> dense(3)",
}
WIDTHS = {FCN: (2, 1), SMALL: (3, 1), DEEP: (8, 8, 3)}
CHUNK = 1 << 17  # numbers of the widest layer for all points of a chunk, as ours has


def built(body: str) -> Graph:
    checked = check(Source("grid.nnspec", f"network n {{\n  input  {body}\n}}\n"), Bag())
    graph = checked.graph(checked.networks()[-1], {})
    assert graph is not None
    return graph


def moved(net: nn.Module, origin: list[Tensor], step: Tensor) -> None:
    """Set the parameters of a module to the origin plus a step."""
    parts = step.split([tensor.numel() for tensor in origin])
    with torch.no_grad():
        for parameter, start, part in zip(net.parameters(), origin, parts, strict=True):
            parameter.copy_(start + part.view(start.shape))


def copied(net: nn.Module, points: Tensor, basis: Tensor, x: Tensor, y: Tensor) -> Tensor:
    origin = [parameter.detach().clone() for parameter in net.parameters()]
    found: list[float] = []
    for point in points:
        own = copy.deepcopy(net)
        moved(own, origin, basis @ point)
        found.append(nn.functional.mse_loss(own(x), y).item())
    return torch.tensor(found, dtype=torch.float64)


def in_place(net: nn.Module, points: Tensor, basis: Tensor, x: Tensor, y: Tensor) -> Tensor:
    own = copy.deepcopy(net)
    origin = [parameter.detach().clone() for parameter in net.parameters()]
    found: list[float] = []
    with torch.no_grad():
        for point in points:
            moved(own, origin, basis @ point)
            found.append(nn.functional.mse_loss(own(x), y).item())
    return torch.tensor(found, dtype=torch.float64)


def alone(name: str) -> Callable[[], Tensor]:
    """Return the bare arithmetic of as many points as `count(name)`; tanh is taken as a logistic function."""
    widths, points = WIDTHS[name], count(name)
    function = torch.relu_ if name == FCN else torch.sigmoid_
    made = torch.randn(4, widths[0] * SAMPLES, dtype=torch.float64)
    at = torch.randn(points, 4, dtype=torch.float64)
    weights = [torch.randn(points, b, a, dtype=torch.float64) for a, b in itertools.pairwise(widths)]
    layers = [torch.empty(points, width, SAMPLES, dtype=torch.float64) for width in widths]

    def run() -> Tensor:
        torch.mm(at, made, out=layers[0].view(points, -1))
        for weight, before, after in zip(weights, layers, layers[1:], strict=False):
            torch.bmm(weight, function(before), out=after)
        last = layers[-1].view(points, -1)
        return torch.linalg.vector_norm(last, dim=1)

    return run


def count(name: str) -> int:
    return CHUNK // (SAMPLES * max(WIDTHS[name]))


def row(name: str, body: str) -> list[object]:
    graph = built(body)
    torch.manual_seed(0)
    net = module(graph).double()
    chart = Chart(graph, net.state_dict())
    inputs = draw_probe(graph, DEFAULT, 0, SAMPLES)
    targets = chart.outputs(chart.point, inputs)
    distance = Distance(chart, inputs, targets)
    basis, _ = torch.linalg.qr(torch.randn(chart.count, 3, dtype=torch.float64))
    points = grid([(-2.0, 2.0)] * 3, POINTS)
    cut = Slice(origin=chart.point, basis=basis, chosen=())
    few = points[:: max(1, len(points) // 400)]  # of the slow ways only some points, to fit into the rounds

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: distance.on(cut, points),
        "copy": lambda: copied(net, few, basis, inputs[0], targets),
        "place": lambda: in_place(net, few, basis, inputs[0], targets),
    }
    chunk = alone(name)
    chunks = len(points) // count(name)
    same = distance.on(cut, few)
    for slow in ("copy", "place"):
        assert torch.allclose(ways[slow](), same, rtol=1e-10), "the ways differ"
    times = seconds(ways | {"alone": lambda: [chunk() for _ in range(chunks)]}, ROUNDS)
    ours, copy_, place = times["ours"] / len(points), times["copy"] / len(few), times["place"] / len(few)
    bare = times["alone"] / (chunks * count(name))
    cells = [
        f"{1e6 * ours:.1f} µs",
        f"{1e6 * copy_:.0f} µs",
        f"**{copy_ / ours:.0f}**",
        f"{1e6 * place:.0f} µs",
    ]
    bound = f"{1e6 * bare:.1f} µs ({copy_ / bare:.0f}, {place / bare:.1f})"
    return [name, chart.count, *cells, f"**{place / ours:.1f}**", bound]


def main() -> None:
    torch.set_num_threads(1)
    columns = (
        "a point",
        "parameters",
        "ours",
        "a copy a point",
        "times ours",
        "in place",
        "times ours",
        "alone",
    )
    print(table(columns, [row(name, body) for name, body in NETWORKS.items()]))


if __name__ == "__main__":
    main()
