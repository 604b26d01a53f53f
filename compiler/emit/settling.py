"""How a system settles for those who look inside it: step by step, in place where that can be, or by a solver that leaps.

In: a system, what no step changes, states to begin with, pushes. Out: `Settled`. Euler's steps and damped ones change buffers
that are made once; those of Runge and Kutta, Anderson's and Broyden's are taken by the functions that emitted networks call.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.emit.static import Clip
    from nnspec.compiler.emit.system import Given, Push, States, Sums, System

IN_PLACE = ("fixed_point", "euler")  # solvers whose step is made in place


class Settled(NamedTuple):
    """States after a phase; `residual` has no axes; `sums` are those of each step."""

    states: States
    residual: Tensor
    steps: int
    sums: States


class Way(NamedTuple):
    """How long, by how much and within what states move; without a tolerance all steps are taken."""

    steps: int
    size: float
    clip: Clip | None
    tolerance: float
    every: int


def followed(
    own: System, given: Given, states: States, way: Way, push: Push | None, sums: Sums | None
) -> Settled:
    """Settle one step after another."""
    import torch

    with torch.no_grad():
        current = tuple(s.clone() if way.clip is None else s.clamp(*way.clip) for s in states)
        run = _Run(own, given, current, way, push, sums)
        count = 0
        for count in range(1, way.steps + 1):
            looks = count == way.steps or bool(way.tolerance and count % way.every == 0)
            run.advance(looks)
            if looks and way.tolerance and float(run.residual) <= way.tolerance:
                break
        return Settled(run.ended(), run.residual, count, run.totals)


def leapt(own: System, given: Given, states: States, way: Way, push: Push | None) -> Settled:
    """Settle by a solver that looks for where the states would rest: of a flow, where s + ds/dt is s."""
    import torch

    from nnspec.compiler.operations.code import settle

    options = own.loop.solver.options | {"steps": way.steps, "tolerance": way.tolerance, "every": way.every}
    if "damping" in options:
        options["damping"] = way.size

    def step(*states: Tensor) -> States:
        found = own.step(given, states, push and push(states))
        return settle.shifted(states, found, 1.0) if own.loop.form == "flow" else found

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # who runs a phase is told its residual
        solver: Any = getattr(settle, own.loop.solver.name)
        found, residual = solver(step, states, clip=way.clip, **options)
    return Settled(found, residual, way.steps, ())


class _Run:
    """A phase under way."""

    def __init__(
        self,
        own: System,
        given: Given,
        states: States,
        way: Way,
        push: Push | None,
        sums: Sums | None,
    ) -> None:
        self.own, self.given, self.states = own, given, states
        self.size, self.clip, self.push, self.sums = way.size, way.clip, push, sums
        self.in_place = own.loop.solver.name in IN_PLACE
        import torch

        self.totals: States = ()
        self.residual: Any = torch.full((), torch.inf)  # no step was taken
        self.steppers: dict[frozenset[str], Any] = {}
        self.nothing = (None,) * len(states)
        replays = push is None and self.in_place
        self.recorded = own.captured(given, states, self.size, self.clip) if replays else None
        if self.recorded is not None:
            self.states = self.recorded.states

    def ended(self) -> States:
        """Return the states as they are, in memory that nothing else uses."""
        return self.states if self.recorded is None else tuple(state.clone() for state in self.states)

    def advance(self, looks: bool) -> None:
        """Take one step; keep the residual if somebody looks at it."""
        import torch

        before = tuple(s.clone() for s in self.states) if looks or self.sums is not None else ()
        if self.recorded is not None:
            self.recorded.replay()
        elif self.in_place:
            self.move()
        else:
            self.follow()
        if looks:
            moved = [(a - b).abs().max() for a, b in zip(self.states, before, strict=True)]
            self.residual = torch.stack(moved).max() / self.size
        if self.sums is not None:
            found = self.sums(before, self.states)
            self.totals = (
                tuple(a + b for a, b in zip(self.totals, found, strict=True)) if self.totals else found
            )

    def move(self) -> None:
        """Take a step in place, or one that allocates where there is no such."""
        import torch

        pushes = self.nothing if self.push is None else tuple(self.push(self.states))
        kinds = frozenset(n for n, p in zip(self.own.states, pushes, strict=True) if p is not None)
        if kinds not in self.steppers:
            self.steppers[kinds] = self.own.stepper(self.given, self.states, kinds, self.size, self.clip)
        if (stepper := self.steppers[kinds]) is not None:
            stepper[0](self.size, pushes)
            return
        found = self.own.step(self.given, self.states, pushes)
        for state, value in zip(self.states, found, strict=True):
            if self.own.loop.form == "flow":
                state.add_(value, alpha=self.size)
            else:
                torch.lerp(state, value, self.size, out=state)
            if self.clip is not None:
                state.clamp_(*self.clip)

    def follow(self) -> None:
        """Take one step of the solver, whose slopes within it are pushed as they are there."""
        from nnspec.compiler.operations.code import settle

        def rate(*states: Tensor) -> States:
            return self.own.step(self.given, states, self.push and self.push(states))

        found, _ = getattr(settle, self.own.loop.solver.name)(rate, self.states, 1, self.size, clip=self.clip)
        for state, value in zip(self.states, found, strict=True):
            state.copy_(value)
