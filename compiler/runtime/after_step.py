"""What happens to stored weights when the optimizer has stepped: proximal maps, then projections.

In: a typed graph and its state, of one network or of many stacked along a first axis. A proximal map is given the
length of the step: lr, with momentum lr / (1 - momentum), where a step rests exactly at the minima of the
objective; for optimizers that adapt to each entry there is no such one number, and it is lr. Where a topology
stands on the same weight, what it removes takes no part and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.constrained_state import State, WeightState

if TYPE_CHECKING:
    from torch import Tensor


class AfterStep:
    """The changes that follow each step of a network."""

    def __init__(self, graph: Graph, stacked: bool = False) -> None:
        self._weights = [_Weight(given) for given in constrained_weights(graph) if _changes(given)]
        self._stacked = stacked

    def project(self, state: State) -> None:
        """Bring weights into their sets, before training."""
        for weight in self._weights:
            self._change(weight, state, None)

    def __call__(self, state: State, length: float, keys: Collection[str] | None = None) -> None:
        """Follow a step of this length, which moved the tensors of `keys` (None: all)."""
        for weight in self._weights:
            if keys is None or weight.key in keys:
                self._change(weight, state, length)

    def _change(self, weight: _Weight, state: State, length: float | None) -> None:
        import torch

        def moved(own: dict[str, Tensor]) -> Tensor:
            return weight.moved(own, length)

        with torch.no_grad():
            function = torch.vmap(moved) if self._stacked else moved
            state[weight.key].copy_(function(weight.own(state)))


class _Weight(WeightState):
    """A stored weight that changes after a step."""

    def __init__(self, given: ConstrainedWeight) -> None:
        from nnspec.compiler.emit.load import code_function, projection_function

        super().__init__(given)
        penalties = given.weight.penalties
        self._proximal = [code_function(item.proximal) for item in penalties if item.proximal is not None]
        self._project: list[tuple[bool, Callable[..., Any]]] = [
            (item.takes_kept, projection_function(item)) for item in given.weight.projections
        ]

    def moved(self, state: State, length: float | None) -> Tensor:
        """Return the stored weight after proximal maps for a step of some length, unless it is None, and projections."""
        stored, kept = state[self.key], self.kept(state)
        found = stored if kept is None else stored.where(kept, 0)
        if length is not None:
            for shrink in self._proximal:
                found = shrink(found, length)
        for takes_kept, project in self._project:
            found = project(found, kept=kept) if takes_kept else project(found)
        return found if kept is None else found.where(kept, stored)


def _changes(given: ConstrainedWeight) -> bool:
    weight = given.weight
    return bool(weight.projections) or any(item.proximal is not None for item in weight.penalties)
