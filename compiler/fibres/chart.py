"""A network as a function of one vector: its learned weights in double precision, the rest held still.

In: a typed graph and a state; perhaps which entries of the weights move, and entries of buffers that may make good
what they do. Weights with a gradient of their own (straight-through) take few values; they
stand still with the buffers. Loops are differentiated through the steps that they take, whatever a training does, so
that a derivative is that of the function. Random draws of the network are the same at every call. Outputs are one row a
sample, complex ones as pairs of reals. torch is imported by the functions that use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.checks.loops import unrolled
from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.hard import hard, hard_state
from nnspec.compiler.symmetry.draws import learned_keys, outputs_of

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


class Chart:
    """The weights of one network as vectors of p numbers.

    `keys`, `shapes` and `sizes` say which entries are which tensor's; `rest` is what stands still. With `entries`,
    flat indices by key, only these move. `statistics` are keys of buffers, whose numbers may follow those of the
    weights in a longer vector.
    """

    def __init__(
        self,
        graph: Graph,
        state: Mapping[str, Tensor],
        seed: int = 0,
        entries: Mapping[str, Tensor] | None = None,
        statistics: tuple[str, ...] = (),
    ) -> None:
        import torch

        from nnspec.compiler.emit.load import function

        learned = learned_keys(graph)
        self.entries = (
            None if entries is None else {k: i for k, i in entries.items() if k in learned and i.numel()}
        )
        self.keys = learned if self.entries is None else list(self.entries)
        self.graph = unrolled(hard(graph))
        full = {name: _double(value) for name, value in hard_state(graph, dict(state)).items()}
        self.shapes: list[torch.Size] = [full[key].shape for key in self.keys]
        self.sizes = [prod(shape) for shape in self.shapes]
        if self.entries is not None:
            self.sizes = [index.numel() for index in self.entries.values()]
        self.count = sum(self.sizes)
        self.held = sum(
            prod(shape) for shape in self.shapes
        )  # numbers of all tensors that move, wholly or in part
        self.point: Tensor = self.vector(full)
        self.rest: State = {
            name: value for name, value in full.items() if self.entries is not None or name not in self.keys
        }
        self.statistics = tuple(key for key in statistics if key in full)
        self.kept = torch.cat([self.point[:0], *(full[key].reshape(-1) for key in self.statistics)])
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
        if self.entries is not None:
            parts = [part[index] for part, index in zip(parts, self.entries.values(), strict=True)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def state(self, vector: Tensor) -> State:
        """Return the whole state that a vector means, in the vector's number type."""
        parts = vector[: self.count].split(self.sizes)
        rest = {n: v.to(vector.dtype) if v.is_floating_point() else v for n, v in self.rest.items()}
        if len(vector) > self.count:
            sizes = [self.rest[key].numel() for key in self.statistics]
            own = zip(self.statistics, vector[self.count :].split(sizes), strict=True)
            rest |= {key: part.view(self.rest[key].shape) for key, part in own}
        moved: State = {}
        for key, part, shape in zip(self.keys, parts, self.shapes, strict=True):
            if self.entries is not None:
                part = rest[key].reshape(-1).index_copy(0, self.entries[key], part)
            moved[key] = part.view(shape)
        return {**rest, **moved}

    def outputs(self, vector: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the outputs [samples, m] at weights [p]."""
        import torch

        from nnspec.compiler.emit.load import plain_attention, plain_norms

        with torch.random.fork_rng(devices=[]), plain_attention(), plain_norms():
            torch.default_generator.manual_seed(self.seed)
            return outputs_of(self._forward(self.state(vector), *inputs))

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


def _double(value: Tensor) -> Tensor:
    """Return weights in double precision; complex ones as pairs are not moved, so they stay as they are."""
    import torch

    return value.detach().to("cpu", torch.float64) if value.is_floating_point() else value.detach().cpu()
