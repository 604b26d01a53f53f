"""dF/dtheta of a chart: the derivatives of all outputs on a batch by all weights that move.

An output follows the inputs of its own sample, so that its row is a gradient on that sample alone: m gradients a sample,
m outputs, where forward mode takes p directions. Where a network draws random numbers or joins samples, or where a
gradient is of many more weights than those that move, the rows are taken on the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.chart import Chart

if TYPE_CHECKING:
    from torch import Tensor

    Inputs = tuple[Tensor, ...]

_NUMBERS_AT_ONCE = 1 << 22  # of the derivatives of the widest value, and of the gradients of samples
_ALIKE = 1e-9  # between a sample alone and one in company, beside the largest output


def derivative(chart: Chart, point: Tensor, inputs: Inputs) -> Callable[[Tensor], Tensor]:
    """Return the function that gives dF/dtheta [samples * m, p] at weights [p], for `torch.vmap` too.

    `point` is weights of the same kind, at which it is tried how outputs follow samples.
    """
    with_one = chart.outputs(point, tuple(item[:1] for item in inputs))
    outputs, width = with_one.shape[1], len(point)
    affordable = outputs * chart.held <= _NUMBERS_AT_ONCE
    if outputs < width and affordable and _are_apart(chart, point, inputs):
        return _by_sample(chart, inputs, outputs)
    if len(inputs[0]) * outputs < width:
        return _by_row(chart, inputs, outputs)
    return _by_direction(chart, inputs)


def _are_apart(chart: Chart, point: Tensor, inputs: Inputs) -> bool:
    """Whether samples have alone the outputs that they have in company."""
    import torch

    few = tuple(item[:3] for item in inputs)
    together = chart.outputs(point, few)
    alone = _one(chart)
    apart: Tensor = torch.vmap(alone, in_dims=(None, *[0] * len(few)), randomness="same")(point, *few)
    return bool((apart - together).abs().max() <= _ALIKE * together.abs().max())


def _one(chart: Chart) -> Callable[..., Tensor]:
    def one(vector: Tensor, *sample: Tensor) -> Tensor:
        return chart.outputs(vector, tuple(item.unsqueeze(0) for item in sample))[0]

    return one


def _by_sample(chart: Chart, inputs: Inputs, outputs: int) -> Callable[[Tensor], Tensor]:
    import torch

    rows: Any = torch.func.jacrev(_one(chart))
    chunk = _chunk(len(inputs[0]), outputs * max(chart.widest, chart.held))
    own: Any = torch.vmap(rows, in_dims=(None, *[0] * len(inputs)), randomness="same", chunk_size=chunk)

    def by_sample(vector: Tensor) -> Tensor:
        return own(vector, *inputs).reshape(-1, len(vector))

    return by_sample


def _by_row(chart: Chart, inputs: Inputs, outputs: int) -> Callable[[Tensor], Tensor]:
    import torch

    chunk = _chunk(outputs * len(inputs[0]), len(inputs[0]) * chart.widest)
    own: Any = torch.func.jacrev(lambda vector: chart.outputs(vector, inputs), chunk_size=chunk)
    return lambda vector: own(vector).reshape(-1, len(vector))


def _by_direction(chart: Chart, inputs: Inputs) -> Callable[[Tensor], Tensor]:
    import torch

    def by_direction(vector: Tensor) -> Tensor:
        def along(direction: Tensor) -> Tensor:
            return torch.func.jvp(lambda v: chart.outputs(v, inputs), (vector,), (direction,))[1]

        chunk = _chunk(len(vector), len(inputs[0]) * chart.widest)
        columns: Any = torch.vmap(along, randomness="same", chunk_size=chunk)
        return columns(torch.eye(len(vector), dtype=vector.dtype)).reshape(len(vector), -1).T

    return by_direction


def _chunk(count: int, each: int) -> int:
    """Return how many at once keep what stands between input and output small."""
    return max(1, min(count, _NUMBERS_AT_ONCE // max(1, each)))
