"""The fit stage: experiments and analyses against the networks they name.

In: a checked spec whose networks can be made. Out: its `experiments` and `analyses`, complete and
validated; errors go to the spec's bag. Data sets whose fields are known from their word are checked
against the network here; files when they are read (`feeding.feed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.annealing import fit_progress
from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.callables import match_arguments
from nnspec.compiler.configuration import Configuration
from nnspec.compiler.derivation import Written, blocks, claims_in, fields, lines, loads, resolve
from nnspec.compiler.elaborate import Elaborator
from nnspec.compiler.evaluate import Evaluator
from nnspec.compiler.experiment import Choice, Experiment, Objective, PartStart
from nnspec.compiler.experiment_fields import EXAMPLES, FIELDS
from nnspec.compiler.experiment_record import assemble, check_seeds, listed, watched
from nnspec.compiler.feeding import judge, meet
from nnspec.compiler.fit_analyses import fit_analysis
from nnspec.compiler.fit_data import check_rows, check_stop, judge_blocks
from nnspec.compiler.fit_judging import check_search, check_ways, warn_of_batches
from nnspec.compiler.fit_loads import fit_load
from nnspec.compiler.fit_rules import check_equations, check_rules, read_by_rule
from nnspec.compiler.fit_start import begun, check_cycle, check_start, fit_part, parent_of
from nnspec.compiler.fit_training import check_learning, check_length, check_select, fit_blocks, fit_stages
from nnspec.compiler.ir import Graph
from nnspec.compiler.laid import Laid
from nnspec.compiler.objective_fit import check_depends, settle_all
from nnspec.compiler.parameters import bind_parameters
from nnspec.compiler.runtime import data
from nnspec.compiler.values import Given, Refused, describe
from nnspec.dsl.catalog import Argument, validate
from nnspec.dsl.definitions import Definition, Module
from nnspec.dsl.diagnostics import Bag, Error, Related
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.experiments import (
    MissingField,
    WrongField,
)
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    AnalyzeDefinition,
    CallOf,
    Expression,
    Initialize,
    Member,
    Name,
)

if TYPE_CHECKING:
    from nnspec.compiler.pipeline import Checked

_REQUIRED = ("network", "data", "loss", "learn")
# Words of families are validated as they are read; the rest of the record at once, in one model.
_PLAIN_FIELDS = FIELDS.replace(
    arguments=tuple(a for a in FIELDS.arguments if a.kind in ("int", "bool", "choice"))
)
_PLAIN_NAMES = frozenset(argument.name for argument in _PLAIN_FIELDS.arguments)


def fit(checked: Checked, parameters: Mapping[str, Any], network: str | None = None) -> None:
    """Fill in a spec's experiments and analyses.

    `parameters` override those of the network that is named, or of the last one.
    """
    fitter = Fitter(checked, parameters, network)
    experiments: dict[str, Experiment] = {}
    for definition in checked.definitions.of_kind("experiment"):
        experiment = fitter.experiment(definition)
        if experiment is not None:
            experiments[definition.name] = experiment
    checked.experiments = tuple(experiments.values())
    items = checked.definitions.module.file.items
    analyses = [fit_analysis(fitter, i, experiments) for i in items if isinstance(i, AnalyzeDefinition)]
    checked.analyses = tuple(analysis for analysis in analyses if analysis is not None)
    module = checked.definitions.module
    check_equations(checked.definitions.of_kind("rule"), fitter.configuration(module), checked.bag)


class Network:
    """A network as an experiment names it: its definition and the parameters given."""

    def __init__(
        self, definition: Definition, parameters: Mapping[str, Any], laid: tuple[Laid, ...] = ()
    ) -> None:
        self.definition = definition
        self.parameters = parameters
        self.laid = laid  # what experiments say of its weights


class Fitter:
    """Fits the experiments of one spec."""

    def __init__(self, checked: Checked, parameters: Mapping[str, Any], network: str | None) -> None:
        self.checked = checked
        self.bag = checked.bag
        self.catalog = checked.definitions.catalog
        self.elaborator = Elaborator(checked.definitions, checked.bag, checked.lets)
        self.parameters = parameters
        networks = checked.networks()
        self.chosen = network or (networks[-1].name if networks else None)
        self.making: list[Definition] = []  # experiments that are being fitted, the outer ones first
        self._experiments: dict[int, Experiment | None] = {}
        self._configurations: dict[int, Configuration] = {}

    def configuration(self, module: Module) -> Configuration:
        if id(module) not in self._configurations:
            builder = BlockBuilder("experiment", module, {}, frozenset())
            evaluator = Evaluator(self.elaborator, builder)
            self._configurations[id(module)] = Configuration(evaluator, self.catalog)
        return self._configurations[id(module)]

    def report(self, refused: Refused) -> None:
        if refused.error is not None:
            self.bag.add(refused.error)

    # ---------------------------------------------------------------------------------------- experiments

    def experiment(self, definition: Definition) -> Experiment | None:
        """Return a fitted experiment; None after errors went to the bag."""
        if id(definition) not in self._experiments:
            self.making.append(definition)
            self._experiments[id(definition)] = None if definition.broken else self.fitted(definition)
            self.making.pop()
        return self._experiments[id(definition)]

    def fitted(self, definition: Definition) -> Experiment | None:
        before, warnings = len(self.bag), list[Error]()
        written = fields(definition, self.bag)
        if written is None:
            return None
        self.check_present(definition, written)
        network = self.network_of(written, lines(definition))
        values = self.values(written)
        check_rows(values, written, self.bag)
        check_stop(values, written, self.bag)
        graph = None if network is None else self.fit_network(network, values, written)
        graph = None if graph is None else read_by_rule(values, graph, self.bag)
        if graph is not None:
            values |= self.course(definition, values, written, graph)
            graph = fit_progress(graph, values)
            values = self.settled(values, graph)
            values["start"] = self.start(written["network"], graph, values)
            values["parts"] = () if values["start"] else self.parts(graph, values)
            others = bool(self.parameters) and network is not None and network.definition.name == self.chosen
            if len(self.bag) == before and claims_in(definition):  # what cannot be measured has been said
                from nnspec.compiler.claims.experiments import fit_claims

                claims = fit_claims(definition, graph, values, self.elaborator, self.bag, others)
                values["claims"] = () if others else claims
                self.checked.unasked += [claim.of for claim in claims[:1] if others]
            check_ways(values, graph, self.bag)
            check_search(values, self.bag)
            warnings = check_rules(values, graph, self.bag)
        for error in tuple(self.bag)[before:]:
            _say_which(error, definition)
        if graph is None or len(self.bag) > before or any(name not in values for name in _REQUIRED[1:]):
            return None
        warn_of_batches(values, self.bag)
        for warning in warnings:
            self.bag.add(warning)
        return assemble(definition, graph, values)

    def check_present(self, definition: Definition, written: Mapping[str, Written]) -> None:
        for name in _REQUIRED:
            if name not in written:
                error = MissingField(
                    definition.span, experiment=definition.name, name=name, example=EXAMPLES[name]
                )
                self.bag.add(error)
        check_length(definition, written, self.bag)

    def values(self, written: Mapping[str, Written]) -> dict[str, Any]:
        """Return every field but the network, evaluated and validated; wrong ones are left out."""
        values: dict[str, Any] = {}
        for argument in FIELDS.arguments:
            if argument.name in written and argument.name != "network":
                try:
                    values[argument.name] = self.value(written[argument.name], argument)
                except Refused as refused:
                    self.report(refused)
        _, problems = validate(_PLAIN_FIELDS, {n: v for n, v in values.items() if n in _PLAIN_NAMES})
        for problem in problems:
            span, found = written[problem.argument].field.value.span, describe(values[problem.argument])
            self.bag.add(WrongField(span, why=problem.why, found=found, help=None))
        wrong = {problem.argument for problem in problems}
        return {name: value for name, value in values.items() if name not in wrong}

    def value(self, written: Written, argument: Argument) -> Any:
        value = self.configuration(written.module).value(written.field.value, argument)
        if argument.name == "seeds":
            check_seeds(value, written.field.value)
        return value

    def fit_network(
        self, network: Network, values: Mapping[str, Any], written: Mapping[str, Written]
    ) -> Graph | None:
        """Return the typed graph, symbolic inputs sized by the data; check what is known of the data."""
        span = written["network"].field.value.span
        choice: Choice | None = values.get("data")
        known = None if choice is None else data.describe(choice)
        if choice is None or known is None:
            return self.graph(network, {}, span) if choice is not None else None
        graph = self.checked.elaborated(network.definition, network.parameters, network.laid)
        if graph is None:
            return None
        feeds, errors = meet(graph, known, choice.span)
        if feeds.sizes:
            self.checked.sizes.setdefault(id(network.definition), feeds.sizes)
        typed = None if errors else self.graph(network, feeds.sizes, span)
        if typed is not None:
            metrics = (*listed(values.get("metrics", ())), *watched(values.get("stop")))
            errors = judge(typed, known, values.get("loss"), metrics, choice.span)
        for error in errors:
            self.bag.add(error)
        return typed

    def course(
        self,
        definition: Definition,
        values: Mapping[str, Any],
        written: Mapping[str, Written],
        graph: Graph,
    ) -> dict[str, Any]:
        """Return stages and groups fitted to the network; what is wrong with them goes to the bag."""
        found: dict[str, Any] = {"stages": (), "groups": ()}
        before = len(self.bag)
        try:
            check_select(values)
            if "stages" in values:
                field = written["stages"]
                configuration = self.configuration(field.module)
                found["stages"] = fit_stages(values["stages"], graph, configuration, field.field.value.span)
            given = blocks(definition)
            modules = {id(block.module): self.configuration(block.module) for block in given}
            found["groups"] = fit_blocks(given, graph, modules, self.bag)
            judge_blocks(found["groups"], graph, values.get("data"), self.bag)
            found["loads"] = tuple(
                fit_load(line.statement, graph, self.configuration(line.module))
                for line in loads(definition)
                if isinstance(line.statement, Initialize)
            )
            if len(self.bag) == before:
                check_learning(found["stages"], found["groups"], graph, definition.span)
        except Refused as refused:
            self.report(refused)
        return found

    def start(self, written: Written, graph: Graph, values: Mapping[str, Any]) -> Experiment | None:
        """Return the experiment whose weights this one begins with."""
        expression = written.field.value
        parent = parent_of(expression, written.module)
        found = None if parent is None else self.experiment(parent)
        try:
            if found is not None:
                check_start(found, graph, listed(values.get("seeds", 0)), expression.span)
        except Refused as refused:
            self.report(refused)
        return found

    def parts(self, graph: Graph, values: Mapping[str, Any]) -> tuple[PartStart, ...]:
        """Return the instances that begin as parts of other experiments' networks."""
        seeds, found = listed(values.get("seeds", 0)), list[PartStart]()
        for path, child, begins in begun(graph.root):
            parent = self.experiment(begins.definition)
            try:
                if parent is not None:
                    found.append(fit_part(parent, path, child, begins, seeds))
            except Refused as refused:
                self.report(refused)
        return tuple(found)

    def settled(self, values: dict[str, Any], graph: Graph) -> dict[str, Any]:
        """Return the values with losses and metrics that are expressions fitted to network and data."""
        choice: Choice | None = values.get("data")
        if choice is None:
            return values
        known, rows = data.describe(choice), data.part_sizes(choice)
        train = None if rows is None else rows.train
        found = settle_all(values, graph, known, choice, train, self.bag)
        for loss in (found.get("loss"), *(group.loss for group in found.get("groups", ()))):
            if isinstance(loss, Objective):
                check_depends(loss, graph, self.bag)
        return found

    # ------------------------------------------------------------------------------------------- networks

    def network_of(self, written: Mapping[str, Written], laid: tuple[Laid, ...]) -> Network | None:
        if "network" not in written:
            return None
        field = written["network"]
        try:
            found = self.network(field.field.value, field.module)
            return Network(found.definition, found.parameters, (*found.laid, *laid))
        except Refused as refused:
            self.report(refused)
            return None

    def network(self, expression: Expression, module: Module) -> Network:
        """Return the network that `name`, `name(width = 64)` or `trained(experiment)` stands for."""
        parent = parent_of(expression, module)
        if parent is not None:
            return self.network_in(parent, expression.span)
        function = expression.function if isinstance(expression, CallOf) else expression
        definition = resolve(module, function)
        if isinstance(function, Name) and definition is None and self.catalog.anywhere(function.name):
            raise Refused(self.configuration(module).unknown_word(function, "network", "`network`"))
        if not isinstance(definition, Definition) or definition.kind != "network":
            raise Refused(_no_network(function, expression, module, definition))
        if definition.broken:
            raise Refused
        configuration = self.configuration(module)
        arguments = expression.arguments if isinstance(expression, CallOf) else ()
        for argument in arguments:
            configuration.check_given(argument.value)
        given = tuple(configuration.evaluator.given(argument) for argument in arguments)
        names = tuple(parameter.name for parameter in definition.item.parameters)
        matched = match_arguments(definition.name, names, given, expression.span)
        if definition.name == self.chosen:
            overrides = {n: Given(name=n, value=v, expression=None) for n, v in self.parameters.items()}
            matched |= {name: item for name, item in overrides.items() if name in names}
        complete = tuple(item.replace(name=name) for name, item in matched.items())
        bind_parameters(self.elaborator, definition, complete, expression.span)  # here, where it is written
        return Network(definition, {name: item.value for name, item in matched.items()})

    def network_in(self, parent: Definition, span: Span) -> Network:
        """Return the network of an experiment, which is fitted first."""
        check_cycle(parent, self.making, span)
        if self.experiment(parent) is None:
            raise Refused  # it has errors of its own
        written = (fields(parent, Bag()) or {})["network"]
        found = self.network(written.field.value, written.module)
        return Network(found.definition, found.parameters, (*found.laid, *lines(parent)))

    def graph(self, network: Network, sizes: Mapping[str, Size], span: Span | None) -> Graph | None:
        """Return a network's typed graph; errors in it say which experiment asked for it."""
        before = len(self.bag)
        graph = self.checked.graph(network.definition, network.parameters, sizes, network.laid)
        label = f"in this use of `{network.definition.name}`"
        for error in tuple(self.bag)[before:]:
            error.related = (*error.related, *(() if span is None else (Related(span=span, label=label),)))
        return graph


def _say_which(error: Error, definition: Definition) -> None:
    """An error at a line of the experiment that this one derives from says which one it breaks."""
    own = definition.item.span
    if error.span is None or own.source is not error.span.source:
        return
    if not own.start <= error.span.start < own.end:
        label = f"in experiment `{definition.name}`"
        error.related = (*error.related, Related(span=definition.span, label=label))


def _no_network(function: Expression, written: Expression, module: Module, found: object) -> Error:
    if isinstance(function, Name) and function.name == "sweep":
        return NotBuiltYet(written.span, what="`sweep`, several values of one field")
    known = [n for n, d in module.names.items() if isinstance(d, Definition) and d.kind == "network"]
    near = nearest(function.name, known) if isinstance(function, Name) else None
    if isinstance(function, Name | Member) and found is None:
        return UndefinedName(function.span, name=function.span.text, suggestion=near)
    what = f"a {found.kind}" if isinstance(found, Definition) else f"`{written.span.text[:40]}`"
    return WrongField(written.span, why="`network` must be a network", found=what, help=None)
