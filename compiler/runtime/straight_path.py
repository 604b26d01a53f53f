"""The loss along the straight path between the weights of two networks.

Running statistics and all other real buffers are interpolated with the weights; whole numbers are those of the
first network. The barrier of a part is the most that the loss rises above the line between the ends (Frankle et
al. 2020, "Linear mode connectivity and the lottery ticket hypothesis").
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.runtime.evaluation import Scorer
from nnspec.compiler.runtime.plan import Plan
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


class StraightPath(Node):
    """Losses by part at evenly spaced places from the first network (0) to the second (1)."""

    places: tuple[float, ...]
    losses: dict[str, tuple[float, ...]]

    def barrier(self, part: str) -> float | None:
        """Return the most that the loss of a part rises above the line between its ends, at least 0.

        None if it is infinite or not a number somewhere.
        """
        own = self.losses[part]
        if not all(map(isfinite, own)):
            return None
        lines = (own[0] * (1 - t) + own[-1] * t for t in self.places)
        return max(loss - line for loss, line in zip(own, lines, strict=True))

    def json(self) -> dict[str, Any]:
        barriers = {part: self.barrier(part) for part in self.losses}
        return {
            "places": list(self.places),
            "losses": {k: [n if isfinite(n) else None for n in own] for k, own in self.losses.items()},
            "barrier": barriers,
        }


def straight_path(plan: Plan, ours: State, theirs: State, points: int) -> StraightPath:
    """Return the loss on each part of an experiment's data at `points` places."""
    import torch

    network = plan.make().to(device=plan.device, dtype=plan.dtype)
    network.eval()
    scorer = Scorer(plan)
    places = tuple(index / (points - 1) for index in range(points))
    losses: dict[str, list[float]] = {name: [] for name in plan.parts}
    for t in places:
        network.load_state_dict(between(ours, theirs, t))
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        with torch.no_grad(), plan.precision():
            for name, part in plan.parts.items():
                losses[name].append(scorer.scores(network, part, state)["loss"])
    return StraightPath(places=places, losses={name: tuple(own) for name, own in losses.items()})


def between(ours: State, theirs: State, t: float) -> State:
    """Return the state at a place of the path."""
    return {
        key: own + t * (theirs[key].to(own) - own) if own.dtype.is_floating_point else own
        for key, own in ours.items()
    }
