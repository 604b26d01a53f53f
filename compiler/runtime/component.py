"""The base of the words of experiments: losses, metrics, optimizers, schedules, data sets.

A component states its name, family, documentation and arguments; `entry()` is what the catalog holds.
Nothing here imports torch: a component does so inside the functions that need it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar

from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.node import Node


class Component:
    """One word of a family. Subclasses state the class attributes."""

    name: str
    family: ClassVar[str]
    doc: str  # first sentence is the summary; gives the formula
    arguments: ClassVar[tuple[Argument, ...]] = ()
    example: ClassVar[str] = ""

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(
            name=self.name,
            family=self.family,
            doc=self.doc,
            arguments=self.arguments,
            example=self.example,
        )


class Misfit(Node):
    """Why two parts of an experiment do not fit; `expected` and `found` are short."""

    why: str
    expected: str | None = None
    found: str | None = None
    help: str | None = None


C = TypeVar("C", bound=Component)


def registered(components: Iterable[C]) -> dict[str, C]:
    """Return components by name; two claims to one word are an error that names both."""
    found: dict[str, C] = {}
    for component in components:
        if component.name in found:
            first = type(found[component.name]).__name__
            raise ValueError(f"`{component.name}` is claimed by {first} and {type(component).__name__}")
        found[component.name] = component
    return found
