"""`settle(..)`: the way to run a phase in which the states of a system settle.

A phase is one or several samples: of `nudging`, one for each strength. Its record answers for the words of junctions: at a
connection `pre` is what its sources send, `post` the states of its targets, laid end to end; at a bias `post` is the
state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Graph, Loop
from nnspec.compiler.rules.settled.nudging import named, nudging
from nnspec.compiler.rules.settled.phases import Phase, Settle, Settling
from nnspec.compiler.rules.settled.pushes import Push
from nnspec.compiler.rules.settled.steps import Steps, are_alone
from nnspec.compiler.rules.written.outputs import as_given, end_to_end
from nnspec.compiler.runtime import losses, objectives
from nnspec.compiler.runtime.continued import continued
from nnspec.compiler.runtime.divergence import Blown
from nnspec.dsl.syntax import Conditional, Expression

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.settled.phases import Loss, Slope, States
    from nnspec.compiler.rules.written.equations import PhaseLine
    from nnspec.compiler.rules.written.phase import Moment, Record
    from nnspec.compiler.runtime.settling import Unsettled

NUMBERS = ("dt", "damping", "tolerance", "nudge")
OPTIONS = ("steps", *NUMBERS, "nudging", "push")
WORDS = frozenset(
    ("pre", "post", "drive", "post.change", "output", "output.error", "output.target", "loss", "rest.error")
)


class Settles:
    """The way `settle(steps, dt, damping, tolerance, nudge, nudging, push)`."""

    words = WORDS
    options = OPTIONS

    def run(
        self,
        moment: Moment,
        line: PhaseLine,
        each: Callable[[Record, complex], None] | None,
    ) -> SystemRecord:
        """Run a phase and return its record."""
        import torch

        known = moment.records.values()
        settling = next((record.settling for record in known if isinstance(record, SystemRecord)), None)
        if settling is None:
            settling = begun(moment)
        phase = read_phase(line, moment.equations.reader)
        samples = each if phase.nudging is not None else None
        with torch.no_grad():
            found: Phase | None = moment.settled.get(line.name)
            if found is None:
                found = _settle(moment, settling, phase, each if samples is None else None)
            settling.phases[line.name] = found
            if samples is not None:
                for sample in found.samples:
                    samples(SystemRecord(moment, settling, sample.states), sample.coefficient)
        if moment.run.learner.unsettled is not None:
            if not phase.nudge:
                note(moment.run.learner.unsettled, settling.system, phase, found.residual)
            elif phase.nudging is not None and phase.begins is not None:
                _note_nudged(moment.run.learner.unsettled, settling, phase, found)
        blown = moment.run.learner.blown
        if blown is not None:
            blown += [Blown(name, line.name) for name in _not_finite(settling, found)]
        return SystemRecord(moment, settling, found.states, residual=found.residual)


def _settle(
    moment: Moment, settling: Settling, phase: Settle, each: Callable[[Record, complex], None] | None
) -> Phase:
    """Let the states of a phase settle; tell of each step, if anybody wants to know."""
    import torch

    sign = 1.0
    if phase.nudging is not None and nudging(phase.nudging).draws:
        drawn = moment.streams.drawn("nudge", lambda: torch.rand(()))
        sign = 1.0 if float(drawn) < 0.5 else -1.0
    steps = None if each is None else _steps(moment, settling, phase.name, each)
    found = settling.run(phase, sign, None if steps is None else steps.take)
    if steps is not None:
        steps.finish()
    return found


def _note_nudged(unsettled: Unsettled, settling: Settling, phase: Settle, found: Phase) -> None:
    """Count a phase whose slope is taken, and whose states still moved by too large a share of their way."""
    import torch

    begin = settling.phases[phase.begins or ""].states
    ways = [(a - b).abs().max() for own in found.samples for a, b in zip(own.states, begin, strict=True)]
    share = found.residual / torch.stack(ways).max().clamp_min(1e-30)
    steps = phase.steps or int(settling.system.loop.solver.options["steps"])
    unsettled.note_nudged(phase.name, share, steps)


_ENOUGH = 1e-3  # residual of a phase whose steps the rule counts


def note(unsettled: Unsettled, system: Any, phase: Settle, residual: Tensor) -> None:
    """Count a free phase that did not settle, to its own tolerance or that of the network."""
    options = system.loop.solver.options
    own = float(options["tolerance"])
    tolerance = phase.tolerance or (own if phase.steps is None else max(own, _ENOUGH))
    if tolerance:
        stride = system.size(phase.dt, phase.damping)
        what = f"the states of `{phase.name}`"
        unsettled.note(what, residual, phase.steps or int(options["steps"]), tolerance, stride)


def _not_finite(settling: Settling, phase: Phase) -> list[str]:
    """Return the states that are not finite in a sample of a phase."""
    return [
        name
        for sample in phase.samples
        for name, state in zip(settling.system.states, sample.states, strict=True)
        if not bool(state.isfinite().all())
    ]


def _steps(moment: Moment, settling: Settling, phase: str, each: Callable[[Record, complex], None]) -> Steps:
    """Return what gathers the steps of a phase."""

    def told(states: States, earlier: States, count: int) -> None:
        each(SystemRecord(moment, settling, states, earlier, times=count), 1.0)

    return Steps(told, are_alone(moment.equations, phase, settling))


def read_phase(line: PhaseLine, reader: Any) -> Settle:
    """Return a phase with the numbers that the rule's parameters give it; steps and sizes of 0 are the network's."""
    given = dict(line.given)
    numbers = {name: float(reader.plain(given[name])) for name in NUMBERS if name in given}
    own = {name: numbers.get(name) or None for name in ("dt", "damping", "tolerance")}
    return Settle(
        name=line.name,
        begins=line.start,
        steps=(reader.plain(given["steps"]) or None) if "steps" in given else None,
        nudge=numbers.get("nudge", 0.0),
        nudging=_way(given["nudging"], reader) if "nudging" in given else None,
        push=_push(given["push"], reader) if "push" in given else None,
        **own,
    )


def _way(written: Expression, reader: Any) -> Choice | None:
    found = reader.plain(written)
    return found if isinstance(found, Choice) else named(written, reader)


def _push(written: Expression, reader: Any) -> Push | None:
    """Return a push, None for one that the rule's parameters make 0."""
    while isinstance(written, Conditional):
        written = written.value if reader.decided(written.condition) else written.otherwise
    if reader.plain(written) == 0:
        return None
    known = {n: float(v) for n, v in reader.options.items() if isinstance(v, int | float)}
    return Push(expression=written, numbers=tuple(known.items()))


