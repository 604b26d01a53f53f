"""What an initializer is: one class that says how a word fills a tensor.

In: the tensor's shape and number kind. Out: Python text that fills it in place, as one writes it by hand.
Fans are those of `torch.nn.init`: for a shape [a, b, ..rest] fan-in is b times the rest and fan-out a times the
rest, so that a matrix maps its second axis to its first, as the weight of `dense` does. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.dimensions import Size


class Initializer:
    """Base of every initializer."""

    name: str
    doc: str
    arguments: ClassVar[tuple[Argument, ...]] = ()
    least_axes: ClassVar[int] = 0  # those that speak of fans need two axes
    example: str = ""

    def made(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str | None:
        """Return the expression of a new tensor that needs no filling; None if it is filled afterwards."""
        return None

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        """Return the statement that fills a tensor in place."""
        raise TypeError(f"{self.name} has no fill rule")

    def problem(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str | None:
        """Return why a tensor cannot begin so; None if it can."""
        if len(shape) < self.least_axes:
            return f"`{self.name}` speaks of an input and an output side, and needs two axes"
        if dtype != "real":
            return f"`{self.name}` gives real numbers, and this tensor holds another kind"
        return None

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(
            name=self.name,
            family="initializer",
            doc=self.doc,
            arguments=self.arguments,
            example=self.example,
        )
