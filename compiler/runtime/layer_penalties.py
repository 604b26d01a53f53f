"""Penalties that layers state of themselves: terms of the loss, and what they came to.

In: a module whose layers keep `penalties` of the last forward in training. Out: their sum, for the loss that a rule
follows, and their means over an epoch, by path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Block, Graph

if TYPE_CHECKING:
    from torch import Tensor, nn


class LayerPenalties:
    """The penalties of one module; costs nothing where there are none."""

    def __init__(self, graph: Graph, network: nn.Module) -> None:
        places = penalty_places(graph.root)
        modules = dict(network.named_modules())
        self.holders = [(path, modules[key]) for path, key in places]
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def added(self, loss: Tensor) -> Tensor:
        """Return the loss and the penalties of the forward that it comes from; take note of them."""
        if not self.holders:
            return loss
        self.count += 1
        for path, module in self.holders:
            found: Any = module.penalties
            for name, value in found.items():
                place = f"{path}{name}"
                self.sums[place] = self.sums.get(place, 0) + value.detach()
                loss = loss + value
        return loss

    def means(self) -> dict[str, float]:
        """Return the mean of each since the last time that this was asked, by path."""
        found = {place: float(total) / self.count for place, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return found


def penalty_row(learner: object) -> dict[str, dict[str, float]]:
    """Return what a learner's row of history says of penalties: means over the epoch's forwards, by path."""
    own = getattr(learner, "layer_penalties", None)  # networks in a stack have none
    found = own.means() if isinstance(own, LayerPenalties) else {}
    return {"penalties": found} if found else {}


def penalty_places(block: Block, path: str = "", key: str = "") -> list[tuple[str, str]]:
    """Return path (with its dot) and module name of every block with penalties, in construction order."""
    from nnspec.compiler.naming import attribute

    found = [(path, key.removesuffix("."))] if block.penalties else []
    for child in block.children:
        for index, instance in enumerate(child.instances):
            if isinstance(instance, Block):
                own = f"{child.name}[{index}]" if child.repeated else child.name
                name = f"{attribute(child.name)}.{index}" if child.repeated else attribute(child.name)
                found += penalty_places(instance, f"{path}{own}.", f"{key}{name}.")
    return found
