"""`from GRAPH`: which units a connection joins, said by a graph whose nodes are the units.

In: a word such as `small_world(neighbours = 4)`, drawn with a seed by networkx, or a GraphML file, and how many units
there are. Out: the edges between them. The words are a family of the catalog; networkx is imported where a spec asks for
one, and nothing here imports torch or numpy.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.constraints.topology import MOST_ENTRIES
from nnspec.compiler.evaluate_owned import word
from nnspec.compiler.systems.graphml import BadGraph, Edges, read_graphml
from nnspec.compiler.values import Refused, source_text
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.errors.systems import WrongGraph
from nnspec.dsl.syntax import Expression

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator

GRAPH = "graph"  # the family
_LARGEST_FILE = 2**26

_SEED = Argument(name="seed", kind="int", doc="what the draw begins with", default=0, at_least=0)
_SHARE = {"kind": "real", "at_least": 0.0, "at_most": 1.0}


def _entry(name: str, doc: str, *arguments: Argument, example: str) -> Entry:
    return Entry(name=name, family=GRAPH, doc=doc, arguments=arguments, example=example)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries."""
    return (
        _entry("complete", "Every ordered pair of two units.", example="connect h -> h from complete"),
        _entry(
            "random",
            "Each ordered pair with one probability, by itself (Gilbert 1959).",
            Argument(name="density", doc="the probability", **cast("Any", _SHARE)),
            _SEED,
            example="connect h -> h from random(density = 0.1)",
        ),
        _entry(
            "acyclic",
            "From units to later ones alone, each pair with one probability: no cycle, as in a feed-forward network.",
            Argument(name="density", doc="the probability", default=1.0, **cast("Any", _SHARE)),
            _SEED,
            example="connect [h, o] -> [h, o] from acyclic",
        ),
        _entry(
            "layered",
            "Units in layers of these sizes, from each layer to the next and, with `back`, to the one before.",
            Argument(name="sizes", kind="int", doc="of the layers, in order", listed="yes", at_least=1),
            Argument(name="back", kind="bool", doc="whether edges lead back too", default=False),
            example="connect [a, b, o] -> [a, b, o] from layered([20, 20, 10], back = true)",
        ),
        _entry(
            "small_world",
            """A ring in which each unit is joined with its nearest neighbours, edges being moved elsewhere with a
probability (Watts, Strogatz 1998). Every edge leads both ways.""",
            Argument(name="neighbours", kind="int", doc="of a unit on the ring", default=4, at_least=1),
            Argument(name="rewire", doc="the probability", default=0.1, **cast("Any", _SHARE)),
            _SEED,
            example="connect h -> h from small_world(neighbours = 6, rewire = 0.2)",
        ),
        _entry(
            "scale_free",
            """Units added one after another, each joined with `links` others, those with many edges the more likely
(Barabasi, Albert 1999). Every edge leads both ways.""",
            Argument(name="links", kind="int", doc="of a new unit", default=2, at_least=1),
            _SEED,
            example="connect h -> h from scale_free(links = 3)",
        ),
        _entry(
            "graphml",
            """The nodes of a GraphML file, in its order, and its edges; an undirected one leads both ways. networkx
writes such a file of any of its graphs: `networkx.write_graphml(graph, "brain.graphml")`.""",
            Argument(name="path", kind="text", doc="of the file, beside the spec"),
            example='connect h -> h from graphml("brain.graphml")',
        ),
    )


def edges_of(evaluator: Evaluator, written: Expression, units: int) -> Edges:
    """Return the graph that a word means for so many units, or raise Refused."""
    found = word(evaluator, written, GRAPH)
    options = found.options
    if units * units > MOST_ENTRIES:
        raise _wrong(written, f"{units:,} units have too many pairs", "at most 4,096 units")
    if found.name == "graphml":
        made = _file(evaluator, written, options["path"])
        if made.nodes != units:
            why = f"it has {made.nodes:,} nodes, and the sources have {units:,} units"
            raise _wrong(
                written, why, "a node is a unit: write `connect A -> B`, the groups of A making so many"
            )
        return made
    try:
        edges = _DRAWN[found.name](units, options)
    except _Unfit as unfit:
        raise _wrong(written, str(unfit), "choose other numbers") from None
    return Edges(nodes=units, edges=tuple(edges))


class _Unfit(Exception):
    """There is no such graph of so many units."""


def _complete(units: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    return [(i, j) for i in range(units) for j in range(units) if i != j]


def _acyclic(units: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    draw = Random(options["seed"])
    pairs = [(i, j) for i in range(units) for j in range(i + 1, units)]
    return [pair for pair in pairs if options["density"] == 1 or draw.random() < options["density"]]


def _layered(units: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    sizes: tuple[int, ...] = options["sizes"]
    if sum(sizes) != units:
        raise _Unfit(f"its layers make {sum(sizes):,} units, and there are {units:,}")
    starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    layers = [range(*ends) for ends in itertools.pairwise(starts)]
    found = [(i, j) for left, right in itertools.pairwise(layers) for i in left for j in right]
    return [*found, *((j, i) for i, j in found)] if options["back"] else found


def _random(units: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    graph = _generator("gnp_random_graph")(units, options["density"], seed=options["seed"], directed=True)
    return list(graph.edges)


def _small_world(units: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    near: int = options["neighbours"]
    if near % 2 or near >= units:
        raise _Unfit(f"`neighbours` is an even number below the {units:,} units, half of them on each side")
    return _both(_generator("watts_strogatz_graph")(units, near, options["rewire"], seed=options["seed"]))


def _scale_free(units: int, options: dict[str, Any]) -> list[tuple[int, int]]:
    if options["links"] >= units:
        raise _Unfit(f"`links` is below the {units:,} units")
    return _both(_generator("barabasi_albert_graph")(units, options["links"], seed=options["seed"]))


def _generator(name: str) -> Any:
    import networkx

    return getattr(networkx, name)


def _both(graph: Any) -> list[tuple[int, int]]:
    return [pair for i, j in graph.edges for pair in ((i, j), (j, i))]


_DRAWN = {
    "complete": _complete,
    "random": _random,
    "acyclic": _acyclic,
    "layered": _layered,
    "small_world": _small_world,
    "scale_free": _scale_free,
}


def _file(evaluator: Evaluator, written: Expression, name: str) -> Edges:
    from nnspec.compiler.constraints.files import allowed

    path = allowed(evaluator, name, written.span, WrongGraph, {"text": source_text(written)}, "*.graphml")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BadGraph("it is too large")
        return read_graphml(Path(path).read_bytes())
    except BadGraph as bad:
        raise _wrong(
            written, str(bad), "networkx writes one: `networkx.write_graphml(graph, path)`"
        ) from None
    except OSError as error:
        raise _wrong(written, f"it cannot be read ({error.strerror})", None) from None


def _wrong(written: Expression, why: str, help_text: str | None) -> Refused:
    return Refused(WrongGraph(written.span, text=source_text(written), why=why, help=help_text))
