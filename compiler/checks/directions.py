"""What a learning rule gives the optimizer beside the exact gradient of the loss that it descends.

In: a plan, weights and batches. Out: at one batch, both directions of every parameter. The exact one is that of
autograd, in training mode and with the same random numbers; through a loop it is as the network says, by implicit
differentiation or through its steps, but never a truncation of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.checks.loops import exactly_differentiated, gradient_kind
from nnspec.compiler.ir import Graph
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.objectives import sources
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.settling import Unsettled
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.compiler.runtime.trials import Trial
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.objectives import NoGradient

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup

_TIGHT = {8: 1e-13, 4: 1e-6}  # how far loops are settled, by bytes of a number
Pairs = dict[str, "tuple[Tensor, Tensor]"]  # by parameter: what the rule gives, and the exact gradient


class Difference(NamedTuple):
    """How far a direction is from the exact gradient g: cos(d, g) and |d - g| / |g|; None where g is zero or not finite.

    A rule that gives nothing has the cosine 0 and the error 1.
    """

    cosine: float | None
    relative_error: float | None


class Measured(NamedTuple):
    """Both directions at one place: the difference of each parameter, and of all of them as one vector.

    `residual` is how far from settled the states were of which the exact gradient was taken; None without loops.
    """

    layers: dict[str, Difference]
    whole: Difference
    residual: float | None = None
    nudged: float | None = (
        None  # the largest share of its way by which a nudged state still moved in the last step
    )


def measured(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> Measured:
    """Return the differences of directions."""
    import torch

    flat = [(given.flatten(), exact.flatten()) for given, exact in pairs.values()]
    whole = difference(torch.cat([given for given, _ in flat]), torch.cat([exact for _, exact in flat]))
    return Measured({name: difference(*pair) for name, pair in pairs.items()}, whole)


def difference(given: Tensor, exact: Tensor) -> Difference:
    """Return how far a direction is from the exact gradient, in double precision."""
    given, exact = given.double().flatten(), exact.double().flatten()
    size, length = _norm(exact), _norm(given)
    if not size or not isfinite(size) or not isfinite(length):
        return Difference(None, None)
    cosine = float(given @ exact) / (size * length) if length else 0.0
    return Difference(max(-1.0, min(1.0, cosine)), _norm(given - exact) / size)


def _norm(vector: Tensor) -> float:
    return float(vector @ vector) ** 0.5


def averaged(found: Sequence[Difference]) -> Difference:
    """Return the means over places where the exact gradient is not zero."""
    cosines = [one.cosine for one in found if one.cosine is not None]
    errors = [one.relative_error for one in found if one.relative_error is not None]
    return Difference(
        sum(cosines) / len(cosines) if cosines else None, sum(errors) / len(errors) if errors else None
    )


def gives_direction(rule: Rule) -> bool:
    """Return whether a rule gives the optimizer a direction, rather than moving the weights itself."""
    return type(rule).direction is not Rule.direction


class Comparison:
    """Two learners at the same weights: one whose rules give directions, one that is differentiated.

    torch's global generators are used: stand it inside `kept_generators`.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.how = gradient_kind(plan.graph)
        self.learner = Learner(plan, Trial(seed))
        tolerance = _TIGHT[plan.dtype.itemsize]
        self.exact = Learner(with_graph(plan, exactly_differentiated(plan.graph, tolerance)), Trial(seed))

    def load(self, state: Mapping[str, Tensor], step: int = 0) -> None:
        """Take other weights, those of a step of the training."""
        self.learner.network.load_state_dict(state)
        self.learner.step = step

    def batches(self, count: int) -> list[Batch]:
        """Return the first batches in the order of training."""
        steps = self.learner.phase.steps_per_epoch
        found: list[Batch] = []
        while len(found) < count:
            found += islice(self.learner.batches(steps), count - len(found))
        return found

    def at(self, batch: Batch, draws: int = 1) -> Pairs:
        """Return both directions of every parameter that learns; those of a rule that draws averaged over `draws`."""
        with warnings.catch_warnings():  # what does not settle is measured, and said once
            warnings.simplefilter("ignore", RuntimeWarning)
            self.learner.unsettled = Unsettled()
            return self._at(batch, draws)

    def residual(self) -> float | None:
        """Return how far from settled the states were when the exact gradient was last taken; None without loops."""
        parts: list[Any] = [part for part in self.exact.network.modules() if hasattr(part, "residual")]
        return max((float(part.residual) for part in parts), default=None)

    def nudged(self) -> float | None:
        """Return how far from settled the nudged states of the rule were when its direction was last taken."""
        return None if self.learner.unsettled is None else self.learner.unsettled.worst_nudged

    def _at(self, batch: Batch, draws: int) -> Pairs:
        found: Pairs = {}
        self.learner.network.train()
        self.exact.network.train()
        self.exact.network.load_state_dict(self.learner.network.state_dict())
        for group, twin in zip(self.learner.groups, self.exact.groups, strict=True):
            before, kept = group.draws(), _buffers(group)
            given = _mean([self._given(group, batch, kept, ahead) for ahead in range(draws)])
            group.draw_again(before)
            exact = _gradient(twin, batch)
            found |= {n: (d, g) for n, d, g in zip(group.names, given, exact, strict=True)}
        return found

    def _given(self, group: LearningGroup, batch: Batch, kept: dict[str, Tensor], ahead: int) -> list[Tensor]:
        """Return what the rule gives, some steps ahead of where the training stands: rules may draw by the step."""
        import torch

        memory, step = dict(group.kept), self.learner.step
        group.optimizer.zero_grad(set_to_none=True)
        self.learner.step = step + ahead
        group.rule.direction(group, batch, self.learner.streams)
        self.learner.step = step
        group.kept = memory
        grads = [parameter.grad for parameter in group.parameters]
        pairs = zip(grads, group.parameters, strict=True)
        found = [torch.zeros_like(p) if g is None else g.detach().clone() for g, p in pairs]
        group.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in group.network.named_buffers():
                buffer.copy_(kept[name])
        return found


