"""The motion of states under a loop: one plain step after another, as its solver begins to take them.

States are rows of numbers, [rows, units], one row a sample. A map goes to f(s), damped; a flow follows ds/dt = f(s) by
Euler's steps. Both are clipped. Solvers that are cleverer than that end at the same equilibria.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

GONE = 1e8  # a state beyond this has blown up


class Motion(NamedTuple):
    """How the states of some samples move. `function` gives f(s), `energy` a number a row where there is one."""

    form: str  # "map" or "flow"
    function: Callable[[Tensor], Tensor]
    start: Tensor
    stride: float = 1.0  # the damping of a map, the time step of a flow
    clip: tuple[float, float] | None = None
    energy: Callable[[Tensor], Tensor] | None = None

    def pull(self, states: Tensor) -> Tensor:
        """Return where the states are pulled: f(s) - s of a map, f(s) of a flow, nothing out of the box of `clip`."""
        moved = self.function(states)
        pull = moved - states if self.form == "map" else moved
        return pull if self.clip is None else self.clipped(states + pull) - states

    def step(self, states: Tensor) -> Tensor:
        """Return the states a step later."""
        moved = self.function(states)
        pull = moved - states if self.form == "map" else moved
        return self.clipped(states + self.stride * pull)

    def clipped(self, states: Tensor) -> Tensor:
        return states if self.clip is None else states.clamp(*self.clip)

    def residual(self, states: Tensor) -> Tensor:
        """Return the largest pull of each row."""
        return self.pull(states).abs().amax(1)

    def free(self, states: Tensor) -> Tensor:
        """Return which units may move: not those at a bound of `clip` that are pulled out of it."""
        import torch

        if self.clip is None:
            return torch.ones_like(states, dtype=torch.bool)
        low, high = self.clip
        moved = self.function(states)
        pull = moved - states if self.form == "map" else moved
        return ~(((states <= low) & (pull < 0)) | ((states >= high) & (pull > 0)))


class Path(NamedTuple):
    """Where a motion went: its states, [steps + 1, rows, units], and the residual of each row at each step."""

    states: Tensor
    residuals: Tensor


def followed(motion: Motion, start: Tensor, steps: int) -> Path:
    """Return the path of a motion; rows that blow up stay where they last were finite."""
    import torch

    states, residuals = [start], [motion.residual(start)]
    for _ in range(steps):
        now = motion.step(states[-1])
        good = now.isfinite().all(1, keepdim=True) & (now.abs().amax(1, keepdim=True) < GONE)
        states.append(torch.where(good, now, states[-1]))
        residuals.append(torch.where(good[:, 0], motion.residual(states[-1]), float("inf")))
    return Path(torch.stack(states), torch.stack(residuals))


def settled(motion: Motion, start: Tensor, steps: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return where a motion ends, and its residuals there: after `steps`, or as soon as all are below the tolerance."""
    import torch

    states, residual = start, motion.residual(start)
    for step in range(steps):
        now = motion.step(states)
        good = now.isfinite().all(1, keepdim=True) & (now.abs().amax(1, keepdim=True) < GONE)
        states = torch.where(good, now, states)
        if not bool(good.all()) or step % 10 == 9 or step == steps - 1:
            residual = torch.where(good[:, 0], motion.residual(states), float("inf"))
            if bool((residual < tolerance).all()):
                break
    return states, residual
