"""A network of two real inputs on a grid of the plane, and how its outputs are read: as classes or as numbers.

In: a plan, and states of its network. Out: for each state the values or classes on the grid, and the shares of data points
that stand on the right side.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nnspec.compiler.experiment import Objective
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.evaluation import confusion_choice
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.streams import kept_generators

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]

_ROWS = 2048  # that go through a network at once


class Reading(NamedTuple):
    """How outputs are read: `classes` is None for numbers; a single output means class 1 above `threshold`."""

    classes: tuple[str, ...] | None
    threshold: float


class Grid(NamedTuple):
    """Points of the plane, evenly spaced along both inputs."""

    names: tuple[str, str]
    x: Tensor
    y: Tensor

    @property
    def points(self) -> Tensor:
        """All points, [points, 2]; the first input changes quickest."""
        import torch

        across, up = torch.meshgrid(self.x, self.y, indexing="xy")
        return torch.stack((across.flatten(), up.flatten()), 1)


class Map(NamedTuple):
    """One network on the grid. `values` is [y, x]: the output, or of classes by how much class 1 leads class 0.

    `chosen` is the class at each point, None where outputs are numbers; `leads`, [classes, y, x], by how much each of several
    classes leads all others; `right` the shares of data points by part.
    """

    label: str
    values: Tensor | None
    chosen: Tensor | None
    leads: Tensor | None
    right: dict[str, float]
    settled: bool = True  # whether all states came to rest, of a network whose states settle


def why_no_plane(graph: Graph) -> str | None:
    """Return why a network has no map: it must take two real numbers, and its first output be one number or one axis."""
    types = dict(graph.root.types)
    inputs = [types[port.value] for port in graph.root.inputs]
    sizes = [prod(size if isinstance(size, int) else 0 for size in kind.shape) for kind in inputs]
    if any(kind.dtype != "real" for kind in inputs) or sum(sizes) != 2 or 0 in sizes:
        listed = ", ".join(map(str, inputs))
        return f"it takes {listed or 'nothing'}, and a map of the plane needs two real numbers"
    output = types[graph.root.outputs[0].value]
    if output.dtype not in ("real", "bool") or len(output.shape) > 1:
        return f"its first output is {output}, and a map shows one number or one class at each point"
    return None


def reading(plan: Plan) -> Reading | None:
    """Return how the first output is read; None for several numbers of which none is a class."""
    choice, root = confusion_choice(plan), plan.graph.root
    count = prod(int(str(size)) for size in dict(root.types)[root.outputs[0].value].shape)
    classes = plan.target.classes
    if choice is not None and classes is not None and count in (1, classes):
        names = plan.target.class_names or tuple(map(str, range(classes)))
        word = choice.metric if isinstance(choice, Objective) else choice
        return Reading(names, float((word["threshold"] if word else None) or 0.0))
    return Reading(None, 0.0) if count == 1 else None


def names_of(graph: Graph) -> tuple[str, str]:
    """Return what the two numbers are called: `x[0]` and `x[1]`, or the names of two inputs."""
    names = [port.name for port in graph.root.inputs]
    return (names[0], names[1]) if len(names) == 2 else (f"{names[0]}[0]", f"{names[0]}[1]")


def listed(values: Any) -> list[Any]:
    """Return the numbers of a tensor."""
    return values.tolist()


def flat_points(part: Batch) -> Tensor:
    """Return the data points of a part, [rows, 2]."""
    import torch

    return torch.cat([values.flatten(1) for values in part.inputs], 1)


def grid_of(plan: Plan, resolution: int, margin: float) -> Grid:
    """Return a grid around the data, `margin` of their extent beyond them on each side."""
    import torch

    found: Any = torch.cat([flat_points(part) for part in plan.parts.values()])
    low, high = found.amin(0), found.amax(0)
    beyond = margin * (high - low).clamp(min=1e-6)
    ends = [(float(a), float(b)) for a, b in zip(low - beyond, high + beyond, strict=True)]
    axes = [torch.linspace(a, b, resolution, dtype=plan.dtype) for a, b in ends]
    return Grid(names_of(plan.graph), axes[0], axes[1])


def mapped(plan: Plan, state: State, label: str, grid: Grid, read: Reading, seed: int) -> Map:
    """Return one network on the grid; what it draws itself is drawn from the seed."""
    import torch

    from nnspec.compiler.emit.load import module

    with kept_generators(plan.device), torch.no_grad(), warnings.catch_warnings(record=True) as restless:
        warnings.simplefilter("always", RuntimeWarning)  # what does not settle is said once
        network: Any = module(plan.graph).to(plan.dtype)
        network.load_state_dict({key: tensor.cpu() for key, tensor in state.items()})
        network.eval()
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        output = _outputs(network, plan, grid.points)
        right: dict[str, float] = {}
        for name, part in plan.parts.items() if read.classes is not None else ():
            told = _chosen(_outputs(network, plan, flat_points(part).cpu()), read)
            right[name] = float((told == part.target.cpu().flatten()).double().mean())
    shape = (len(grid.y), len(grid.x))
    chosen = None if read.classes is None else _chosen(output, read).view(shape)
    values, leads = _values(output, read), _leads(output)
    return Map(
        label=label,
        values=None if values is None else values.view(shape),
        chosen=chosen,
        leads=None if leads is None else leads.view(-1, *shape),
        right=right,
        settled=not restless,
    )


def _outputs(network: Any, plan: Plan, points: Tensor) -> Tensor:
    """Return the first output at some points, [points, numbers]."""
    import torch

    types = dict(plan.graph.root.types)
    shapes = [tuple(int(str(size)) for size in types[p.value].shape) for p in plan.graph.root.inputs]
    found: list[Tensor] = []
    pieces: Any = points
    for rows in pieces.split(_ROWS):
        parts: Any = rows.split([prod(shape) for shape in shapes], 1)
        made: Any = network(
            *(part.reshape(len(rows), *shape) for part, shape in zip(parts, shapes, strict=True))
        )
        several = cast("tuple[Tensor, ...]", made if isinstance(made, tuple) else (made,))
        first: Any = several[0]
        found.append(first.reshape(len(rows), -1))
    return torch.cat(found)


def _chosen(output: Tensor, read: Reading) -> Tensor:
    return output.argmax(1) if output.shape[1] > 1 else (output[:, 0] > read.threshold).long()


def _values(output: Tensor, read: Reading) -> Tensor | None:
    """Return a number a point whose sign says the class, where there are two classes; the output of numbers."""
    if output.shape[1] == 1:
        return output[:, 0] - read.threshold if read.classes is not None else output[:, 0]
    return output[:, 1] - output[:, 0] if output.shape[1] == 2 else None


def _leads(output: Tensor) -> Tensor | None:
    """Return for each class by how much its output leads the largest other one, [classes, points]."""
    if output.shape[1] < 3:
        return None
    best = output.topk(2, 1).values
    others = best[:, :1].where(output < best[:, :1], best[:, 1:])
    return (output - others).mT
