"""Labels made wrong on purpose, to learn in spite of them: the words of `digits(corrupt = symmetric(0.4))`.

Only labels of the training part change: exactly the fraction `rate` of its rows (to a whole number), drawn by a seed
of their own. The true labels stay beside them, so that rules can be judged by what they kept. Imports no torch.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry

_ARGUMENTS = (
    Argument(name="rate", kind="real", above=0, at_most=1, doc="the fraction of rows whose label is wrong"),
    Argument(name="seed", kind="int", default=0, at_least=0, doc="which rows, and what they get"),
)


class Corruption(Component):
    """A way to make labels wrong."""

    family = "corruption"
    arguments = _ARGUMENTS

    def wrong(self, labels: Any, classes: int, generator: Any) -> Any:
        """Return a wrong label for each of these."""
        raise TypeError(f"{self.name} changes nothing")


class Symmetric(Corruption):
    name = "symmetric"
    doc = "Wrong labels are any of the other classes, each as likely: symmetric noise."
    example = "data = digits(corrupt = symmetric(0.4))"

    def wrong(self, labels: Any, classes: int, generator: Any) -> Any:
        return (labels + generator.integers(1, classes, len(labels))) % classes


class PairFlip(Corruption):
    name = "pairflip"
    doc = "The wrong label of class k is k + 1, that of the last class 0: asymmetric noise between pairs of classes."
    example = "data = digits(corrupt = pairflip(0.3))"

    def wrong(self, labels: Any, classes: int, generator: Any) -> Any:
        return (labels + 1) % classes


_CORRUPTIONS: dict[str, Corruption] = registered((Symmetric(), PairFlip()))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the corruptions."""
    return tuple(own.entry() for own in _CORRUPTIONS.values())


def corrupted(choice: Choice, labels: Any, classes: int) -> Any:
    """Return labels (row,) of which the fraction asked for is wrong."""
    import numpy

    generator = numpy.random.default_rng([choice["seed"], 2])
    count = round(choice["rate"] * len(labels))
    chosen = generator.permutation(len(labels))[:count]
    found = labels.copy()
    found[chosen] = _CORRUPTIONS[choice.name].wrong(labels[chosen], classes, generator)
    return found
