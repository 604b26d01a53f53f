"""A rule of the language as a rule like any other: its equations fill `.grad` with what the optimizer descends.

In: a definition, `rule NAME(..) { .. }`. A step runs the phases in order, computes the wished change of every weight and
bias in force at the junctions, and pulls it back through the constraints to the stored tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.rule import ManyDirections, Rule
from nnspec.compiler.rules.settled.fit import network
from nnspec.compiler.rules.written.equations import Equations, equations
from nnspec.compiler.rules.written.fits import mistakes, refusals
from nnspec.compiler.rules.written.many import fits_many
from nnspec.compiler.rules.written.scheme import Scheme, scheme
from nnspec.compiler.rules.written.ways import WAYS
from nnspec.compiler.typing_effects import has_effects
from nnspec.compiler.values import Refused
from nnspec.dsl.definitions import Definition

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.ir import Graph
    from nnspec.compiler.rules.setting import Setting
    from nnspec.compiler.rules.written.effective import Effective
    from nnspec.compiler.rules.written.functions import Running
    from nnspec.compiler.rules.written.phase import Moment, Record
    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.stack import StackedGroup
    from nnspec.compiler.runtime.streams import Streams
    from nnspec.dsl.diagnostics import Error


class WrittenRule(Rule):
    """A learning rule written as equations."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name = definition.name
        self.doc = definition.item.doc or ""

    def equations(self, options: dict[str, Any]) -> Equations:
        """Return the equations for the values of the parameters."""
        return _equations(self, tuple(options.items()))

    def refusals(self, setting: Setting) -> Iterator[Error]:
        yield from refusals(self, setting)

    def network(self, graph: Graph, options: dict[str, Any]) -> Graph:
        try:
            return network(graph, self.equations(options))
        except Refused:  # what is wrong with the equations is said in `refusals`
            return graph

    def mistakes(self, options: dict[str, Any]) -> Iterator[Error]:
        """Yield what is wrong with the equations by themselves, for the values of the parameters."""
        yield from mistakes(self, options)

    def stacks(self, options: dict[str, Any], graph: Graph) -> bool:
        return fits_many(self.equations(options).of(graph), graph)

    def together(self, group: StackedGroup) -> ManyDirections:
        from nnspec.compiler.rules.written.together import Together

        return Together(self, group)

    def begin(self, run: LearningGroup) -> Prepared:
        return Prepared(self, run)

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        prepared = run.begun
        assert isinstance(prepared, Prepared)
        return prepared.direction(batch, streams)


@lru_cache(maxsize=256)
def _equations(rule: WrittenRule, options: tuple[tuple[str, Any], ...]) -> Equations:
    return equations(rule.definition, dict(options))


@lru_cache(maxsize=256)
def written(definition: Definition) -> WrittenRule:
    """Return the rule of a definition."""
    return WrittenRule(definition)


