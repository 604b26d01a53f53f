"""What a distribution is: one class that says how a word draws numbers shaped like a tensor.

In: the numbers that a spec gives. Out: Python text that draws independent numbers, and their mean. Nothing here
imports torch.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnspec.dsl.catalog import Argument, Entry


class Distribution:
    """Base of every distribution."""

    name: ClassVar[str]
    doc: ClassVar[str]
    arguments: ClassVar[tuple[Argument, ...]] = ()
    example: ClassVar[str] = ""

    def draw(self, options: dict[str, Any], like: str) -> str:
        """Return the expression of a new tensor of draws in the shape and number type of `like`."""
        raise TypeError(f"{self.name} has no draw rule")

    def mean(self, options: dict[str, Any]) -> float:
        """Return the mean of a draw."""
        raise TypeError(f"{self.name} has no mean")

    def problem(self, options: dict[str, Any]) -> str | None:
        """Return why there is no such distribution; None if there is."""
        return None

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(
            name=self.name,
            family="distribution",
            doc=self.doc,
            arguments=self.arguments,
            example=self.example,
        )
