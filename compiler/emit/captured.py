"""A step in place as a graph of kernels: recorded once, replayed at every step, so that a GPU never waits for Python.

In: a system, what no step changes, states, and how to record. Out: states in memory of their own, and a function that moves
them by a step. What a phase begins with is copied into that memory; weights and inputs may be others each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nnspec.compiler.emit.static import Clip

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.emit.system import Given, States, System

    Advance = Callable[[], None]
    Record = Callable[[Advance], Advance]


class Captured:
    """One step of a system for states of one shape."""

    def __init__(
        self,
        own: System,
        given: Given,
        states: States,
        size: float,
        clip: Clip | None,
        record: Record | None = None,
    ) -> None:
        self.given = given._replace(
            weights={name: weight.clone() for name, weight in given.weights.items()},
            values=tuple(value.clone() for value in given.values),
        )
        self.states = tuple(state.clone() for state in states)
        step = own.stepper(self.given, self.states, frozenset(), size, clip)
        assert step is not None, "only steps in place are captured"
        advance, self.renew = step
        nothing = (None,) * len(states)
        self.replay = (record or cuda_graph)(lambda: advance(size, nothing))

    def begin(self, given: Given, states: States) -> None:
        """Copy what a phase begins with to where the recorded step reads it."""
        for name, weight in self.given.weights.items():
            weight.copy_(given.weights[name])
        pairs = ((*self.given.values, *self.states), (*given.values, *states))
        for mine, theirs in zip(*pairs, strict=True):
            mine.copy_(theirs)
        self.renew()


def cuda_graph(advance: Advance) -> Advance:
    """Record a step as a CUDA graph, after a few on another stream, as torch asks for."""
    import torch

    apart = torch.cuda.Stream()
    apart.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(apart):
        for _ in range(3):
            advance()
    torch.cuda.current_stream().wait_stream(apart)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        advance()
    return graph.replay


def signature(states: tuple[Tensor, ...], size: float, clip: Clip | None) -> tuple[object, ...]:
    """Return what one recording is good for."""
    kinds = ((tuple(state.shape), state.dtype, state.device) for state in states)
    return ("captured", size, clip, *kinds)
