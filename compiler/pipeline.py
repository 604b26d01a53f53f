"""The ladder from text to checked networks and experiments: parse, bind, elaborate, type, fit.

In: a source, the folders that may be read, parameter values. Out: `Checked`, whose graphs are typed, and a
bag of every error found. Reads no file but those that the spec uses; imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec.compiler.catalog import catalog
from nnspec.compiler.doubts import warn_of_constraints, warn_of_cuts
from nnspec.compiler.elaborate import elaborate, evaluate_lets
from nnspec.compiler.experiment import Analysis, Experiment, objectives_in
from nnspec.compiler.ir import Graph
from nnspec.compiler.laid import Laid, lay_over
from nnspec.compiler.objective_scope import names_in
from nnspec.compiler.parameters import check_overrides
from nnspec.compiler.typing import type_graph
from nnspec.compiler.unread import warn_of_unread
from nnspec.dsl.bind import bind
from nnspec.dsl.definitions import Definition, Definitions
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.dimensions import Size
from nnspec.dsl.imports import Importer
from nnspec.dsl.load import load_source
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source
from nnspec.dsl.syntax import Expect, File

if TYPE_CHECKING:
    from nnspec.compiler.claims.networks import Claimed


class Checked:
    """A spec and what the compiler made of it. Graphs are made once for each list of parameters."""

    def __init__(self, definitions: Definitions, bag: Bag) -> None:
        self.definitions = definitions
        self.bag = bag
        self.experiments: tuple[Experiment, ...] = ()
        self.analyses: tuple[Analysis, ...] = ()
        self.claimed: tuple[Claimed, ...] = ()  # networks with claims
        self.unasked: list[str] = []  # networks and experiments whose claims are of other parameters
        self.sizes: dict[int, Mapping[str, Size]] = {}  # by id of a network: what an experiment's data say
        self.lets = evaluate_lets(definitions, bag)
        self._elaborated: dict[Any, Graph | None] = {}
        self._graphs: dict[Any, Graph | None] = {}

    @property
    def source(self) -> Source:
        return self.definitions.module.source

    def networks(self) -> tuple[Definition, ...]:
        """Return the file's own networks, in order."""
        return self.definitions.of_kind("network")

    def chosen(self, name: str | None) -> str | None:
        """Return the network to which parameters are given: that of a name, else the last one."""
        networks = self.networks()
        return name or (networks[-1].name if networks else None)

    def network(self, name: str) -> Definition | None:
        """Return a network by name, those of used files too."""
        found = self.definitions.module.names.get(name)
        return found if isinstance(found, Definition) and found.kind == "network" else None

    def graph(
        self,
        definition: Definition,
        parameters: Mapping[str, Any] | None = None,
        sizes: Mapping[str, Size] | None = None,
        laid: tuple[Laid, ...] = (),
    ) -> Graph | None:
        """Return a network's typed graph, or None after errors went to the bag.

        `parameters` overrides defaults; `sizes` gives numbers to symbolic input dimensions, which are
        otherwise those of the data of the first experiment that names the network. `laid` are lines of an
        experiment about weights.
        """
        sizes = dict(sizes or self.sizes.get(id(definition), {}))
        key = (_key(definition, parameters or {}, laid), repr(sorted(sizes.items())))
        if key not in self._graphs:
            graph = self.elaborated(definition, parameters, laid)
            self._graphs[key] = None if graph is None else type_graph(graph, self.bag, sizes)
        return self._graphs[key]

    def warn(self) -> None:
        """Add warnings about graphs that are right; a spec with errors has enough to say."""
        if self.bag.failed:
            return
        for graph in self._graphs.values():
            if graph is not None:
                warn_of_unread(graph, self.bag, self.judged(graph))
                warn_of_constraints(graph, self.bag)
                warn_of_cuts(graph, self.bag, self.judged(graph))

    def judged(self, graph: Graph) -> frozenset[str]:
        """Return the names that losses and metrics of experiments on a network speak of."""
        own = [experiment for experiment in self.experiments if experiment.graph.name == graph.name]
        found = [objective.source.expression for objective in objectives_in(tuple(own))]
        return frozenset(name.name for expression in found for name in names_in(expression))

    def elaborated(
        self,
        definition: Definition,
        parameters: Mapping[str, Any] | None = None,
        laid: tuple[Laid, ...] = (),
    ) -> Graph | None:
        """Return a network's graph before its shapes are known; None after errors went to the bag."""
        parameters = dict(parameters or {})
        key = _key(definition, parameters, laid)
        if key not in self._elaborated and laid:
            graph = self.elaborated(definition, parameters)
            self._elaborated[key] = (
                None if graph is None else lay_over(graph, laid, self.definitions, self.bag, self.lets)
            )
        if key not in self._elaborated:
            error = check_overrides(definition, parameters)
            if error is not None:
                self.bag.add(error)
            made = error is None
            self._elaborated[key] = (
                elaborate(self.definitions, definition, parameters, self.bag, self.lets) if made else None
            )
        return self._elaborated[key]


