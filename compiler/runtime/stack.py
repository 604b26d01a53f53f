"""Many networks that learn at once: the trials of one experiment, stacked along a new first axis.

Each trial has its own initialisation and its own order of the data, and its numbers are those it would have
alone, to rounding; they never depend on its company. Only where that is exact: the rules follow the
gradient or are equations, a forward draws nothing but where states begin, rows of a batch do not see each other,
nothing is stored but parameters, and the optimizers work on each number by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.loops import alike_in_both_forms, random_starts
from nnspec.compiler.experiment import Group
from nnspec.compiler.ir import Loop
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.rules.written.many import STEPPED
from nnspec.compiler.runtime import masks, optimizers
from nnspec.compiler.runtime.after_step import AfterStep
from nnspec.compiler.runtime.checkpoint import Snapshot, optimizer_snapshot, optimizer_state
from nnspec.compiler.runtime.evaluation import Scorer
from nnspec.compiler.runtime.followers import Followers
from nnspec.compiler.runtime.group import Pace, chosen
from nnspec.compiler.runtime.penalties import Penalties
from nnspec.compiler.runtime.phased import Phased
from nnspec.compiler.runtime.plan import Batch, Plan, batch_coupled, draws, parameter_count
from nnspec.compiler.runtime.progress import Progress
from nnspec.compiler.runtime.settling import Unsettled
from nnspec.compiler.runtime.stacked_forward import stacked
from nnspec.compiler.runtime.stacked_losses import stacked_objective
from nnspec.compiler.runtime.stacked_system import StackedSystem
from nnspec.compiler.runtime.streams import Streams
from nnspec.compiler.runtime.thinning import Thinner
from nnspec.compiler.runtime.trials import Trial
from nnspec.compiler.tensors import learned_keys, tensors, tracked_keys
from nnspec.compiler.typing_effects import has_effects
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.objectives import NoGradient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import Tensor

    from nnspec.compiler.experiment import Choice, Judged
    from nnspec.compiler.rules.rule import ManyDirections
    from nnspec.compiler.runtime.stages import Phase

# Above this many parameters a network keeps a core busy by itself (measured: benchmarks/seeds.py).
SMALL = 30_000
# Below this many steps of networks that are spared, the programs of a written rule take longer to make than they save; a step
# in which states settle counts for one in each so many steps of theirs.
WORTH, SETTLING = 500, 20


def stackable(plan: Plan, small: int = SMALL) -> bool:
    """Return whether the trials of an experiment can be trained at once, and gain by it."""
    experiment = plan.experiment
    groups = [group for phase in plan.phases for group in phase.groups]
    return (
        len(plan.trials) > 1
        and all(rule_of(chosen(g.rule)).stacks(chosen(g.rule).options, plan.graph) for g in groups)
        and experiment.stop is None
        and all(phase.thinning is None for phase in plan.phases)
        and experiment.save == "last"
        and experiment.precision != "bfloat16"
        and all(optimizers.elementwise(chosen(group.optimizer)) for group in groups)
        and parameter_count(plan.graph) <= small
        and _only_parameters(plan)
        and not draws(plan.graph)
        and not has_effects(plan.graph.root)
        and not batch_coupled(plan.graph)
        and (_by_gradient(plan, groups) or _by_equations(plan, groups))
    )


def _by_gradient(plan: Plan, groups: Sequence[Group]) -> bool:
    """Whether no group needs more than the gradient of the forward, which draws nothing."""
    follow = all(rule_of(chosen(group.rule)).follows_gradient for group in groups)
    return follow and alike_in_both_forms(plan.graph) and not random_starts(plan.graph)


def _by_equations(plan: Plan, groups: Sequence[Group]) -> bool:
    """Whether the rules are equations, for enough steps to be worth their programs.

    What they draw comes from streams of their own, or else its order would be another.
    """
    alone = not any(rule_of(chosen(group.rule)).follows_gradient for group in groups)
    if not alone or plan.experiment.seed_mode != "streams":
        return False
    loops = [s for s in plan.graph.root.body if isinstance(s, Loop)]
    each = max((loop.solver.options["steps"] // SETTLING for loop in loops), default=1)
    worth = plan.steps * (len(plan.trials) - 1) * max(each, 1) >= WORTH
    return worth and (not random_starts(plan.graph) or _settles(plan))


def _settles(plan: Plan) -> bool:
    """Whether the states of the network settle by steps that are all alike; random ones are drawn on the CPU."""
    loops = [s for s in plan.graph.root.body if isinstance(s, Loop)]
    alike = len(loops) == 1 and loops[0].solver.name in STEPPED
    return alike and (plan.device.type == "cpu" or not random_starts(plan.graph))


def _only_parameters(plan: Plan) -> bool:
    """Whether nothing is stored but what is learned, masks, and how far training has come."""
    stay = tracked_keys(plan.graph)
    found = tensors(plan.graph)
    return all(t.kind != "buffer" or t.dtype == "bool" or key in stay for key, t in found)


class StackedGroup:
    """A group of every network of a stack: parameters with one axis more, one optimizer for all."""

    def __init__(self, stack: Stack, group: Group, phase: Phase, parameters: dict[str, Tensor]) -> None:
        self.stack = stack
        self.group = group
        self.names = tuple(parameters)
        self.parameters = list(parameters.values())
        choice = chosen(group.rule)
        self.options = choice.options
        self.own_rows = stack.own_rows
        self.rule = rule_of(choice).together(self)
        changed = self.parameters if self.rule is None else [*self.parameters, *self.rule.more]
        self.optimizer = optimizers.build(chosen(group.optimizer), changed, stack.plan.device.type)
        self.pace = Pace(group, phase, self.optimizer)
        self.span = chosen(group.loss).span
        self.losses = stacked_objective(stack.plan, chosen(group.loss), stack.own_rows)

    def learn(self, batch: Batch, step: int) -> Tensor:
        """Make one step of every network; return the loss of each."""
        self.pace.set_rates(step)
        self.optimizer.zero_grad(set_to_none=True)
        found = self.gradient(batch) if self.rule is None else self.directed(self.rule, batch)
        self.optimizer.step()
        self.stack.after_step(self.stack.state, self.pace.length, self.names)
        return found

    def gradient(self, batch: Batch) -> Tensor:
        """Give the parameters the gradient of the loss; return that of each network."""
        found: Any = self.mean_loss(batch)
        penalty = self.stack.penalties.smooth(self.stack.state, self.names)
        found = found if penalty is None else found + penalty
        if not found.requires_grad:
            raise RunError(NoGradient(self.span))
        found.backward(self.stack.ones, inputs=self.parameters)
        return found.detach()

    def directed(self, rule: ManyDirections, batch: Batch) -> Tensor:
        """Give the parameters the directions of a rule, and the gradient of penalties; return the losses."""
        found = rule.direction(batch)
        penalty: Any = self.stack.penalties.smooth(self.stack.state, self.names)
        if penalty is None:
            return found
        penalty.backward(self.stack.ones, inputs=self.parameters)
        return found + penalty.detach()

    def mean_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of each network on a batch."""
        return self.losses(self.stack.state, batch).mean(1)


