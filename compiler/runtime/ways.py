"""The ways in which a trained network is judged: as it was trained, hardened, or drawn again and again.

In: the words of `evaluate`. Nothing here imports torch; `judging` does the judging.
"""

from __future__ import annotations

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry


class Way(Component):
    """A way to judge."""

    family = "way"


class Surrogate(Way):
    name = "surrogate"
    doc = "The network as it was trained, with what stands in for hard weights and random numbers."
    example = "evaluate = [surrogate, hard]"


class Hard(Way):
    name = "hard"
    doc = """The network as it would be deployed: weights under straight-through constraints are stored as they are
used, and no map is left to run."""
    example = "evaluate = [surrogate, hard]"


class Samples(Way):
    name = "samples"
    doc = """The network with its random numbers drawn, as in training: the mean of the scores over `count` draws, each
for all rows."""
    arguments = (Argument(name="count", kind="int", at_least=1, at_most=100_000, doc="how many draws"),)
    example = "evaluate = [surrogate, samples(100)]"


_WAYS: dict[str, Way] = registered((Surrogate(), Hard(), Samples()))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the ways to judge."""
    return tuple(way.entry() for way in _WAYS.values())


def title(way: Choice) -> str:
    """Return what scores of a way are reported under: `hard`, `samples(100)`."""
    return f"{way.name}({way['count']})" if way.arguments else way.name
