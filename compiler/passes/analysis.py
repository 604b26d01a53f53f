"""What an analysis pass is: its words, what it is given, what it returns.

A pass is one class in a file of this folder, listed in the file's `PASSES`. It reads a subject and
returns a `Result`; it changes nothing. What it computes is JSON; tables and plots are views of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import Graph
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.runtime.plan import Plan

Cell: TypeAlias = "str | int | float | None"


class Subject(Node):
    """What is analysed: a typed graph, and where there are some, trained states (by seed)."""

    graph: Graph
    states: tuple[dict[str, Any], ...] = ()  # state dicts of torch tensors; () at initialisation
    experiment: Experiment | None = None
    plan: Plan | None = None  # the experiment with its data, ready to train
    history: tuple[dict[str, Any], ...] = ()  # rows of its run, as far as it was measured


class Table(Node):
    """Rows under column names; numbers stay numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Plot(Node):
    """A picture: `draw(axes)` draws it into a matplotlib Axes; `size` in inches.

    Of several `panels`, rows and columns, `draw` is given an array of Axes; `heights` are the rows' beside each other.
    """

    name: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (4.2, 2.8)
    panels: tuple[int, int] = (1, 1)
    heights: tuple[float, ...] = ()


class Dots(Node):
    """Points in space that belong together: `values` colour them, else `colour` does. `joined` draws a line."""

    name: str
    points: tuple[tuple[float, float, float], ...]
    values: tuple[float, ...] = ()
    colour: str = "#7a828c"
    size: float = 2.0
    joined: bool = False


class Scene(Node):
    """A picture in space that a reader of the report may turn."""

    name: str
    axes: tuple[str, str, str]
    dots: tuple[Dots, ...]
    value: str = ""  # what colours mean


class Picture(Node):
    """A picture in the DOT language: `draw(depth)` gives its text, blocks deeper than `depth` folded."""

    name: str
    draw: Callable[[int | None], str]


class Result(Node):
    """What a pass found. `data` is JSON-able; `summary` one sentence for people."""

    data: dict[str, Any]
    summary: str
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    scenes: tuple[Scene, ...] = ()
    pictures: tuple[Picture, ...] = ()


class Pass:
    """Base of every pass."""

    name: ClassVar[str]
    doc: ClassVar[str]
    heading: ClassVar[str] = ""  # over its part of a report; else its name
    arguments: ClassVar[tuple[Argument, ...]] = ()

    def refusals(
        self,
        graph: Graph,
        options: Mapping[str, Any],
        experiment: Experiment | None,
        span: Span | None,
    ) -> Iterator[Error]:
        """Yield what is wrong with complete options on a network, or on an experiment's, before anything is computed."""
        yield from ()

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        """Return whether it looks at the trained weights of an experiment, which must have been trained then."""
        return True

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        """Analyse a subject. `options` are complete and validated. Raises SpecError on what it refuses."""
        raise TypeError(f"{self.name} does nothing")

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(name=self.name, family="pass", doc=self.doc, arguments=self.arguments)
