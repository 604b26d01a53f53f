"""Fits analyses: their passes, and the network or the experiment that they look at.

In: an `analyze` item and the experiments that are fitted. Out: a complete `Analysis`; None after errors went to the bag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.derivation import resolve
from nnspec.compiler.experiment import Analysis, Choice, Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.registry import find as find_pass
from nnspec.compiler.values import Refused
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.experiments import NotAnExperiment
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import AnalyzeDefinition, Expression, Member, Name

if TYPE_CHECKING:
    from nnspec.compiler.fit import Fitter


def fit_analysis(
    fitter: Fitter, item: AnalyzeDefinition, experiments: Mapping[str, Experiment]
) -> Analysis | None:
    """Return a fitted analysis; None after errors went to the bag."""
    before = len(fitter.bag)
    configuration = fitter.configuration(fitter.checked.definitions.module)
    passes: list[Choice] = []
    for expression in item.passes:
        try:
            passes.append(configuration.word(expression, "pass", "an analysis"))
        except Refused as refused:
            fitter.report(refused)
    experiment = experiments.get(item.target)
    graph = experiment.graph if experiment is not None else _analysed(fitter, item)
    if graph is None or len(fitter.bag) > before:
        return None
    for choice in passes:
        for error in find_pass(choice.name).refusals(graph, choice.options, experiment, choice.span):
            fitter.bag.add(error)
    if len(fitter.bag) > before:
        return None
    return Analysis(
        target=item.target, passes=tuple(passes), graph=graph, experiment=experiment, span=item.span
    )


def _analysed(fitter: Fitter, item: AnalyzeDefinition) -> Graph | None:
    """Return the graph of the network that an analysis names."""
    span = item.target_span or item.span
    module = fitter.checked.definitions.module
    target = _path(item.target, span)
    definition = resolve(module, target)
    if isinstance(definition, Definition) and definition.kind == "experiment":
        return None  # it has errors of its own
    try:
        if not isinstance(definition, Definition):
            known = [n for n, d in module.names.items() if isinstance(d, Definition)]
            near = nearest(item.target, known)
            raise Refused(UndefinedName(span, name=item.target, suggestion=near))
        if definition.kind != "network":
            found, needed = f"a {definition.kind}", "a network or an experiment"
            error = NotAnExperiment(span, name=item.target, found=found, needed=needed, help=None)
            raise Refused(error)
        return fitter.graph(fitter.network(target, module), {}, span)
    except Refused as refused:
        fitter.report(refused)
        return None


def _path(name: str, span: Span) -> Expression:
    """The expression `a.b` of a dotted name."""
    first, *rest = name.split(".")
    expression: Expression = Name(name=first, span=span)
    for part in rest:
        expression = Member(of=expression, name=part, span=span)
    return expression
