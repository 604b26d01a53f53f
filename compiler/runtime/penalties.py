"""What penalties of weights cost: those that are differentiated with the loss, and the values of all.

In: a typed graph and its state, of one network or of many stacked along a first axis. A penalty with a proximal
map is no part of what is differentiated: the map follows the step (`after_step`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.constrained_state import State, WeightState

if TYPE_CHECKING:
    from torch import Tensor


class Penalties:
    """The penalties of a network."""

    def __init__(self, graph: Graph, stacked: bool = False) -> None:
        under = [given for given in constrained_weights(graph) if given.weight.penalties]
        self._weights = [_Weight(given) for given in under]
        self._stacked = stacked

    def smooth(self, state: State, keys: Collection[str] | None = None) -> Tensor | None:
        """Return the sum of those that the loss is differentiated with, None if there are none.

        `keys` are the tensors that learn from this loss. One number, or one a stacked network.
        """
        import torch

        found: Tensor | None = None
        for weight in self._weights:
            if weight.smooth and (keys is None or any(key in keys for key in weight.keys.values())):
                function = torch.vmap(weight.smooth_value) if self._stacked else weight.smooth_value
                own = function(weight.own(state))
                found = own if found is None else found + own
        return found


class _Weight(WeightState):
    """A weight with penalties."""

    def __init__(self, given: ConstrainedWeight) -> None:
        from nnspec.compiler.emit.load import penalty_function

        super().__init__(given)
        penalties = given.weight.penalties
        self.smooth = [penalty_function(item) for item in penalties if item.proximal is None]

    def smooth_value(self, state: State) -> Any:
        """Return the sum of the smooth penalties of the weight in use."""
        weight = self.effective(state)
        return sum(value(weight) for value in self.smooth)
