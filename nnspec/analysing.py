"""Runs analyses for the command line: those that a file asks for, or one given as `--pass`.

An analysis of a network reads it at initialisation, one of an experiment the weights of its finished run.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from nnspec import exits
from nnspec.compiler.claims.judge import result_of
from nnspec.compiler.experiment import Analysis, Choice
from nnspec.compiler.fit import Fitter
from nnspec.compiler.fit_analyses import fit_analysis
from nnspec.dsl.diagnostics import Bag, Error, SpecError
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.node import Node
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source
from nnspec.dsl.syntax import AnalyzeDefinition
from nnspec.exits import Stop, UsageError
from nnspec.spec import Spec
from nnspec.terminal import complain

if TYPE_CHECKING:
    from nnspec.compiler.passes.analysis import Result, Subject


class Found(Node):
    """What one pass found of one network or experiment."""

    target: str
    analysis: str
    result: Result

    def json(self) -> dict[str, Any]:
        return {"target": self.target, "pass": self.analysis, "data": self.result.data}


def asked_for(spec: Spec, target: str, text: str, parameters: Mapping[str, Any]) -> Analysis:
    """Return the analysis of a pass as it is written in a spec: `symmetry(verify = true)`.

    Raises UsageError where the file has nothing called `target`.
    """
    source = Source("--pass", f"analyze {target} {{\n  {text}\n}}\n")
    bag = Bag()
    items = parse(source, bag).items
    found = None
    if not bag.failed and len(items) == 1 and isinstance(items[0], AnalyzeDefinition):
        fitter = Fitter(spec.checked, parameters, None)
        fitter.bag = bag
        experiments = {experiment.name: experiment for experiment in spec.checked.experiments}
        found = fit_analysis(fitter, items[0], experiments)
    for error in bag:
        if error.span is not None and error.span.source is source and error.span.line == 1:
            if isinstance(error, UndefinedName):
                raise UsageError(spec.nothing_called(target))
            error.span = None  # the line of the target, which the user did not write
    complain(*bag)
    if found is None:
        raise Stop(exits.USAGE)
    return found


def analyse(analysis: Analysis, spec: Spec, options: Namespace) -> list[Found]:
    """Run the passes of an analysis. Raises RunError where the weights of an experiment are missing.

    Of `options`, those of `add_training` say where the data and the run are. A pass that refuses raises
    SpecError.
    """
    subject = _subject(analysis, spec, options)
    return [_found(analysis, choice, subject) for choice in analysis.passes]


def analyse_all(analysis: Analysis, spec: Spec, options: Namespace) -> tuple[list[Found], list[Error]]:
    """Run the passes of an analysis as `analyse` does; what a pass refuses stands in the place of its result."""
    from nnspec.compiler.passes.analysis import Result

    found: list[Found] = []
    errors: list[Error] = []
    subject = _subject(analysis, spec, options)
    for choice in analysis.passes:
        try:
            found.append(_found(analysis, choice, subject))
        except SpecError as refused:
            errors += refused.errors
            said = [f"{e.code}: {e.message}" + (f" ({e.help})" if e.help else "") for e in refused.errors]
            result = Result(data={"errors": said}, summary=f"Not done. {' '.join(said)}")
            found.append(Found(target=analysis.target, analysis=choice.name, result=result))
    return found, errors


def judge_claims(spec: Spec, names: Collection[str] | None = None) -> tuple[list[Found], bool]:
    """Judge the claims about networks, all or those named; print those that fail, return whether any does."""
    found: list[Found] = []
    failed = False
    for claimed in spec.checked.claimed:
        if claimed.claims and (names is None or claimed.name in names):
            verdicts = claimed.verdicts()
            errors = [verdict.error for verdict in verdicts if verdict.error is not None]
            complain(*errors)
            failed = failed or bool(errors)
            found.append(Found(target=claimed.name, analysis="claims", result=result_of(verdicts)))
    return found, failed


def _found(analysis: Analysis, choice: Choice, subject: Subject) -> Found:
    from nnspec.compiler.passes.registry import find

    try:
        result = find(choice.name).run(subject, choice.options)
    except SpecError as refused:
        for error in refused.errors:  # what is refused stands where the pass was asked for
            error.span = error.span or choice.span
        raise
    return Found(target=analysis.target, analysis=choice.name, result=result)


def _subject(analysis: Analysis, spec: Spec, options: Namespace) -> Subject:
    from nnspec.compiler.passes.analysis import Subject
    from nnspec.compiler.passes.registry import find

    if analysis.experiment is None:
        return Subject(graph=analysis.graph)
    from nnspec.compiler.runtime.plan import prepare
    from nnspec.compiler.runtime.runs import find_run, kept_history, load_state

    plan = prepare(analysis.experiment, options.data_root or spec.folder, options.device)
    states: tuple[dict[str, Any], ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    if any(find(choice.name).reads_weights(choice.options) for choice in analysis.passes):
        path = find_run(options.out, plan)
        states = tuple(load_state(path, seed) for seed in analysis.experiment.seeds)
        history = kept_history(path)
    return Subject(graph=plan.graph, states=states, experiment=plan.experiment, plan=plan, history=history)
