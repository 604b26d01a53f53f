"""`phases`: what states do over the steps of a learning rule's phases, free and nudged.

In: an experiment whose rule lets states settle, and its trained or first weights. Out: for a few rows of the training part
the states after each step of each phase, and their distance to where they would come to rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Result, Subject, Table
from nnspec.compiler.passes.unit_states import WEIGHTS, complete, states
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.fibres import NoSettlingPhase
from nnspec.dsl.errors.weights import NeedsTraining
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.checks.phase_paths import Course
    from nnspec.compiler.runtime.plan import Plan

_POINTS = 100  # steps whose states are listed, beside the last


class Phases(Pass):
    name = "phases"
    heading = "States by phase"
    doc = """What the states of a network do while its learning rule lets them settle: the state of each unit after every step of
    each phase, free and nudged, for the first `samples` rows of the training part, and their distance to the fixed point
    to which that phase leads. It is run by the rule itself, in double precision; the fixed point is where the phase ends
    when it may take 5,000 more steps, and is reported as none if that is not at rest."""
    arguments = (
        WEIGHTS,
        Argument(name="samples", kind="int", doc="how many rows", default=3, at_least=1, at_most=8),
        Argument(name="seeds", kind="int", doc="how many of the experiment's", default=1, at_least=1),
    )
    example = "analyze asymmetric_digits { phases(weights = initial) }"

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        if experiment is None:
            yield NeedsTraining(span, pass_name=self.name, target=graph.name)
        elif not any(map(_settles, _choices(experiment))):
            names = " and ".join(f"`{choice.name}`" for choice in _choices(experiment))
            why = f"{names} of `{experiment.name}` runs no such phase"
            help_text = "analyse an experiment that learns by `equilibrium`, `contrastive_hebbian` or `deep`"
            yield NoSettlingPhase(span, pass_name=self.name, why=why, help=help_text)

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return options.get("weights", "trained") == "trained"

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.checks.phase_paths import phase_paths
        from nnspec.compiler.checks.phase_views import plot
        from nnspec.compiler.runtime.short_training import exactly

        given = complete(self, subject, options)
        assert subject.plan is not None and subject.experiment is not None
        plan = exactly(subject.plan).replace(initial=subject.plan.initial)
        groups, read = _units(plan)
        found: list[tuple[str, tuple[Course, ...]]] = []
        pairs = zip(subject.experiment.seeds, states(subject, given), strict=False)
        for seed, (label, state) in pairs:
            exact = {k: t.double().cpu() if t.is_floating_point() else t.cpu() for k, t in state.items()}
            found.append((label, phase_paths(plan, seed, exact, given["samples"])[0]))
        data: dict[str, Any] = {
            "network": subject.graph.name,
            "groups": groups,
            "read": read,
            "weights": [{"weights": label, "phases": list(map(_course, own))} for label, own in found],
        }
        return Result(
            data=data,
            summary=" ".join(_sentence(label, own) for label, own in found),
            tables=(_table(found),),
            plots=tuple(plot(f"states by phase, {label}", own, read) for label, own in found),
        )


def _choices(experiment: Experiment) -> tuple[Choice, ...]:
    own = [group.rule for group in experiment.groups if group.rule is not None]
    return tuple(dict.fromkeys((*own, *(() if own else (experiment.rule,)))))


def _settles(choice: Choice) -> bool:
    from nnspec.compiler.checks.phase_paths import settles
    from nnspec.compiler.rules.registry import rule_of

    return settles(rule_of(choice), choice.options)


def _units(plan: Plan) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the groups of states laid end to end, and the units that the loss reads."""
    from nnspec.compiler.checks.wiring import size
    from nnspec.compiler.rules.settled.hearing import read_states
    from nnspec.compiler.rules.settled.scheme import loop_of

    groups: list[dict[str, Any]] = []
    read: list[int] = []
    begin = 0
    for state in loop_of(plan.graph).carried:
        count = size(state.declared)
        groups.append({"name": state.name, "units": count})
        read += range(begin, begin + count) if state.name in read_states(plan.graph) else ()
        begin += count
    return groups, read


def _course(own: Course) -> dict[str, Any]:
    """Return one course as JSON; of complex states the real parts."""
    distances: Any = own.distances
    every = max(1, own.steps // _POINTS)
    at = sorted({*range(0, own.steps + 1, every), own.steps})
    shown: Any = own.states.real[at].transpose(0, 1)
    changes: Any = own.changes
    nudge = complex(own.nudge)
    return {
        "phase": own.phase,
        "begins": own.begins,
        "nudge": [nudge.real, nudge.imag] if nudge.imag else nudge.real,
        "steps": own.steps,
        "residual": _finite(own.residual),
        "at_rest": own.rest is not None,
        "distances": None if distances is None else distances.mT.tolist(),
        "changes": [list(map(_finite, row)) for row in changes.mT.tolist()],
        "listed_steps": at,
        "states": [[list(map(_finite, row)) for row in sample] for sample in shown.tolist()],
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _sentence(label: str, courses: Sequence[Course]) -> str:
    from nnspec.compiler.checks.phase_views import label as named

    parts: list[str] = []
    for own in courses:
        distances: Any = own.distances
        if distances is None:
            parts.append(
                f"{named(own)}: no fixed point (residual {own.residual:.2g} after {own.steps} steps)"
            )
        else:
            first, last = float(distances[0].max()), float(distances[-1].max())
            parts.append(
                f"{named(own)}: {own.steps} steps from {first:.2g} to {last:.2g} away from its fixed point"
            )
    return f"{label.capitalize()}: {'; '.join(parts)}."


def _table(found: Sequence[tuple[str, Sequence[Course]]]) -> Table:
    from nnspec.compiler.checks.phase_views import label as named

    rows: list[tuple[Any, ...]] = []
    for label, courses in found:
        for own in courses:
            distances: Any = own.distances
            ends = (None, None) if distances is None else tuple(float(distances[k].max()) for k in (0, -1))
            rest = "yes" if own.rest is not None else "no"
            rows.append((label, named(own), own.begins or "the start", own.steps, own.residual, rest, *ends))
    columns = (
        *("weights", "phase", "begins at", "steps", "residual", "has a fixed point"),
        *("distance to it at first", "at last"),
    )
    return Table(title="States by phase", columns=columns, rows=tuple(rows))


PASSES = (Phases(),)
