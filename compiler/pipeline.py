"""The ladder from text to checked networks and experiments: parse, bind, elaborate, type, fit.

In: a source, the folders that may be read, parameter values. Out: `Checked`, whose graphs are typed, and a
bag of every error found. Reads no file but those that the spec uses; imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnspec.dsl.load import load_source
from nnspec.dsl.parse import parse

from nnspec.compiler.catalog import catalog
from nnspec.compiler.elaborate import check_overrides, elaborate
from nnspec.compiler.experiment import Analysis, Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.typing import type_graph
from nnspec.dsl.bind import bind
from nnspec.dsl.definitions import Definition, Definitions
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.dimensions import Size
from nnspec.dsl.imports import Importer
from nnspec.dsl.source import Source


class Checked:
    """A spec and what the compiler made of it. Graphs are made once for each list of parameters."""

    def __init__(self, definitions: Definitions, bag: Bag) -> None:
        self.definitions = definitions
        self.bag = bag
        self.experiments: tuple[Experiment, ...] = ()
        self.analyses: tuple[Analysis, ...] = ()
        self._graphs: dict[Any, Graph | None] = {}

    @property
    def source(self) -> Source:
        return self.definitions.module.source

    def networks(self) -> tuple[Definition, ...]:
        """Return the file's own networks, in order."""
        return self.definitions.of_kind("network")

    def network(self, name: str) -> Definition | None:
        """Return a network by name, those of used files too."""
        found = self.definitions.module.names.get(name)
        return found if isinstance(found, Definition) and found.kind == "network" else None

    def graph(
        self,
        definition: Definition,
        parameters: Mapping[str, Any] | None = None,
        sizes: Mapping[str, Size] | None = None,
    ) -> Graph | None:
        """Return a network's typed graph, or None after errors went to the bag.

        `parameters` overrides defaults; `sizes` gives numbers to symbolic input dimensions.
        """
        parameters = dict(parameters or {})
        key = (id(definition), repr(sorted(parameters.items())), repr(sorted((sizes or {}).items())))
        if key not in self._graphs:
            self._graphs[key] = self._make(definition, parameters, sizes or {})
        return self._graphs[key]

    def _make(
        self, definition: Definition, parameters: Mapping[str, Any], sizes: Mapping[str, Size]
    ) -> Graph | None:
        error = check_overrides(definition, parameters)
        if error is not None:
            self.bag.add(error)
            return None
        graph = elaborate(self.definitions, definition, parameters, self.bag)
        return None if graph is None else type_graph(graph, self.bag, sizes)


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
    own = () if source.path is None else (source.path.parent,)
    importer = Importer((*own, *folders), load_source, parse, bag)
    definitions = bind(source, file, catalog(), importer)
    checked = Checked(definitions, bag)
    _check_networks(checked, parameters or {}, network)
    _fit(checked, parameters or {}, network)
    return checked


def _check_networks(checked: Checked, parameters: Mapping[str, Any], name: str | None) -> None:
    """Elaborate and type every network that its defaults (and the values given) are enough for."""
    networks = checked.networks()
    chosen = name or (networks[-1].name if networks else None)
    for definition in networks:
        given: Mapping[str, Any] = parameters if definition.name == chosen else {}
        declared = definition.item.parameters
        if all(p.default is not None or p.name in given for p in declared):
            checked.graph(definition, given)


def _fit(checked: Checked, parameters: Mapping[str, Any], name: str | None) -> None:
    from nnspec.compiler.fit import fit

    fit(checked, parameters, name)