class Prepared:
    """A written rule for one group of one network: what its steps share."""

    def __init__(self, rule: WrittenRule, run: LearningGroup) -> None:
        from nnspec.compiler.rules.written.feedback import FeedbackState
        from nnspec.compiler.rules.written.maps import LinearMap

        self.run = run
        plan = run.learner.plan
        self.equations = rule.equations(run.options).of(plan.graph)
        self.scheme: Scheme = scheme(plan.graph, plan.sources.graph)
        self.maps = tuple(LinearMap(junction) for junction in self.scheme.junctions)
        self.feedback = FeedbackState(run, self.equations, self.scheme)
        self.memory: dict[str, Any] = {}
        self.effects = has_effects(plan.graph.root)
        self.rest = frozenset(run.names) - self.scheme.keys
        self.parameters = dict(zip(run.names, run.parameters, strict=True))
        self.more = self.feedback.learned()

    @cached_property
    def functions(self) -> Mapping[str, Mapping[int, Running]]:
        """What computes the directions at the junctions, by the phase over whose steps it sums."""
        from nnspec.compiler.rules.written.functions import running

        return running(self.equations, self.scheme, self.maps, self.run.names)

    def direction(self, batch: Batch, streams: Streams) -> Tensor:
        """Fill `.grad`; return the mean loss of the first phase."""
        draws = self.run.draws() if self.effects else None
        moment = self.moment(batch, streams)
        sums = Gathered(self, moment)
        self.run_phases(moment, sums)
        loss = self.teach(moment, sums)
        return self._finished(loss if draws is None else self._beside(loss, batch, draws))

    def moment(self, batch: Batch, streams: Streams, settled: Mapping[str, Any] | None = None) -> Moment:
        """Return what the phases of one step are given."""
        from nnspec.compiler.rules.written.effective import Effective
        from nnspec.compiler.rules.written.phase import Moment

        state = self.run.learner.states()[0] if self.effects else self.run.learner.state
        self.effective = effective = Effective(state, self.memory.setdefault("makers", {}))
        self.feedback.begin_step()
        junctions = self.scheme.junctions
        return Moment(
            run=self.run,
            batch=batch,
            streams=streams,
            equations=self.equations,
            scheme=self.scheme,
            maps=self.maps,
            weights=tuple(effective.of(junction.weight) for junction in junctions),
            biases=tuple(None if j.bias is None else effective.of(j.bias) for j in junctions),
            feedback=self.feedback,
            rest=self.rest,
            memory=self.memory,
            state=state,
            moves=not self.effects,
            settled=settled,
        )

    def run_phases(self, moment: Moment, sums: Gathered, before: str | None = None) -> None:
        """Run the phases in order, or those before one of them."""
        for line in self.equations.phases:
            if line.name == before:
                return
            each = sums.of(line.name) if line.name in self.equations.gathered else None
            moment.records[line.name] = WAYS[line.way].run(moment, line, each)

    def teach(self, moment: Moment, sums: Gathered) -> Tensor:
        """Fill `.grad` of what the rule teaches once its phases have run; return the mean loss of the first one."""
        import torch

        for parameter in (*self.run.parameters, *self.more):
            parameter.grad = None
        with torch.no_grad():
            self._at_junctions(self.effective, sums)
        self.effective.settle(self.parameters)
        self._others(moment)
        loss = next(iter(moment.records.values())).mean_loss()
        moment.records.clear()  # each knows its moment: a ring would hold what passed until the collector comes by
        return loss

    def _at_junctions(self, effective: Effective, sums: Gathered) -> None:
        for (target, place), found in sums.changes().items():
            junction = self.scheme.junctions[place]
            held = {"weight": junction.weight, "bias": junction.bias}.get(target)
            if held is not None:
                effective.pull(held, found)
            else:
                self.feedback.kept(self.feedback.lines[target], place).grad = found

    def _others(self, moment: Moment) -> None:
        """Give the parameters that are at no junction what the rule says of them."""
        lines = [line for line in self.equations.updates if line.target == "rest"]
        factor = -sum(term.coefficient for line in lines for term in line.value)
        if factor and self.rest:
            first = next(iter(moment.records.values()))
            for key, gradient in first.rest_errors().items():
                self.parameters[key].grad = gradient * factor

    def _beside(self, loss: Tensor, batch: Batch, draws: dict[str, Tensor]) -> Tensor:
        """Let layers do what they do beside their outputs: one forward of the module, with the draws of the first phase.

        Buffers move, and the gradient of penalties is added to what the equations wish. Returns the loss with these.
        """
        import torch

        run, after = self.run, self.run.draws()
        run.draw_again(draws)
        with torch.enable_grad(), run.learner.precision():
            run.network(*batch.inputs)
            found: Any = run.learner.layer_penalties.added(torch.zeros_like(loss))
        run.draw_again(after)
        if found.requires_grad:
            found.backward(inputs=run.parameters)
        return loss + found.detach()

    def _finished(self, loss: Tensor) -> Tensor:
        """Add what penalties of weights pull, fill what is left with zeros, and return the loss."""
        import torch

        learner = self.run.learner
        with torch.enable_grad():
            penalty: Any = learner.penalties.smooth(learner.state, self.run.names)
        if penalty is not None:
            penalty.backward(inputs=self.run.parameters)
            loss = loss + penalty.detach()
        for parameter in self.run.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return loss


class Gathered:
    """Directions at the junctions, with those that are gathered step by step while phases run."""

    def __init__(self, prepared: Prepared, moment: Moment) -> None:
        self.prepared = prepared
        self.moment = moment
        self.totals: dict[tuple[str, int], Any] = {}

    def of(self, phase: str) -> Callable[[Record, complex], None]:
        """Return what adds up the terms of one step of a phase."""
        import torch

        functions = self.prepared.functions.get(phase, {})

        def each(record: Record, coefficient: complex) -> None:
            with torch.no_grad():
                for place, function in functions.items():
                    for target, found in function(self.moment, record).items():
                        self.add(target, place, found if coefficient == 1.0 else found * coefficient)

        return each

    def add(self, target: str, place: int, found: Any) -> None:
        """Add to the sum of a target at a junction."""
        key = (target, place)
        self.totals[key] = found if key not in self.totals else self.totals[key] + found

    def changes(self) -> Mapping[tuple[str, int], Tensor]:
        """Return minus the whole wished change of each target at each junction, averaged over the batch."""
        self.totals = {key: own.real if own.is_complex() else own for key, own in self.totals.items()}
        for place, function in self.prepared.functions.get("", {}).items():
            for target, found in function(self.moment).items():
                self.add(target, place, found)
        return self.totals
