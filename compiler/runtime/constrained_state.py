"""A constrained weight as tensors: the weight in use, and the entries that a topology keeps.

In: a record of a weight and a state dict that has its stored tensors. The functions of its maps are looked up
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.constrained import ConstrainedWeight
from nnspec.compiler.ir import state_key

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]


class WeightState:
    """Reads a constrained weight from state dicts."""

    def __init__(self, given: ConstrainedWeight) -> None:
        from nnspec.compiler.emit.load import map_function

        self.given = given
        self.key = state_key(given.owner, given.weight.name)
        self.keys = {tensor.name: state_key(given.owner, tensor.name) for tensor in given.weight.stored}
        self._maps = [(laid.rule.kind, item, map_function(item)) for laid, item in given.maps]

    def own(self, state: State) -> dict[str, Tensor]:
        """Return those tensors of a state that the weight stores, under their keys."""
        return {key: state[key] for key in self.keys.values()}

    def chain(self, state: State) -> list[Tensor]:
        """Return the weight after each of its maps; its last entry, or the stored weight, is in use."""
        found: list[Tensor] = []
        current = state.get(self.key)
        for _, item, function in self._maps:
            given = [] if item.replaces or current is None else [current]
            current = function(*given, *(state[self.keys[tensor.name]] for tensor in item.stored))
            found.append(current)
        return found

    def effective(self, state: State) -> Tensor:
        """Return the weight as its operation sees it."""
        chain = self.chain(state)
        return chain[-1] if chain else state[self.key]

    def kept(self, state: State) -> Tensor | None:
        """Return which entries of the stored weight a topology keeps, None where there is none."""
        topologies = [entry for entry in self._maps if entry[0] == "topology"]
        if not topologies or self.key not in self.keys.values():
            return None
        found = state[self.key].new_ones(state[self.key].shape)
        for _, item, function in topologies:
            found = function(found, *(state[self.keys[tensor.name]] for tensor in item.stored))
        return found != 0

    def buffers(self, state: State) -> dict[str, Tensor]:
        """Return what the constraints store beside the weight, by the end of their names: `mask`."""
        prefix = f"{self.given.weight.name}_"
        return {name.removeprefix(prefix): state[key] for name, key in self.keys.items() if key != self.key}
