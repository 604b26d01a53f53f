"""A written rule for many networks at once: what it does to one of them, as flat programs for all.

In: a group of a stack of networks. The rule's own code runs for one network, with what differs between networks as
arguments: weights, feedback, random numbers, rows, states that settled. It is traced, and mapped over the networks
(`runtime/many.py`). Steps of settling are a program of their own, so that no trace is as long as a phase; random numbers
come from each network's own streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.settled.phases import Phase, Sample, Settle, complex_of
from nnspec.compiler.rules.settled.steps import CHUNK, are_alone
from nnspec.compiler.rules.settled.way import Settles, SystemRecord, begun, note, read_phase
from nnspec.compiler.rules.written.equations import Equations, PhaseLine
from nnspec.compiler.rules.written.rule import Gathered, Prepared, WrittenRule
from nnspec.compiler.rules.written.ways import WAYS
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.many import Many, ManySteps, shapes
from nnspec.compiler.runtime.plan import Batch
from nnspec.compiler.runtime.stacked_system import residual, starts
from nnspec.compiler.runtime.streams import Given, Noted, Streams

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.written.phase import Moment
    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.stack import StackedGroup

    States = tuple[Tensor, ...]
    Tensors = Mapping[str, Tensor]


class Together:
    """A written rule for one group of many networks. `more` is learned feedback, stacked."""

    def __init__(self, rule: WrittenRule, group: StackedGroup) -> None:
        self.rule = rule
        self.group = group
        self.stack = group.stack
        self.one = _One(rule, group)
        self.equations: Equations = rule.equations(group.options).of(self.stack.plan.graph)
        self._draw_feedback()
        self.learned = [name for name in self.stack.feedback if name in self.one.learned]
        self.more = [self.stack.feedback[name] for name in self.learned]
        self.notes: dict[Any, list[tuple[str, tuple[Any, ...]]]] = {}
        self.programs: dict[Any, Any] = {}

    def _draw_feedback(self) -> None:
        """Draw the feedback of each network from its own streams, where it is not known yet."""
        import torch

        stack = self.stack
        drawn: list[dict[str, Tensor]] = []
        for streams, state in zip(stack.streams, stack.states(), strict=True):
            own = Streams(streams.trial, streams.mode, stack.plan.device)
            drawn.append(self.one.drawn({k: t.detach() for k, t in state.items()}, own))
        for name in drawn[0]:
            if name not in stack.feedback:
                stack.feedback[name] = torch.stack([own[name] for own in drawn])

    # ------------------------------------------------------------------------------------------------ a step

    def direction(self, batch: Batch) -> Tensor:
        """Fill `.grad` of the group's parameters and of learned feedback; return the loss of each network."""
        own = {f"state {name}": tensor.detach() for name, tensor in self.stack.state.items()}
        own |= {f"feedback {name}": tensor.detach() for name, tensor in self.stack.feedback.items()}
        rows = {f"batch {place}": tensor for place, tensor in enumerate(_tensors(batch))}
        shared = {} if self.group.own_rows else rows
        own |= rows if self.group.own_rows else {}
        own |= self._draws(own, shared)
        for line in self.equations.phases:
            if isinstance(WAYS[line.way], Settles):
                own |= self._settled(line, own, shared)
        *found, loss = self.made("directions", self.one.directions, own, shared)
        for parameter, gradient in zip((*self.group.parameters, *self.more), found, strict=True):
            parameter.grad = gradient
        return loss

    def _draws(self, own: Tensors, shared: Tensors) -> dict[str, Tensor]:
        """Return the random numbers of this step, each network's from its own streams."""
        import torch

        key = shapes(
            [tensor for name, tensor in (*own.items(), *shared.items()) if name.startswith("batch ")]
        )
        if key not in self.notes:
            self.notes[key] = self._noted(own, shared)
        streams = self.stack.streams
        made = [[getattr(own, kind)(*given) for own in streams] for kind, given in self.notes[key]]
        return {f"draw {place}": torch.stack(each) for place, each in enumerate(made)}

    def _noted(self, own: Tensors, shared: Tensors) -> list[tuple[str, tuple[Any, ...]]]:
        """Return what a step draws beside the states' beginnings: what does so is no settling phase."""
        if any(isinstance(WAYS[line.way], Settles) for line in self.equations.phases):
            return []
        noted = Noted(self.stack.trials[0], self.stack.streams[0].mode, self.stack.plan.device)
        self.one.directions({k: t[0] for k, t in own.items()} | dict(shared), noted)
        return noted.notes

    def made(self, name: Any, function: Callable[..., Any], own: Tensors, shared: Tensors) -> Any:
        """Return what a function of one network's tensors, by name, gives for all."""
        names = (*own, *shared)
        key = (name, names)
        if key not in self.programs:
            self.programs[key] = Many(lambda *given: function(dict(zip(names, given, strict=True))))
        return self.programs[key](list(own.values()), list(shared.values()))

    # -------------------------------------------------------------------------------------------- settling

    def _settled(self, line: PhaseLine, own: Tensors, shared: Tensors) -> dict[str, Tensor]:
        """Let the states of a phase settle; return them at each of its points, and what was summed over steps."""
        phase = read_phase(line, self.equations.reader)
        begin = self._begin(phase, own, shared)
        gather = None
        if line.name in self.equations.gathered and phase.nudging is None:
            gather = _Gather(self, line, own, shared)
        found: dict[str, Tensor] = {}
        for place, point in enumerate(phase.points()):
            states = begin
            if not phase.stays(point):
                states = self._run(line, phase, point.strength, begin, (own, shared), gather)
            found |= {f"settled {line.name} {place} {index}": state for index, state in enumerate(states)}
        return found if gather is None else found | gather.totals

    def _begin(self, phase: Settle, own: Tensors, shared: Tensors) -> States:
        if phase.begins is not None:
            count = len(self.one.system.states)
            return tuple(own[f"settled {phase.begins} 0 {index}"] for index in range(count))
        one = {k: t[0] for k, t in own.items()} | dict(shared)
        given = [self.one.given(one)]
        streams = self.stack.streams
        return starts(self.one.system, given, streams, lambda own, make: own.drawn("forward", make))[0]

    def _run(
        self,
        line: PhaseLine,
        phase: Settle,
        strength: complex,
        begin: States,
        tensors: tuple[Tensors, Tensors],
        gather: _Gather | None,
    ) -> States:
        own, shared = tensors
        if phase.complexly:
            begin = tuple(state.to(complex_of(state.dtype)) for state in begin)
        own = {**own, **{f"begin {place}": state for place, state in enumerate(begin)}}
        names = (*own, *shared)
        key = ("step", line.name, strength, names)
        count = len(begin)
        if key not in self.programs:

            def step(*given: Tensor) -> States:
                return self.one.step(
                    line, strength, given[:count], dict(zip(names, given[count:], strict=True))
                )

            self.programs[key] = ManySteps(step)
        before = states = self.one.system.begun(begin)
        advance = self.programs[key].begin(states, list(own.values()), list(shared.values()))
        for _ in range(phase.steps or self.one.system.loop.solver.options["steps"]):
            before, states = states, advance(states)
            if gather is not None:
                gather.take(before, states)
        if gather is not None:
            gather.finish()
        if self.stack.unsettled is not None and not phase.nudge:
            size = self.one.system.size(phase.dt, phase.damping)
            note(self.stack.unsettled, self.one.system, phase, residual(before, states) / size)
        return states