class Stack(Phased):
    """Networks in training at once; the same face as a `Learner`."""

    def __init__(self, plan: Plan, trials: tuple[Trial, ...]) -> None:
        from nnspec.compiler.emit.load import function

        experiment = plan.experiment
        self.plan = plan
        self.trials = trials
        self.streams = [Streams(trial, experiment.seed_mode, plan.device) for trial in trials]
        self.state = self._initial()
        self.penalties = Penalties(plan.graph, stacked=True)
        self.after_step = AfterStep(plan.graph, stacked=True)
        self.after_step.project(self.state)
        self.followers = Followers(plan.graph)
        self.progress = Progress(plan.graph, plan.steps)
        self.learned = {name: self.state[name] for name in learned_keys(plan.graph)}
        self.function = function(plan.sources.graph)
        self.system = StackedSystem(plan.sources.graph, tuple(self.state)) if _settles(plan) else None
        self.scorer = Scorer(plan)
        self.masks = self._removed()
        self.step = 0
        self.feedback: dict[str, Tensor] = {}  # of rules, by the names that a learner has for it
        self.starts: dict[str, list[Any]] | None = None
        self.unsettled: Unsettled | None = None  # what a training keeps of phases that did not settle
        self.ones = next(iter(self.state.values())).new_ones(len(trials))
        self.enter(0)

    def _initial(self) -> dict[str, Tensor]:
        """Return the stacked states; each network is initialised as it would be alone."""
        import torch

        states: list[dict[str, Tensor]] = []
        for streams in self.streams:
            streams.begin("init")
            states.append(self.plan.begun(streams.trial.seed).state_dict())
            streams.leave_global()
        together = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        place, dtype = self.plan.device, self.plan.dtype
        return {n: t.to(place, dtype if t.is_floating_point() else None) for n, t in together.items()}

    def _removed(self) -> dict[str, Tensor]:
        """Return the stacked masks of what was pruned before; of a weight that each network has zeros of."""
        import torch

        found = [
            self.plan.removed(t.seed, state) for t, state in zip(self.trials, self.states(), strict=True)
        ]
        shared = [name for name in found[0] if all(name in own for own in found)]
        return {name: torch.stack([own[name] for own in found]) for name in shared}

    # ------------------------------------------------------------------------------------------- a phase

    def enter(self, number: int) -> None:
        """Begin a phase: do what comes before it, and make its optimizers."""
        import torch

        self._prepare(number)
        for stage in self.phase.before:
            found = [
                self._pruned(stage, i, streams.generator("prune")) for i, streams in enumerate(self.streams)
            ]
            self.masks = {name: torch.stack([own[name] for own in found]) for name in found[0]}
        masks.lay(self.learned, self.masks)

    def _pruned(self, stage: Choice, place: int, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the masks of one network after a `prune` stage."""
        learned, before = _one(self.learned, place), _one(self.masks, place)
        absent = Thinner(self.plan.graph).absent(learned, _one(self.state, place))
        return masks.prune(stage, learned, before, generator, absent)

    def _prepare(self, number: int) -> None:
        self.groups = [StackedGroup(self, group, self.phase, own) for group, own in self.begin_phase(number)]

    @property
    def taught(self) -> list[StackedGroup]:
        """The groups of the phase."""
        return self.groups

    # ------------------------------------------------------------------------------------------ an epoch

    def epoch(self) -> Tensor:
        """Train an epoch, or what is left of the phase; return the losses (step, trial) on the device."""
        import torch

        count = min(self.phase.steps_per_epoch, self.phase.steps - self.phase_step)
        return torch.stack(self.learn_all(self._batches(count)))

    @property
    def own_rows(self) -> bool:
        """Whether each network has rows of its own in a batch."""
        return self.plan.experiment.shuffle and self.phase.batch is not None

    def _batches(self, count: int) -> Iterator[Batch]:
        """Yield the batches of an epoch: rows that all share, or (trial, row, ...) in each one's own order."""
        import torch

        part, size = self.plan.train, self.phase.batch
        if size is None:
            yield from (part for _ in range(count))
        elif not self.own_rows:
            yield from (part.between(start, start + size) for start in range(0, count * size, size))
        else:
            rows = part.rows
            drawn = [streams.permutation("shuffle", rows) for streams in self.streams]
            orders: Any = torch.stack(drawn).to(self.plan.device)
            for index in orders.split(size, dim=1)[:count]:
                yield part.each(lambda values, index=index: values[index])

    # ------------------------------------------------------------------------------------------ measuring

    def states(self) -> list[dict[str, Tensor]]:
        """Return the state of each network."""
        return [_one(self.state, index) for index in range(len(self.trials))]

    def scores(self) -> dict[str, list[dict[str, float]]]:
        """Return for each part the scores of each network."""
        import torch

        with torch.no_grad():
            return {
                name: self.scorer.stacked_scores(self._forward(name), part, self.state)
                for name, part in self.plan.parts.items()
            }

    def _forward(self, name: str) -> Callable[..., Any]:
        """Return the forward of all networks on the pieces of a part, one after another."""
        system = self.system
        if system is None:
            forward = stacked(self.function, own_inputs=False, training=False)
            return lambda *inputs: forward(self.state, *inputs)
        begun = iter(self._starts(system)[name])
        return lambda *inputs: system(self.state, next(begun), inputs, self.unsettled)

    def _starts(self, system: StackedSystem) -> dict[str, list[Any]]:
        """Return where the states begin in measuring, for the pieces of each part, drawn in this order."""
        if self.starts is None:
            pieces = [(n, p.inputs) for n, part in self.plan.parts.items() for p in self.scorer.chunks(part)]
            inputs = [own for _, own in pieces]
            found = system.begin(self.state, inputs, self.streams, _measured)
            self.starts = {name: [] for name in self.plan.parts}
            for (name, _), own in zip(pieces, found, strict=True):
                self.starts[name].append(own)
        return self.starts

    def tables(self, choice: Judged | None) -> list[tuple[Any, Any]]:
        """Return for each network the confusion table and the pairs of target and output, held out."""
        import torch

        part = self.plan.parts[self.plan.held_out]
        found: list[tuple[Any, Any]] = []
        with torch.no_grad():
            for streams, own in zip(self.streams, self.states(), strict=True):

                def forward(*inputs: Tensor, own: dict[str, Tensor] = own) -> Tensor:
                    return self.function(own, *inputs, training=False)

                with streams.apart("evaluation"):
                    found.append(self.scorer.tables(forward, part, own, choice))
        return found

    # ---------------------------------------------------------------------------------------- checkpoints

    def capture(self) -> Snapshot:
        """Return a copy of all that changes in training."""
        import torch

        tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in self.state.items()}
        tensors |= {f"mask.{name}": tensor for name, tensor in self.masks.items()}
        tensors |= {f"feedback.{name}": tensor.detach().clone() for name, tensor in self.feedback.items()}
        kept: list[Any] = []
        for number, group in enumerate(self.groups):
            own = optimizer_snapshot(group.optimizer.state_dict())
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in own.tensors.items()}
            kept.append(own.data)
        states = [streams.own_states() for streams in self.streams]
        for name in states[0]:
            tensors[f"streams.{name}"] = torch.stack([own[name] for own in states])
        return Snapshot(tensors, {**self.where(), "optimizers": kept})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where a snapshot was captured."""
        import torch

        place = self.plan.device
        self.feedback = {name: tensor.to(place) for name, tensor in snapshot.under("feedback.").items()}
        self._prepare(snapshot.data["phase"])
        with torch.no_grad():
            for name, tensor in snapshot.under("model.").items():
                self.state[name].copy_(tensor)
        self.masks = {name: tensor.to(place) for name, tensor in snapshot.under("mask.").items()}
        for number, (group, data) in enumerate(zip(self.groups, snapshot.data["optimizers"], strict=True)):
            kept = Snapshot(snapshot.under(f"optimizer.{number}."), data)
            group.optimizer.load_state_dict(optimizer_state(group.optimizer.state_dict(), kept))
        states = snapshot.under("streams.")
        for index, streams in enumerate(self.streams):
            # Copies: torch reads past a row of a larger tensor.
            streams.restore_own({name: tensor[index].clone() for name, tensor in states.items()})
        self.step, self.phase_step = snapshot.data["step"], snapshot.data["phase_step"]


def _one(state: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """Return one network's share of stacked tensors."""
    return {name: tensor[index] for name, tensor in state.items()}


def _measured(streams: Streams, make: Callable[[], list[Any]]) -> list[Any]:
    """Return what is drawn whenever networks are measured."""
    with streams.apart("evaluation"):
        return make()


def alone(snapshot: Snapshot, index: int) -> Snapshot:
    """Return one network's share of the snapshot of a stack, as a learner of its own would capture it.

    The optimizer counts steps for all networks together: a tensor without axes belongs to each.
    """
    own = {
        f"{kind}.{name}": tensor[index]
        for kind in ("model", "mask", "feedback")
        for name, tensor in snapshot.under(f"{kind}.").items()
    }
    optimizer = {
        f"optimizer.{name}": tensor[index] if tensor.dim() else tensor
        for name, tensor in snapshot.under("optimizer.").items()
    }
    streams = {
        f"streams.{name}": tensor[index].clone() for name, tensor in snapshot.under("streams.").items()
    }
    data = {**snapshot.data, "trials": [snapshot.data["trials"][index]]}
    return Snapshot(own | optimizer | streams, data)
