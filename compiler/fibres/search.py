"""Students: networks that are trained to be the teacher, all at once.

In: first weights [K, p], inputs and the teacher's outputs. Out: weights after so many steps of gradient
descent or Adam (Kingma and Ba, 2015) on the mean squared difference. Batches follow one another in the order of
the samples (as in the GENNI paper's code, which does not shuffle), or in orders drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.chart import Chart

if TYPE_CHECKING:
    from torch import Tensor

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


def descend(
    chart: Chart,
    vectors: Tensor,
    inputs: tuple[Tensor, ...],
    targets: Tensor,
    search: Choice,
    seed: int | None,
) -> Tensor:
    """Return the weights [K, p] that the search ends with; without a seed batches are not shuffled."""
    import torch

    def loss(vector: Tensor, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        return ((chart.outputs(vector, inputs) - targets) ** 2).mean()

    gradients: Any = torch.vmap(torch.func.grad(loss), in_dims=(0, None, None), randomness="same")
    first, second = torch.zeros_like(vectors), torch.zeros_like(vectors)
    low, high = _BETAS
    batches = _batches(len(targets), search["batch"], seed)
    for step in range(1, search["steps"] + 1):
        chosen = next(batches)
        slope = gradients(vectors, tuple(item[chosen] for item in inputs), targets[chosen])
        if search.name == "sgd":
            vectors = vectors - search["lr"] * slope
            continue
        first = low * first + (1 - low) * slope
        second = high * second + (1 - high) * slope * slope
        ahead, spread = first / (1 - low**step), second / (1 - high**step)
        vectors = vectors - search["lr"] * ahead / (spread.sqrt() + _EPSILON)
    return vectors


def _batches(count: int, size: int | None, seed: int | None) -> Iterator[Any]:
    import torch

    random = None if seed is None else torch.Generator().manual_seed(seed)
    while True:
        if size is None or size >= count:
            yield slice(None)
        elif random is None:
            yield from (slice(start, start + size) for start in range(0, count, size))
        else:
            yield from torch.randperm(count, generator=random).split(size)