class _Gather:
    """Sums over the steps of a phase, some steps at once."""

    def __init__(self, together: Together, line: PhaseLine, own: Tensors, shared: Tensors) -> None:
        self.together, self.line = together, line
        self.own, self.shared = own, shared
        self.kept: list[tuple[States, States]] = []
        self.totals: dict[str, Tensor] = {}
        self.most = 0

    def take(self, before: States, after: States) -> None:
        """Keep a step."""
        if not self.most:
            alone = self.together.one.are_alone(self.line, self.own, self.shared)
            self.most = max(1, CHUNK // sum(state.numel() for state in after)) if alone else 1
        self.kept.append((before, after))
        if len(self.kept) == self.most:
            self.finish()

    def finish(self) -> None:
        """Add up what is kept."""
        if not self.kept:
            return
        import torch

        count, one = len(self.kept), self.together.one
        laid = [
            torch.cat(parts, 1) for side in zip(*self.kept, strict=True) for parts in zip(*side, strict=True)
        ]
        own = {**self.own, **{f"steps {place}": tensor for place, tensor in enumerate(laid)}}
        found = self.together.made(
            ("gather", self.line.name, count),
            partial(one.gathered, self.line, count),
            own,
            self.shared,
        )
        for key, value in zip(one.targets, found, strict=True):
            name = f"total {key[0]} {key[1]}"
            self.totals[name] = value if name not in self.totals else self.totals[name] + value
        self.kept = []


class _One:
    """The rule at work on one network, whose tensors are given by name."""

    def __init__(self, rule: WrittenRule, group: StackedGroup) -> None:
        from nnspec.compiler.runtime.group import LearningGroup

        stack = group.stack
        self.rule = rule
        self.learner = Learner(stack.plan, stack.trials[0])
        self.learner.network.train()
        parameters = {name: self.learner.learned[name] for name in group.names}
        self.run: LearningGroup = LearningGroup(self.learner, group.group, stack.phase, parameters)
        self.inputs = len(stack.plan.sources.inputs)
        self.learned: set[str] = set()
        self.targets: list[tuple[str, int]] = []
        self.system: Any = None

    def prepared(self, tensors: Tensors, streams: Streams | None = None) -> tuple[Prepared, Moment]:
        """Return the rule for a network with these tensors, and its moment."""
        under = _under(tensors)
        self.learner.state = {
            name: tensor.detach().requires_grad_() if name in self.learner.learned else tensor
            for name, tensor in under("state").items()
        }
        self.learner.feedback = under("feedback")
        self.run.parameters = [self.learner.state[name] for name in self.run.names]
        self.learner.streams = streams or Given(list(under("draw").values()))
        rows = list(under("batch").values())
        batch = Batch(tuple(rows[: self.inputs]), rows[self.inputs], tuple(rows[self.inputs + 1 :]))
        prepared = Prepared(self.rule, self.run)
        settled = self._settled(prepared, under("settled"))
        return prepared, prepared.moment(batch, self.learner.streams, settled)

    def drawn(self, state: Tensors, streams: Streams) -> dict[str, Tensor]:
        """Return all feedback of a network that is drawn once, and know which of it is learned."""
        self.learner.state, self.learner.streams, self.learner.feedback = dict(state), streams, {}
        self.run.parameters = [state[name] for name in self.run.names]
        prepared = Prepared(self.rule, self.run)
        learned = {id(tensor) for tensor in prepared.more}
        prepared.feedback.draw()
        self.learned = {name for name, tensor in self.learner.feedback.items() if id(tensor) in learned}
        return self.learner.feedback

    def directions(self, tensors: Tensors, streams: Streams | None = None) -> list[Tensor]:
        """Return what the optimizer descends: of each parameter, then of learned feedback; and the mean loss."""
        import torch

        prepared, moment = self.prepared(tensors, streams)
        sums = Gathered(prepared, moment)
        for name, total in _under(tensors)("total").items():
            target, place = name.split(" ")
            sums.totals[target, int(place)] = total
        prepared.run_phases(moment, sums)
        loss = prepared.teach(moment, sums)
        taught = (*self.run.parameters, *prepared.more)
        found = [torch.zeros_like(own) if own.grad is None else own.grad for own in taught]
        return [*found, loss]

    # -------------------------------------------------------------------------------------------- settling

    def step(self, line: PhaseLine, strength: complex, states: States, tensors: Tensors) -> States:
        """Return the states of a phase one step later."""
        import torch

        with torch.no_grad():
            prepared, moment = self.prepared(tensors)
            settling = self._begun(prepared, moment, line)
            begin = tuple(_under(tensors)("begin").values())
            return settling.step(read_phase(line, prepared.equations.reader), begin, states, strength)

    def given(self, tensors: Tensors) -> Any:
        """Return what no step of the states changes, and know the system."""
        _, moment = self.prepared(tensors)
        settling = begun(moment)
        self.system = settling.system
        return settling.given

    def are_alone(self, line: PhaseLine, own: Tensors, shared: Tensors) -> bool:
        """Return whether sums over steps read nothing but the step."""
        prepared, moment = self.prepared({k: t[0] for k, t in own.items()} | dict(shared))
        return are_alone(prepared.equations, line.name, begun(moment))

    def gathered(self, line: PhaseLine, count: int, tensors: Tensors) -> list[Tensor]:
        """Return what some steps of a phase, laid end to end, add to each sum; `targets` says to which."""
        import torch

        with torch.no_grad():
            prepared, moment = self.prepared(tensors)
            settling = self._begun(prepared, moment, line)
            laid = list(_under(tensors)("steps").values())
            half = len(laid) // 2
            sums = Gathered(prepared, moment)
            each = sums.of(line.name)
            each(SystemRecord(moment, settling, tuple(laid[half:]), tuple(laid[:half]), times=count), 1.0)
        self.targets = list(sums.totals)
        return list(sums.totals.values())

    def _begun(self, prepared: Prepared, moment: Moment, line: PhaseLine) -> Any:
        """Return the phases of this batch, those before a line over."""
        prepared.run_phases(moment, Gathered(prepared, moment), before=line.name)
        known = [record for record in moment.records.values() if isinstance(record, SystemRecord)]
        return known[0].settling if known else begun(moment)

    def _settled(self, prepared: Prepared, states: Tensors) -> dict[str, Phase]:
        """Return the phases whose states are known."""
        import torch

        lines = {line.name: line for line in prepared.equations.phases}
        found: dict[str, dict[int, list[Tensor]]] = {}
        for name, state in states.items():
            phase, place, _ = name.split(" ")
            found.setdefault(phase, {}).setdefault(int(place), []).append(state)
        made: dict[str, Phase] = {}
        for name, samples in found.items():
            points = read_phase(lines[name], prepared.equations.reader).points()
            pairs = zip(points, samples.values(), strict=True)
            kept = tuple(Sample(point.coefficient, tuple(own)) for point, own in pairs)
            made[name] = Phase(kept, torch.zeros(()), ())
        return made


def _under(tensors: Tensors) -> Callable[[str], dict[str, Tensor]]:
    """Return those of a kind, without its name."""

    def under(kind: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{kind} "): t for k, t in tensors.items() if k.startswith(f"{kind} ")}

    return under


def _tensors(batch: Batch) -> Sequence[Tensor]:
    return (*batch.inputs, batch.target, *batch.fields)
