"""Phases: the states of a system settle, free or nudged, for one batch.

In: a system as emitted, the weights in force, the batch, and the loss as a function of what the network gives. Out: for
each phase its samples, states with what they count in a slope by the nudge. Nothing is differentiated but the loss
by the states (the nudge is -beta dC/ds, C the loss of each sample), and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Connection, Port, walked
from nnspec.compiler.rules.settled.nudging import Point, is_complex, nudging
from nnspec.compiler.rules.settled.rates import sending
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.settled.pushes import Push

    States: TypeAlias = tuple[Tensor, ...]
    Loss: TypeAlias = Callable[
        [tuple[Tensor, ...]], Tensor
    ]  # of the network's outputs: the sum over the batch
    Slope: TypeAlias = Callable[[States], tuple[Tensor | None, ...]]
    Sums: TypeAlias = Callable[[States, States], tuple[Tensor, ...]]
    # Lets states settle in the place of `run` and looks on: the phase, the strength of its nudge, where it begins, `run`, sums.
    Watch: TypeAlias = Callable[["Settle", complex, States, Callable[..., Any], "Sums | None"], Any]


class Settle(Node):
    """One phase of a rule; what is None is as the network says.

    With `nudging` the phase settles once for each point of its way of nudging, else once under `nudge`.
    """

    name: str
    begins: str | None = None  # the phase with whose states it begins; None: where the network begins
    steps: int | None = None
    dt: float | None = None
    damping: float | None = None
    tolerance: float | None = None
    nudge: float = 0.0
    nudging: Choice | None = None
    push: Push | None = None

    @property
    def complexly(self) -> bool:
        """Whether states become complex numbers."""
        return self.nudging is not None and is_complex(self.nudging)

    def points(self, sign: float = 1.0) -> tuple[Point, ...]:
        """Return the strengths at which the phase settles; `sign` is that of a nudge whose sign is drawn."""
        if self.nudging is None:
            return (Point(self.nudge, 1.0),)
        return nudging(self.nudging).points(self.nudge, sign, self.nudging.options)

    def stays(self, point: Point) -> bool:
        """Return whether the states of a point are those with which the phase begins."""
        return point.strength == 0 and self.nudging is not None


class Sample(NamedTuple):
    """States that settled, and what they count in the slope by the nudge."""

    coefficient: complex
    states: States


class Phase(NamedTuple):
    """What a phase came to. `residual` is the largest over its samples, `sums` what was summed over its steps."""

    samples: tuple[Sample, ...]
    residual: Tensor
    sums: tuple[Tensor, ...]

    @property
    def states(self) -> States:
        """The states of a phase that settles once."""
        return self.samples[0].states


class Settling:
    """The phases of one batch."""

    def __init__(
        self,
        system: Any,
        weights: Mapping[str, Tensor],
        inputs: tuple[Tensor, ...],
        loss: Loss,
        slope: Slope | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.system = system
        self.weights = weights
        self.inputs = inputs
        self.loss = loss
        self.slope = slope  # dC/ds in closed form, where it is known
        self.watch = watch
        self.given = system.begin(weights, *inputs)
        self._continued: Any = None
        self._outside: dict[str, Tensor] = {}
        self.phases: dict[str, Phase] = {}

    def run(self, phase: Settle, sign: float = 1.0, sums: Sums | None = None) -> Phase:
        """Let the states settle; `sign` is that of a nudge whose sign is drawn."""
        begin = self.system.start(self.given) if phase.begins is None else self.phases[phase.begins].states
        found = self._points(phase, begin, phase.points(sign), sums)
        self.phases[phase.name] = found
        return found

    def _points(self, phase: Settle, begin: States, points: tuple[Point, ...], sums: Sums | None) -> Phase:
        import torch

        samples: list[Sample] = []
        residuals: list[Tensor] = []
        summed: tuple[Tensor, ...] = ()
        for point in points:
            if phase.stays(point):
                samples.append(Sample(point.coefficient, begin))
                continue
            settled = self._settle(phase, begin, point.strength, sums)
            samples.append(Sample(point.coefficient, settled.states))
            residuals.append(settled.residual)
            summed = settled.sums
        return Phase(tuple(samples), torch.stack(residuals).max(), summed)

    def _settle(self, phase: Settle, begin: States, strength: complex, sums: Sums | None) -> Any:
        given = self.continued() if phase.complexly else self.given
        if phase.complexly:
            begin = tuple(state.to(complex_of(state.dtype)) for state in begin)
        pushes = self._pushes(phase, given, begin, strength)
        run = partial(self.system.settle, given, push=pushes, dt=phase.dt, damping=phase.damping)
        if self.watch is not None:
            return self.watch(phase, strength, begin, run, sums)
        return run(begin, steps=phase.steps, tolerance=phase.tolerance, sums=sums)

    def step(self, phase: Settle, begin: States, states: States, strength: complex) -> States:
        """Return states that are on their way in a phase, from where it begins, one step later."""
        given = self.continued() if phase.complexly else self.given
        pushes = self._pushes(phase, given, begin, strength)
        push = None if pushes is None else pushes(states)
        return self.system.moved(given, states, push, phase.dt, phase.damping)

    def continued(self) -> Any:
        """Return what no step changes, in complex numbers."""
        if self._continued is None:
            weights = {name: weight.to(complex_of(weight.dtype)) for name, weight in self.weights.items()}
            inputs = tuple(x.to(complex_of(x.dtype)) if x.is_floating_point() else x for x in self.inputs)
            self._continued = self.system.begin(weights, *inputs)
        return self._continued

    def outside(self, value: str) -> Tensor:
        """Return a value that is made before the loop."""
        if value not in self._outside:
            (self._outside[value],) = _before(self.system, value)(self.weights, *self.inputs)
        return self._outside[value]

    def rate(self, state: Tensor) -> Tensor:
        """Return what a unit in this state sends along its connections: the state itself, or a function of it."""
        run = sending(self.system)
        return state if run is None else run(self.weights, state)

    def is_outside(self, value: str) -> bool:
        """Return whether a value is made before the loop."""
        return value not in _made_inside(self.system)

    def can_send(self, connection: Connection) -> bool:
        """Return whether what enters a connection is a function of the states alone, or comes from outside."""
        return self.is_outside(connection.taken) or _sender(self.system, connection.taken) is not None

    def sent(self, taken: str, states: States) -> Tensor:
        """Return what enters a connection at some states."""
        run = _sender(self.system, taken)
        assert run is not None
        return run(self.weights, *states)

    def _pushes(
        self, phase: Settle, given: Any, begin: States, strength: complex
    ) -> Callable[[States], Any] | None:
        """Return what is added to the drives: the nudge, and what the phase's `push` says."""
        parts: list[Callable[[States], Any]] = []
        if strength:
            parts.append(lambda states: scaled(self.slopes(given, states), -strength))
        if phase.push is not None:
            known = {name: found.states for name, found in self.phases.items() if len(found.samples) == 1}
            parts.append(phase.push.of(self.system, given, begin, known))
        if len(parts) < 2:
            return parts[0] if parts else None
        return lambda states: added(*(part(states) for part in parts))

    def slopes(self, given: Any, states: States) -> tuple[Tensor | None, ...]:
        """Return dC/ds, a tensor a state, None for what the loss does not read.

        Of complex states it is the derivative of the loss continued to complex numbers.
        """
        if self.slope is not None:
            return self.slope(states)
        import torch

        with torch.enable_grad():
            leaves = tuple(state.detach().requires_grad_() for state in states)
            loss = self.loss(self.system.readout(given, leaves))
            found: Any = torch.autograd.grad(loss, leaves, torch.ones_like(loss), allow_unused=True)
        return tuple(None if g is None else g.conj() if g.is_complex() else g for g in found)


