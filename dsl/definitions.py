"""The bound tree: files with their names resolved.

`bind` checks every name and argument name of every body, used or not, and leaves what is evaluated
(sizes, conditions, higher-order layers) to `elaborate`, which walks the same bodies with values at hand.
A definition with a mistake is `broken`: later stages leave it out and say nothing more about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from nnspec.dsl.catalog import Catalog, Entry
from nnspec.dsl.node import Node
from nnspec.dsl.source import Source, Span
from nnspec.dsl.syntax import (
    ActivationDefinition,
    CallOf,
    ConstraintDefinition,
    DynamicsDefinition,
    ExperimentDefinition,
    Expression,
    File,
    Initialize,
    LayerDefinition,
    Name,
    NetworkDefinition,
    RuleDefinition,
    Statement,
)

Body: TypeAlias = (
    LayerDefinition
    | NetworkDefinition
    | ActivationDefinition
    | ConstraintDefinition
    | DynamicsDefinition
    | RuleDefinition
    | ExperimentDefinition
)


class Definition:
    """A layer, network, activation, constraint, dynamics, rule or experiment of a module. Compared by identity."""

    def __init__(self, kind: str, item: Body, module: Module) -> None:
        self.kind = kind
        self.item = item
        self.module = module
        self.broken = False

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def span(self) -> Span:
        return self.item.name_span or self.item.span

    def __repr__(self) -> str:
        return f"Definition({self.kind} {self.name})"


class Constant(Node):
    """A `let`."""

    name: str
    value: Expression
    span: Span


class Module:
    """One file: its names, which are definitions, constants and the modules it uses under a name."""

    def __init__(self, source: Source, file: File) -> None:
        self.source = source
        self.file = file
        self.names: dict[str, Definition | Constant | Module] = {}
        self.places: dict[str, Span] = {}
        self.incomplete = False  # a file that it uses could not be read: any name may come from there

    @property
    def name(self) -> str:
        return self.source.name

    def __repr__(self) -> str:
        return f"Module({self.name})"


class Definitions(Node):
    """A bound file and everything that it uses."""

    module: Module
    modules: tuple[Module, ...]  # the file itself first
    catalog: Catalog
    folders: tuple[Path, ...] = ()  # those that files of a spec may lie in, besides its own

    @property
    def incomplete(self) -> bool:
        """Whether a file that these use, directly or under a prefix, could not be read."""
        used = (m for m in self.module.names.values() if isinstance(m, Module))
        return self.module.incomplete or any(module.incomplete for module in used)

    def of_kind(self, kind: str) -> tuple[Definition, ...]:
        """Return the file's own definitions of a kind, in the order in which they stand."""
        found = self.module.names.values()
        return tuple(
            d for d in found if isinstance(d, Definition) and d.kind == kind and d.module is self.module
        )


Callee: TypeAlias = "Entry | Definition"


def is_load(statement: Statement) -> bool:
    """Return whether a line of an experiment begins weights from a file, which `fit` reads."""
    value = statement.value if isinstance(statement, Initialize) else None
    function = value.function if isinstance(value, CallOf) else value
    return isinstance(function, Name) and function.name == "load"
