"""How far training has come, for the networks that read it: set before each step, and 1 outside of steps.

In: a typed graph, how many steps the run takes, and the state of a network or of many stacked ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.ir import Graph
from nnspec.compiler.tensors import tracked_keys

if TYPE_CHECKING:
    from torch import Tensor


class Progress:
    """The tensors of a network that say how far its training has come."""

    def __init__(self, graph: Graph, steps: int) -> None:
        self.keys = tracked_keys(graph)
        self.steps = steps

    def show(self, state: Mapping[str, Tensor], done: int) -> None:
        """Say that so many steps are done; the run takes `steps`."""
        for key in self.keys:
            state[key].fill_(done / self.steps)

    def finish(self, state: Mapping[str, Tensor]) -> None:
        """Say that training is over, as for all that is not a step of it."""
        for key in self.keys:
            state[key].fill_(1.0)