@lru_cache(maxsize=64)
def _before(system: Any, value: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return a value that a system makes before its loop, as a function of weights and inputs."""
    run = system.made("outside", system.before, system.root.inputs, (value,))

    def computed(weights: Any, *inputs: Any) -> tuple[Tensor, ...]:
        found = run(weights, *inputs)
        return found if isinstance(found, tuple) else (found,)

    return computed


@lru_cache(maxsize=64)
def _made_inside(system: Any) -> frozenset[str]:
    inside = (value for statement in walked(system.loop.body) for value in statement.outputs)
    return frozenset((*inside, *(state.before for state in system.loop.carried)))


@lru_cache(maxsize=64)
def _sender(system: Any, taken: str) -> Callable[..., Tensor] | None:
    """Return what enters a connection as a function of the states; None if it reads more than them."""
    loop = system.loop
    makers = {value: statement for statement in walked(loop.body) for value in statement.outputs}
    befores = {state.before for state in loop.carried}
    needed, wanted = set[str](), [taken]
    while wanted:
        value = wanted.pop()
        if value in befores or value in needed:
            continue
        if value not in makers:
            return None
        needed.add(value)
        wanted.extend(makers[value].inputs)
    body = tuple(s for s in walked(loop.body) if needed & set(s.outputs))
    ports = tuple(Port(name=state.before, value=state.before) for state in loop.carried)
    run = system.made("sent", body, ports, (taken,))

    def computed(weights: Any, *states: Any) -> Tensor:
        found = run(weights, *states)
        return found[0] if isinstance(found, tuple) else found

    return computed


def scaled(values: tuple[Tensor | None, ...], by: complex) -> tuple[Tensor | None, ...]:
    """Return each times a number."""
    return tuple(None if value is None else value * by for value in values)


def added(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Return sums, of which None is nothing."""
    return tuple(b if a is None else a if b is None else a + b for a, b in zip(left, right, strict=True))


def complex_of(dtype: Any) -> Any:
    """Return the complex numbers made of two of these."""
    import torch

    return torch.complex128 if dtype == torch.float64 else torch.complex64