def _key(definition: Definition, parameters: Mapping[str, Any], laid: tuple[Laid, ...] = ()) -> Any:
    return id(definition), repr(sorted(parameters.items())), tuple(id(line.statement) for line in laid)


def check(
    source: Source,
    bag: Bag,
    *,
    folders: tuple[Path, ...] = (),
    parameters: Mapping[str, Any] | None = None,
    network: str | None = None,
) -> Checked:
    """Check a spec as far as it goes; every error found is in the bag.

    `folders` are those that `use` may read beside the spec's own. `parameters` override those of the
    network that is named, or of the last one.
    """
    file = parse(source, bag)
    if bag.failed:  # names in statements that could not be read would all seem undefined
        file = File(items=(), source=source)
    own = () if source.path is None else (source.path.parent,)
    importer = Importer((*own, *folders), load_source, parse, bag)
    definitions = bind(source, file, catalog(), importer)
    checked = Checked(definitions, bag)
    open_ended = _check_networks(checked, parameters or {}, network)
    before = len(bag)
    if not definitions.incomplete:
        _fit(checked, parameters or {}, network)
    for definition, given in open_ended:
        if len(bag) == before or id(definition) in checked.sizes:
            checked.graph(definition, given)
    if not definitions.incomplete:
        _claims(checked, parameters or {}, network)
    checked.warn()
    return checked


def _check_networks(
    checked: Checked, parameters: Mapping[str, Any], name: str | None
) -> list[tuple[Definition, Mapping[str, Any]]]:
    """Elaborate and type every network that its defaults (and the values given) are enough for.

    Return those whose inputs have symbolic dimensions: data may give them numbers, so they are typed last.
    """
    open_ended: list[tuple[Definition, Mapping[str, Any]]] = []
    chosen = checked.chosen(name)
    for definition in checked.networks():
        given: Mapping[str, Any] = parameters if definition.name == chosen else {}
        declared = definition.item.parameters
        if all(p.default is not None or p.name in given for p in declared):
            graph = checked.elaborated(definition, given)
            if graph is not None and _is_symbolic(graph):
                open_ended.append((definition, given))
            else:
                checked.graph(definition, given)
    return open_ended


def _is_symbolic(graph: Graph) -> bool:
    sizes = (size for port in graph.root.inputs if port.declared for size in port.declared.shape)
    return any(not isinstance(size, int) for size in sizes)


def _fit(checked: Checked, parameters: Mapping[str, Any], name: str | None) -> None:
    from nnspec.compiler.fit import fit

    fit(checked, parameters, name)


def _claims(checked: Checked, parameters: Mapping[str, Any], name: str | None) -> None:
    bodies = [getattr(definition.item, "body", ()) for definition in checked.networks()]
    if any(isinstance(statement, Expect) for body in bodies for statement in body):
        from nnspec.compiler.claims.networks import check_claims

        checked.claimed = check_claims(checked, parameters, checked.chosen(name))
