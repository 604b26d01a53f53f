"""A network as a function of one vector: its learned weights in double precision, the rest held still.

In: a typed graph and a state. Weights with a gradient of their own (straight-through) take few values; they
stand still with the buffers. Random draws of the network are the same at every call. Outputs are one row a
sample, complex ones as pairs of reals. torch is imported by the functions that use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.hard import hard, hard_state
from nnspec.compiler.symmetry.draws import learned_keys

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


class Chart:
    """The weights of one network as vectors of p numbers.

    `keys`, `shapes` and `sizes` say which entries are which tensor's; `rest` is what stands still.
    """

    def __init__(self, graph: Graph, state: Mapping[str, Tensor], seed: int = 0) -> None:
        import torch

        from nnspec.compiler.emit.load import function

        self.keys = learned_keys(graph)
        self.graph = hard(graph)
        full = {name: _double(value) for name, value in hard_state(graph, dict(state)).items()}
        self.shapes: list[torch.Size] = [full[key].shape for key in self.keys]
        self.sizes = [prod(shape) for shape in self.shapes]
        self.count = sum(self.sizes)
        self.point: Tensor = self.vector(full)
        self.rest: State = {name: value for name, value in full.items() if name not in self.keys}
        self.seed = seed
        self._forward: Callable[..., Any] = function(self.graph)

    @cached_property
    def widest(self) -> int:
        """Return how many numbers of one sample the largest value in the network holds, inputs apart."""
        flat = flatten(self.graph)
        made = [value for number, value in enumerate(flat.values) if number not in flat.inputs]
        sizes = [[size if isinstance(size, int) else 1 for size in value.type.shape] for value in made]
        return max((prod(shape) for shape in sizes), default=1)

    def vector(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return the moving weights of a state as one vector."""
        import torch

        parts = [_double(state[key]).reshape(-1) for key in self.keys]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def state(self, vector: Tensor) -> State:
        """Return the whole state that a vector means, in the vector's number type."""
        parts = vector.split(self.sizes)
        moved = {
            key: part.view(shape) for key, part, shape in zip(self.keys, parts, self.shapes, strict=True)
        }
        rest = {n: v.to(vector.dtype) if v.is_floating_point() else v for n, v in self.rest.items()}
        return {**rest, **moved}

    def outputs(self, vector: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the outputs [samples, m] at weights [p]."""
        import torch

        from nnspec.compiler.emit.load import plain_attention

        with torch.random.fork_rng(devices=[]), plain_attention():
            torch.default_generator.manual_seed(self.seed)
            return flat_outputs(self._forward(self.state(vector), *inputs))

    def slices(self) -> dict[str, slice]:
        """Return which entries of a vector are each tensor's."""
        found: dict[str, slice] = {}
        start = 0
        for key, size in zip(self.keys, self.sizes, strict=True):
            found[key] = slice(start, start + size)
            start += size
        return found


def normal_state(graph: Graph, seed: int) -> State:
    """Return a state whose learned tensors are standard normal, those too that begin as zeros or ones."""
    import torch

    from nnspec.compiler.emit.load import initial_state

    state = initial_state(graph, seed)
    random = torch.Generator().manual_seed(seed)
    for key in learned_keys(graph):
        state[key] = torch.randn(state[key].shape, generator=random, dtype=torch.float64)
    return state


def flat_outputs(found: Any) -> Tensor:
    """Return all outputs of a forward as one row a sample."""
    import torch

    listed = cast("tuple[Any, ...]", found if isinstance(found, tuple) else (found,))
    plain = [torch.view_as_real(item) if item.is_complex() else item for item in listed]
    return torch.cat([item.reshape(item.shape[0], -1) for item in plain], dim=1)


def _double(value: Tensor) -> Tensor:
    """Return weights in double precision; complex ones as pairs are not moved, so they stay as they are."""
    import torch

    return value.detach().to("cpu", torch.float64) if value.is_floating_point() else value.detach().cpu()
