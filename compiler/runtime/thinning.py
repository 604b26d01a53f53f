"""Pruning while a network learns: words after `fit(prune = ..)`, done after every step.

What is removed is zero, and may grow again at the next step (`regrow`), or is gone for good. In: a learned tensor, and which of
its entries there are. Out: which entries go. Imports no torch when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_THRESHOLD = Argument(name="threshold", kind="real", at_least=0, doc="a weight of more magnitude is safe")
_EVERY = Argument(name="every", kind="int", default=1, at_least=1, doc="steps from one time to the next")
_REGROW = Argument(name="regrow", kind="bool", default=True, doc="whether what was removed may grow again")


class Thinning(Component):
    """A way to prune while learning."""

    family = "pruning"

    def removed(
        self, weight: Tensor, there: Tensor | None, options: dict[str, Any], random: torch.Generator | None
    ) -> Tensor:
        """Return which entries go, true where they do, of those that are there (None: all)."""
        raise TypeError(f"{self.name} removes nothing")


class Boltzmann(Thinning):
    name = "boltzmann"
    doc = """A weight of magnitude at most `threshold` goes with the probability exp(-|w| / temperature) over the sum of the same
for all weights into its unit: small ones rather than larger ones, a few at a time (Farinha and others, 2020)."""
    arguments = (
        _THRESHOLD,
        Argument(name="temperature", kind="real", default=5.0, above=0, doc="the higher, the more alike"),
        _EVERY,
        _REGROW,
    )
    example = "stages = [fit(epochs = 100, prune = boltzmann(threshold = 0.01, temperature = 5))]"

    def removed(
        self, weight: Tensor, there: Tensor | None, options: dict[str, Any], random: torch.Generator | None
    ) -> Tensor:
        import torch

        energy = weight.abs().flatten(1) / -options["temperature"]
        if there is not None:
            energy = energy.masked_fill(~there.flatten(1), -torch.inf)
        chance = energy.softmax(1).nan_to_num(0.0).view_as(weight)
        drawn = torch.rand(weight.shape, generator=random, dtype=torch.float64).to(weight)
        return (weight.abs() <= options["threshold"]) & (drawn < chance)


class Magnitude(Thinning):
    name = "magnitude"
    doc = "Every weight of magnitude at most `threshold` goes."
    arguments = (_THRESHOLD, _EVERY, _REGROW)
    example = "stages = [fit(epochs = 100, prune = magnitude(threshold = 0.01))]"

    def removed(
        self, weight: Tensor, there: Tensor | None, options: dict[str, Any], random: torch.Generator | None
    ) -> Tensor:
        return weight.abs() <= options["threshold"]


_WAYS = registered((Boltzmann(), Magnitude()))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the ways to prune."""
    return tuple(way.entry() for way in _WAYS.values())


class Thinner:
    """Prunes the learned weights of one network: tensors of two axes or more, used as they are stored or under a mask."""

    def __init__(self, graph: Graph) -> None:
        from nnspec.compiler.runtime.constrained_state import WeightState

        kinds = {given.path: given for given in constrained_weights(graph)}
        self.states = {own.key: own for own in (WeightState(given) for given in kinds.values())}
        self.skipped = {
            own.key for own in self.states.values() if any(k in _CHANGING for k in own.given.kinds)
        }

    def thin(
        self,
        choice: Choice,
        learned: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        random: torch.Generator | None,
    ) -> dict[str, Tensor]:
        """Set what goes to zero; return the masks of it, by state-dict key."""
        import torch

        found: dict[str, Tensor] = {}
        with torch.no_grad():
            for key, weight in learned.items():
                if weight.dim() < 2 or key in self.skipped:
                    continue
                there = self.there(key, state)
                found[key] = _WAYS[choice.name].removed(weight, there, choice.options, random)
                weight.masked_fill_(found[key], 0)
        return found

    def there(self, key: str, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return which entries of a weight a topology leaves it; None for all."""
        own = self.states.get(key)
        return None if own is None else own.kept(state)

    def absent(self, learned: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return which entries a topology leaves out, true where it does, of the weights that stand under one."""
        found = {key: self.there(key, state) for key in learned}
        return {key: ~there for key, there in found.items() if there is not None}

    def sparsity(self, learned: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Tensor:
        """Return the fraction of the weights there are that are zero."""
        import torch

        zeros, counts = [], []
        for key, weight in learned.items():
            if weight.dim() < 2 or key in self.skipped:
                continue
            there = self.there(key, state)
            kept = torch.ones_like(weight, dtype=torch.bool) if there is None else there
            zeros.append(((weight == 0) & kept).sum())
            counts.append(kept.sum())
        return torch.stack(zeros).sum() / torch.stack(counts).sum()


_CHANGING = (
    "structure",
    "manifold",
    "values",
    "tie",
    "frozen",
)  # kinds under which a stored number is no weight
