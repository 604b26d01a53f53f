"""Parameters that learn together: what the step of a rule is given.

In: a learner, a complete group of the phase that it is in. A rule sees `network`, `parameters`, `optimizer`,
`options`, `mean_loss`, `sample_losses`, `penalized`, `functional`, `spared`, `draws` and `draw_again`; what it
remembers from step to step is in `kept`, and what it has to tell goes to `note`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from nnspec.compiler.experiment import Choice, Group, Objective
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.runtime import objectives, optimizers, schedules
from nnspec.compiler.runtime.functional_form import FunctionalForm
from nnspec.compiler.runtime.streams import global_states, set_global_states
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nnspec.compiler.runtime.learner import Learner
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.stages import Phase


Chosen = TypeVar("Chosen", Choice, Choice | Objective)


class Pace:
    """When a group steps, and at which learning rates."""

    def __init__(self, group: Group, phase: Phase, optimizer: Any) -> None:
        self.group = group
        self.steps = phase.steps
        self.optimizer = optimizer
        self.gain = optimizers.gain(chosen(group.optimizer))
        self.rates: list[float] = [part["lr"] for part in optimizer.param_groups]
        build = None if group.schedule is None else schedules.build(group.schedule, phase.steps)
        self.factor: Callable[[int], float] | None = build

    def due(self, step: int) -> bool:
        """Return whether the group learns at a step of the phase, counted from 0."""
        first, last = self.group.during
        return step % self.group.every == 0 and first * self.steps <= step < last * self.steps

    @property
    def length(self) -> float:
        """How far this step goes for a gradient of 1: what a proximal map is to take."""
        return self.gain * self.optimizer.param_groups[0]["lr"]

    def set_rates(self, step: int) -> None:
        """Give the optimizer the learning rates of a step of the phase."""
        if self.factor is not None:
            for part, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                part["lr"] = rate * self.factor(step)


class LearningGroup:
    """A group of one network in training."""

    def __init__(self, learner: Learner, group: Group, phase: Phase, parameters: dict[str, Tensor]) -> None:
        self.learner = learner
        self.group = group
        self.network = learner.network
        self.names = tuple(parameters)
        self.parameters = list(parameters.values())
        self.apart = len(phase.groups) > 1  # the gradient is to be taken for these parameters alone
        choice = chosen(group.rule)
        self.rule = rule_of(choice)
        self.options = choice.options
        self.aim = chosen(group.loss)
        self.loss = objectives.mean(self.aim, learner.plan.sources)
        self.each_loss = objectives.per_sample(self.aim, learner.plan.sources)
        self.kept: dict[str, Tensor] = {}  # the rule's own memory, part of every checkpoint
        self.begun = self.rule.begin(self)
        changed = [*self.parameters, *getattr(self.begun, "more", ())]
        self.optimizer = optimizers.build(chosen(group.optimizer), changed, learner.plan.device.type)
        self.repeats = optimizers.repeats(chosen(group.optimizer))
        self.pace = Pace(group, phase, self.optimizer)

    def learn(self, batch: Batch, step: int) -> Tensor:
        """Make one step of the rule and what follows it; return the loss."""
        self.pace.set_rates(step)
        loss = self.rule.step(self, batch, self.learner.streams)
        self.learner.after_step(self.learner.state, self.pace.length, self.names)
        return loss

    def mean_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch and the smooth penalties, of which the rule may take the gradient."""
        return self.penalized(self._forward(self.loss, batch))

    def sample_losses(self, batch: Batch) -> Tensor:
        """Return the loss of each sample of a batch, (row,), without penalties."""
        return self._forward(self.each_loss, batch)

    def penalized(self, loss: Tensor) -> Tensor:
        """Return the loss of the forward just made, and the smooth penalties."""
        loss = self.learner.layer_penalties.added(loss)
        penalty = self.learner.penalties.smooth(self.learner.state, self.names)
        return loss if penalty is None else loss + penalty

    def _forward(self, loss: objectives.Judge, batch: Batch) -> Tensor:
        if self.learner.mixed:
            with self.learner.precision():
                return loss(self.network(*batch.inputs), batch, self.learner.state)
        return loss(self.network(*batch.inputs), batch, self.learner.state)

    @cached_property
    def functional(self) -> FunctionalForm:
        """The network and its loss as pure functions of the group's parameters."""
        return FunctionalForm(self)

    def note(self, name: str, value: Tensor) -> None:
        """Tell one number of this step: the epoch's mean is in the history, under `rule`."""
        self.learner.notes.add(f"{self.group.name}.{name}" if self.group.name else name, value)

    @property
    def span(self) -> Span | None:
        """Where the spec says what is learned for."""
        return chosen(self.group.loss).span

    def spared(self, directions: list[Tensor]) -> list[Tensor]:
        """Return directions for the parameters with nothing in them for entries that were pruned."""
        masks = [self.learner.masks.get(name) for name in self.names]
        pairs = zip(directions, masks, strict=True)
        return [own if mask is None else own.masked_fill(mask, 0) for own, mask in pairs]

    def draws(self) -> dict[str, Tensor]:
        """Return where the forward's random numbers stand, for `draw_again`."""
        return global_states(self.learner.plan.device)

    def draw_again(self, states: dict[str, Tensor]) -> None:
        """Let the next forward draw what it drew when `draws` was called."""
        set_global_states(self.learner.plan.device, states)


def chosen(choice: Chosen | None) -> Chosen:
    """Return a choice of a complete group."""
    assert choice is not None
    return choice
