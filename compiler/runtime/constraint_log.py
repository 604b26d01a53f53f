"""How far weights are from obeying their constraints, through training, and what they look like before and after.

In: a learner, of one network or of several stacked. Out: plain numbers for the rows of the history, at no more
epochs than a curve needs, and for a report pictures in numbers of the first network's weights. Where nothing
is constrained, nothing is measured.

Of each weight there are
    latent        the distance from the stored weight to the one in use, over the norm of the stored one,
                  where that is an estimate of it
    residual.X    how far the weight, as the map of X leaves it, is from obeying X
    penalty.X     the value of the penalty X
    zeros         the share of entries in use that are exactly 0
    zero_outputs  how many outputs have no other weights, and
    zero_inputs   how many inputs, where any entry is 0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.constrained import MAPS, ConstrainedWeight, LaidRule, constrained_weights
from nnspec.compiler.constraints.constraint import Constraint
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.constrained_state import State, WeightState
from nnspec.compiler.runtime.results import finite
from nnspec.compiler.runtime.weight_pictures import picture

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.learner import Learner
    from nnspec.compiler.runtime.stack import Stack

# About how many epochs are measured, by the entries of all constrained weights: some need a decomposition.
_POINTS = ((300_000, 100), (3_000_000, 20))
_FEW_POINTS = 5
_MOST_ENTRIES = 30_000_000  # of a weight that is measured at all: it is made as a whole for that
_PICTURES = 24  # weights that are pictured

Measures = dict[str, dict[str, float]]  # by path and name


class _Look(NamedTuple):
    weight: Tensor  # in use
    measures: dict[str, float]


class ConstraintLog:
    """Watches the constrained weights of a training from its start."""

    def __init__(self, learner: Learner | Stack, epochs: int) -> None:
        self._learner = learner
        self._weights = _weights(learner.plan.graph)
        self._costs = any(own.given.weight.penalties for own in self._weights)
        self._epochs = epochs
        self._stride = max(1, epochs // _points(self._weights))
        first = learner.plan.experiment.seeds[0]
        shown = [trial.seed == first and bool(self._weights) for trial in learner.trials]
        states = learner.states() if any(shown) else [{} for _ in shown]
        self._before = [self._looks(state) if own else None for own, state in zip(shown, states, strict=True)]

    def rows(self, epoch: int) -> list[Measures]:
        """Return the measures of each network after an epoch; empty between the epochs that are measured."""
        if not self._weights or (epoch % self._stride and epoch != self._epochs):
            return [{} for _ in self._learner.trials]
        return [measures(self._weights, state) for state in self._learner.states()]

    def fields(self, found: Measures, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a row of history says beside its scores: the measures, and the loss with all penalties."""
        told: dict[str, Any] = {"constraints": found} if found else {}
        if self._costs and not found:
            return told  # their values are not known at this epoch
        costs = [
            value for own in found.values() for name, value in own.items() if name.startswith("penalty.")
        ]
        costs += row.get("penalties", {}).values()
        loss = row["train"]["loss"]
        return told if not costs or None in (loss, *costs) else told | {"objective": sum(costs, loss)}

    def pictures(self, index: int) -> list[dict[str, Any]]:
        """Return what a network's weights look like now, and looked like at the start, as plain data.

        Of networks of other seeds than the first, and of weights beyond the first few, there are none.
        """
        before = self._before[index]
        if before is None:
            return []
        now = self._looks(self._learner.states()[index])
        return [
            {
                **own.given.json(),
                "start": old.measures,
                "end": new.measures,
                **picture(old.weight, new.weight, own.given.kinds),
            }
            for own, old, new in zip(self._weights, before, now, strict=False)
        ]

    def _looks(self, state: State) -> list[_Look]:
        own = self._weights[:_PICTURES]
        found = measures(own, state)
        return [_Look(one.effective(state).detach().cpu().clone(), found[one.given.path]) for one in own]


def measures(weights: list[_Weight], state: State) -> Measures:
    """Return the measures of each weight, by its path."""
    import torch

    with torch.no_grad():
        return {own.given.path: finite(own.measures(state)) for own in weights}


def _weights(graph: Graph) -> list[_Weight]:
    return [
        _Weight(given)
        for given in constrained_weights(graph)
        if given.weight.tie is None and given.entries <= _MOST_ENTRIES
    ]


def _points(weights: list[_Weight]) -> int:
    entries = sum(own.given.entries for own in weights)
    return next((points for most, points in _POINTS if entries <= most), _FEW_POINTS)


class _Weight(WeightState):
    """A constrained weight that is measured."""

    def __init__(self, given: ConstrainedWeight) -> None:
        from nnspec.compiler.emit.load import penalty_function

        super().__init__(given)
        self._penalties = [(item.name, penalty_function(item)) for item in given.weight.penalties]

    def measures(self, state: State) -> dict[str, float]:
        """Return the measures of the weight."""
        found: dict[str, float] = {}
        chain = self.chain(state)
        used = chain[-1] if chain else state[self.key]
        if chain and self.given.is_latent:
            stored = state[self.key]
            found["latent"] = _ratio(used - stored, stored)
        for laid, weight in self._judged(state, chain):
            if type(laid.rule).project is not Constraint.project:
                found[f"residual.{laid.rule.name}"] = laid.rule.residual(
                    laid.site, weight, self.buffers(state)
                )
        kept = self._without_removed(state, used)
        for name, value in self._penalties:
            found[f"penalty.{name}"] = float(value(kept))
        return found | _zeros(used)

    def _judged(self, state: State, chain: list[Tensor]) -> list[tuple[LaidRule, Tensor]]:
        """Return the constraints that have a residual, each with the weight that is to obey it."""
        rules = self.given.rules
        maps = [laid for laid in rules if laid.rule.kind in MAPS]
        judged = list(zip(maps, chain, strict=True))
        return judged + [
            (laid, self._without_removed(state, state[self.key]))
            for laid in rules
            if laid.rule.kind == "projection"
        ]

    def _without_removed(self, state: State, weight: Tensor) -> Tensor:
        kept = self.kept(state)
        return weight if kept is None else weight.where(kept, 0)


def _zeros(weight: Tensor) -> dict[str, float]:
    gone = weight == 0
    found = {"zeros": float(gone.double().mean())}
    if weight.dim() > 1 and found["zeros"]:
        matrix = gone.flatten(2) if weight.dim() > 2 else gone.unsqueeze(2)
        found["zero_outputs"] = float(matrix.all(2).all(1).sum())
        found["zero_inputs"] = float(matrix.all(2).all(0).sum())
    return found


def _ratio(part: Tensor, whole: Tensor) -> float:
    away, norm = (tensor.double().square().sum().item() ** 0.5 for tensor in (part, whole))
    return away / norm if norm else away