class SystemRecord:
    """States at the end of a phase, or of one step of it."""

    def __init__(
        self,
        moment: Moment,
        settling: Settling,
        states: States,
        earlier: States | None = None,
        residual: Tensor | None = None,
        times: int = 1,
    ) -> None:
        self.moment = moment
        self.settling = settling
        self.states = dict(zip(settling.system.states, states, strict=True))
        self.earlier = None if earlier is None else dict(zip(settling.system.states, earlier, strict=True))
        self.residual = residual
        self.times = times  # how many steps are laid end to end along the batch
        self._values: dict[str, Tensor] | None = None
        self._known: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------ reading

    def read(self, word: str, junction: int) -> Tensor:
        """Return a word at a junction."""
        match word:
            case "pre":
                return self._sent(junction)
            case "post":
                return self._at_targets(self._rates(self.states), junction)
            case "post.change":
                assert self.earlier is not None
                later, before = (
                    self._at_targets(self._rates(states), junction) for states in (self.states, self.earlier)
                )
                return later - before
            case "pre.change":  # of the way back of a connection
                assert self.earlier is not None
                earlier = tuple(self.earlier.values())
                before = SystemRecord(self.moment, self.settling, earlier, times=self.times)
                return self._sent(junction) - before.read("pre", junction)
            case "drive":
                values = self._all()
                driven = {s.name: values[s.driven or s.after] for s in self._loop.carried}
                return self._at_targets(driven, junction)
            case "output":
                return end_to_end(self._outputs()[: self._count])
            case "output.error":
                return end_to_end(self._output_errors())
            case "output.target":
                return losses.like(self.moment.batch.target, self._outputs()[0])
            case "loss":
                return self._losses()
            case _:
                raise TypeError(f"a settled system has no {word}")

    def _rates(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what units send, which is what `post` means of them: the states themselves, or functions of these."""
        return {name: self.settling.rate(state) for name, state in states.items()}

    @property
    def _loop(self) -> Loop:
        return self.settling.system.loop

    def _sent(self, junction: int) -> Tensor:
        """Return what the sources of a connection send along it."""
        own = self.moment.scheme.junctions[junction]
        if not own.has_weight:
            return self.states[own.path]
        connection = next(c for c in self._loop.connections if c.child == own.path)
        taken = connection.taken
        if self.settling.is_outside(taken):
            value = self.settling.outside(taken)
            return value if self.times == 1 else value.repeat(self.times, *[1] * (value.dim() - 1))
        if self.settling.can_send(connection):
            return self.settling.sent(taken, tuple(self.states.values()))
        return self._all()[taken]

    def _all(self) -> dict[str, Tensor]:
        """Return every value of the loop's body at these states."""
        if self._values is None:
            states = tuple(self.states.values())
            is_complex = any(state.is_complex() for state in states)
            given = self.settling.continued() if is_complex else self.settling.given
            self._values = self.settling.system.values(given, states)
        assert self._values is not None
        return self._values

    def _at_targets(self, values: Mapping[str, Tensor], junction: int) -> Tensor:
        """Return a value of each state, for the targets of a junction, laid end to end as its drive is."""
        import torch

        own = self.moment.scheme.junctions[junction]
        if not own.has_weight:
            return values[own.path]
        connection = next(c for c in self._loop.connections if c.child == own.path)
        found = [values[name] for name in connection.targets]
        rank = len(own.drive.axes) + 1
        if len(found) == 1:
            return found[0] if found[0].dim() == rank else found[0].flatten(1)
        return torch.cat([value.flatten(1) for value in found], 1)

    # --------------------------------------------------------------------------------------------- the loss

    def _outputs(self) -> tuple[Tensor, ...]:
        return self.settling.system.readout(self.settling.given, tuple(self.states.values()))

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the batch at these states, detached."""
        return _mean(self.moment, self._outputs()).detach()

    def rest_errors(self) -> dict[str, Tensor]:
        """Return the derivative of the mean loss by what is outside the loop, at these states."""
        import torch

        state = self.moment.state
        keys = [key for key in state if key in self.moment.rest]
        leaves = {key: state[key].detach().requires_grad_() for key in keys}
        with torch.enable_grad():
            known = {key: value.detach() for key, value in state.items()} | leaves
            system = self.settling.system
            given = system.begin(system.weights(known), *self.moment.batch.inputs)
            loss = _mean(self.moment, system.readout(given, tuple(self.states.values())))
            found: Any = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return {key: g for key, g in zip(leaves, found, strict=True) if g is not None}

    @property
    def _count(self) -> int:
        """How many of the values that the loss reads are outputs of the network: the first ones."""
        return len(self.moment.scheme.graph.root.outputs)

    def _output_errors(self) -> list[Tensor]:
        import torch

        leaves = tuple(value.detach().requires_grad_() for value in self._outputs())
        own = leaves[: self._count]
        with torch.enable_grad():
            loss = _mean(self.moment, leaves)
            found = torch.autograd.grad(loss, own, allow_unused=True, materialize_grads=True)
        return [error * self.moment.batch.rows for error in found]

    def _losses(self) -> Tensor:
        run = self.moment.run
        judge = objectives.per_sample(run.aim, run.learner.plan.sources)
        return judge(as_given(self._outputs()), self.moment.batch, self.moment.state)


def begun(moment: Moment) -> Settling:
    """Return what lets the states of one batch settle, before its first phase."""
    import torch

    found = _system(moment.run.learner.plan.sources.graph)
    with torch.no_grad():
        weights = found.weights(moment.state)
        given = (moment.batch.inputs, _summed(moment), _squared(moment, found))
        return Settling(found, weights, *given, moment.run.learner.watch)


def _squared(moment: Moment, system: Any) -> Slope | None:
    """Return the slope of a squared error of states that are the output themselves: 2 (s - y) over their number."""
    aim, place = moment.run.aim, read_directly(system)
    if place is None or not isinstance(aim, Choice) or aim.name != "mean_squared_error":
        return None
    kind = system.loop.carried[place].declared
    count = math.prod(int(str(size)) for size in kind.shape)
    rows, shape = moment.batch.rows, tuple(int(str(size)) for size in kind.shape)
    real = next(w for w in moment.weights if w.is_floating_point())
    wanted = losses.like(moment.batch.target, real.new_zeros(rows, *shape)) * (2 / count)

    def slope(states: States) -> tuple[Tensor | None, ...]:
        own = states[place] * (2 / count) - wanted
        return tuple(own if index == place else None for index in range(len(states)))

    return slope


def read_directly(system: Any) -> int | None:
    """Return the place of the state that is the one output of a system as it settles; None if there is none such."""
    outputs = [port.value for port in system.root.outputs]
    results = [state.result for state in system.loop.carried]
    return results.index(outputs[0]) if len(outputs) == 1 and outputs[0] in results else None


def _summed(moment: Moment) -> Loss:
    """Return the sum over the batch of the samples' losses, of what the network gives."""
    return lambda values: _mean(moment, values) * moment.batch.rows


def _mean(moment: Moment, values: tuple[Tensor, ...]) -> Tensor:
    run = moment.run
    first = values[0]
    if first.is_complex() and isinstance(run.aim, Choice):
        return continued(run.aim, first, moment.batch.target)
    found: Any = run.loss(as_given(values), moment.batch, moment.state)
    return found


_SYSTEMS: dict[int, Any] = {}  # by the identity of their graphs, which they hold
_MOST_SYSTEMS = 16


def _system(graph: Graph) -> Any:
    """Return what runs a system, made once: to hash a graph for each step would take longer than the step."""
    found = _SYSTEMS.get(id(graph))
    if found is None or found.source is not graph:
        from nnspec.compiler.emit.system import system

        if len(_SYSTEMS) >= _MOST_SYSTEMS:
            _SYSTEMS.clear()
        found = _SYSTEMS[id(graph)] = system(graph)
    return found