def compared(
    plan: Plan, states: Sequence[tuple[int, Mapping[str, Tensor]]], batches: int, draws: int, step: int = 0
) -> Iterator[Measured]:
    """Yield the differences for each seed and its weights, those of a step of training, batch after batch."""
    with kept_generators(plan.device):
        for seed, state in states:
            comparison = Comparison(plan, seed)
            comparison.load(state, step)
            for batch in comparison.batches(batches):
                found = measured(comparison.at(batch, draws))
                yield found._replace(residual=comparison.residual(), nudged=comparison.nudged())


def along(plan: Plan, seed: int, steps: int, every: int) -> Iterator[tuple[int, float, Measured]]:
    """Train by the experiment's own rule; yield every few steps the step, its loss, and the differences at its batch."""
    with kept_generators(plan.device):
        comparison = Comparison(plan, seed)
        learner = comparison.learner
        done = 0
        while done < steps and learner.phase_step < learner.phase.steps:
            left = min(steps - done, learner.phase.steps - learner.phase_step)
            for batch in learner.batches(min(learner.phase.steps_per_epoch, left)):
                looked = _looked(comparison, batch) if done % every == 0 or done == steps - 1 else None
                learner.network.train()
                loss: Any = learner.learn(batch)
                if looked is not None:
                    yield done, float(loss), looked
                done += 1


def _looked(comparison: Comparison, batch: Batch) -> Measured:
    """Measure without leaving a trace in what the training draws."""
    learner = comparison.learner
    streams = learner.streams.states()
    found = measured(comparison.at(batch))
    learner.streams.restore(streams)
    return found


def with_graph(plan: Plan, graph: Graph) -> Plan:
    """Return the plan with another network of the same tensors."""
    from nnspec.compiler.emit.load import module_class

    if graph is plan.graph:
        return plan
    experiment = plan.experiment.replace(graph=graph)
    read = sources(experiment)
    return plan.replace(experiment=experiment, sources=read, make=module_class(read.graph))


def _gradient(group: LearningGroup, batch: Batch) -> list[Tensor]:
    import torch

    loss = group.mean_loss(batch)
    if not loss.requires_grad:
        raise RunError(NoGradient(group.span))
    found: Any = torch.autograd.grad(loss, group.parameters, allow_unused=True)
    pairs = zip(found, group.parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g.detach() for g, p in pairs]


def _mean(found: list[list[Tensor]]) -> list[Tensor]:
    total = found[0]
    for more in found[1:]:
        total = [sum_ + own for sum_, own in zip(total, more, strict=True)]
    return [sum_ / len(found) for sum_ in total]


def _buffers(group: LearningGroup) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in group.network.named_buffers()}
