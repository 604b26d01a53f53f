"""What passes about units and their connections share: which weights they look at, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.dsl.catalog import Argument, validate
from nnspec.dsl.diagnostics import Error, SpecError
from nnspec.dsl.errors.fibres import UnfitAnalysis
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.checks.wiring import Wiring
    from nnspec.compiler.emit.load import State
    from nnspec.compiler.passes.analysis import Pass, Subject

WEIGHTS = Argument(
    name="weights",
    kind="choice",
    choices=("trained", "initial"),
    doc="those an experiment ended with, or those it begins with; a network alone has only these",
    default="trained",
)
_ADVICE = "take a network of `state` and `connect` lines, or a chain of layers"


def complete(one: Pass, subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a pass; SpecError with what it refuses."""
    given, _ = validate(one.entry(), dict(options))
    errors = tuple(one.refusals(subject.graph, given, subject.experiment, subject.graph.root.span))
    if errors:
        raise SpecError(errors)
    return given


def unfit(name: str, graph: Graph, span: Span | None) -> Iterator[Error]:
    """Yield why the units of a network cannot be listed, if they cannot."""
    from nnspec.compiler.checks.wiring import Misfit, structure

    try:
        structure(graph)
    except Misfit as misfit:
        yield _error(name, graph, span, misfit)


def wired(name: str, graph: Graph, state: State) -> Wiring:
    """Return the wiring of a network at some weights; SpecError where there is none."""
    from nnspec.compiler.checks.wiring import Misfit, wiring

    try:
        return wiring(graph, state)
    except Misfit as misfit:
        raise SpecError((_error(name, graph, None, misfit),)) from None


def _error(name: str, graph: Graph, span: Span | None, misfit: Exception) -> Error:
    return UnfitAnalysis(span, pass_name=name, network=graph.name, why=str(misfit), advice=_ADVICE)


def states(subject: Subject, options: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
    """Yield the weights to look at, with what they are called: of an experiment's first seeds, or one initialisation."""
    from nnspec.compiler.emit.load import initial_state
    from nnspec.compiler.runtime.short_training import initial_weights

    seeds = () if subject.experiment is None else subject.experiment.seeds[: options["seeds"]]
    if subject.plan is None:
        yield "initial weights", initial_state(subject.graph, 0)
    elif options["weights"] == "trained" and subject.states:
        yield from ((f"trained, seed {seed}", subject.states[number]) for number, seed in enumerate(seeds))
    else:
        yield from ((f"initial, seed {seed}", initial_weights(subject.plan, seed)) for seed in seeds)
