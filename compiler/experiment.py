"""An experiment, checked and fitted to its network: what a run needs to know, and nothing of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nnspec.compiler.ir import Graph
from nnspec.dsl.definitions import Definition, Definitions, Module
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Expression

if TYPE_CHECKING:
    from nnspec.compiler.claims.claim import Claim


class Choice(Node):
    """A catalog word with its arguments, complete and validated: `adam(lr = 0.003)`.

    Values of arguments that are themselves words are choices; lists are tuples.
    """

    family: str
    name: str
    arguments: tuple[tuple[str, Any], ...] = ()
    definition: Definition | None = None  # of a rule that is written in the language
    span: Span | None = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.arguments)

    def __getitem__(self, name: str) -> Any:
        return self.options[name]


class Read(Node):
    """What enters at one input of an objective.

    `kind` says which: "value" (of the network's body), "field" (of the data), "weight" (by its path), or "row"
    (the place of a sample in its batch). `whole` means all rows of the batch at once, for every sample.
    """

    kind: str
    of: str = ""
    whole: bool = False


class Source(Node):
    """An objective as written, and all that is needed to elaborate it."""

    expression: Expression
    module: Module
    definitions: Definitions
    lets: dict[int, Any]


class Objective(Node):
    """A loss or a metric over named values. `graph` is None until the fields of the data are known."""

    text: str  # as written, on one line: what scores are reported under
    metric: Choice | None = None  # laid on the two values of the graph; None: the mean of its one value
    reads: tuple[Read, ...] = ()
    graph: Graph | None = None
    source: Source
    span: Span | None = None

    @property
    def name(self) -> str:
        return self.text

    @property
    def settled(self) -> Graph:
        """The graph, once the data are known."""
        assert self.graph is not None
        return self.graph

    @property
    def coupled(self) -> bool:
        """Whether the loss of a sample depends on the others of its batch."""
        return any(read.whole or read.kind == "row" for read in self.reads)


Judged: TypeAlias = "Choice | Objective"


class Group(Node):
    """Parameters that learn in a way of their own: a `train` block. None: as the experiment says."""

    name: str = ""  # its selector, as written
    keys: tuple[str, ...] | None = None  # state-dict keys; None: all that is learned
    loss: Judged | None = None
    rule: Choice | None = None
    optimizer: Choice | None = None
    schedule: Choice | None = None
    every: int = 1  # steps from one of its own to the next
    during: tuple[float, float] = (0.0, 1.0)  # the fraction of a stage in which it learns


class Load(Node):
    """Tensors that begin as a file says: pairs of state-dict key and name in the file."""

    path: str
    names: tuple[tuple[str, str], ...]
    span: Span | None = None


class PartStart(Node):
    """An instance that begins with the weights of a part of another experiment's network."""

    experiment: Experiment
    paths: tuple[tuple[str, str], ...]  # of each instance in it with weights, here and there
    span: Span | None = None


class Experiment(Node):
    """One experiment of a file."""

    name: str
    graph: Graph  # typed
    data: Choice
    loss: Judged
    rule: Choice  # the field `learn`
    optimizer: Choice
    schedule: Choice | None
    epochs: int | None  # exactly one of epochs and steps is set
    steps: int | None
    batch: int | None  # None: the whole training part at once
    seeds: tuple[int, ...]
    metrics: tuple[Judged, ...]
    evaluate: tuple[Choice, ...] = ()  # family "way": how a trained network is judged; (): as it was trained
    shuffle: bool = True
    seed_mode: str = "streams"
    device: str = "auto"  # auto, cpu, cuda, mps
    precision: str = "float32"  # float32, float64, bfloat16 (mixed)
    stop: Choice | None = None  # early stopping
    save: str = "last"  # "last" or "best"
    stages: tuple[Choice, ...] = ()  # family "stage", selectors as state-dict keys; (): one `fit`
    groups: tuple[Group, ...] = ()  # `train` blocks; (): everything learns alike
    restarts: int = 1  # initialisations of each seed, of which one is kept
    select: Choice | None = None  # which: `min` or `max` of a score on a part
    start: Experiment | None = None  # whose weights it begins with
    parts: tuple[PartStart, ...] = ()  # instances that begin as parts of other networks
    loads: tuple[Load, ...] = ()  # weights that begin as files say
    claims: tuple[Claim, ...] = ()  # what is expected of it
    doc: str | None = None
    span: Span | None = None


class Analysis(Node):
    """One `analyze` item: passes over a network at initialisation or an experiment's trained weights."""

    target: str
    passes: tuple[Choice, ...]  # family "pass"
    graph: Graph
    experiment: Experiment | None
    span: Span | None = None


def objectives_in(value: Any) -> Iterator[Objective]:
    """Yield the losses and metrics that are expressions, wherever in an experiment they stand."""
    if isinstance(value, Objective):
        yield value
    elif isinstance(value, Choice):
        yield from objectives_in(tuple(item for _, item in value.arguments))
    elif isinstance(value, Experiment | Group):
        yield from objectives_in(tuple(getattr(value, name) for name in value.fields_))
    elif isinstance(value, tuple):
        for item in cast(tuple[Any, ...], value):
            yield from objectives_in(item)
