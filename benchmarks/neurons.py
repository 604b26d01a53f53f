"""Certifying that a large random mask has no symmetry, beside one numpy pass over its edges; other masks beside it.

In: nothing. Out: tables in Markdown. The network is 1024-16384-16384-10, each entry of its masks kept with
probability 1/1000. One pass is what any algorithm on the edges begins with: the list of edges is put in order (`numpy.sort`
of one whole number an edge) and they are counted by vertex (`numpy.bincount`). Beside it stands the least that a pass can
be, with edges in whatever order they are: numbers of the vertices at one end added up at the other (`numpy.add.at`).
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy
from rounds import seconds, table

from nnspec.compiler.symmetry.automorphisms import automorphisms
from nnspec.compiler.symmetry.refinement import ColouredGraph

ROUNDS = 15
SIZES = (1024, 16384, 16384, 10)


def chain(sizes: tuple[int, ...], places: list[tuple[Any, Any]]) -> ColouredGraph:
    """Return the neurons of a network of masked layers, each (units, inputs) that are joined; its ends are fixed."""
    begins = numpy.cumsum([0, *sizes])
    colours = numpy.arange(begins[-1])
    for layer in range(1, len(sizes) - 1):
        colours[begins[layer] : begins[layer + 1]] = -layer
    rows = [
        numpy.stack((j + begins[layer], i + begins[layer + 1], numpy.full(len(i), layer)))
        for layer, (i, j) in enumerate(places)
    ]
    return ColouredGraph(colours, *numpy.concatenate(rows, axis=1))


def random(sizes: tuple[int, ...], density: float) -> ColouredGraph:
    generator = numpy.random.default_rng(0)
    places: list[tuple[Any, Any]] = []
    for inputs, units in pairwise(sizes):
        drawn = generator.integers(0, units * inputs, round(density * units * inputs))
        places.append(numpy.divmod(numpy.unique(drawn), inputs))
    return chain(sizes, places)


def masked(size: int, condition: Any) -> ColouredGraph:
    """Return a mask between two hidden layers of one size."""
    every = [numpy.nonzero(numpy.ones(shape)) for shape in ((size, 4), (3, size))]
    return chain(
        (4, size, size, 3), [every[0], numpy.nonzero(condition(*numpy.indices((size, size)))), every[1]]
    )


def certificate() -> list[str]:
    graph = random(SIZES, 1e-3)
    colours, ends = graph.colours, (graph.sources, graph.targets, graph.labels)
    keys = graph.sources * graph.size + graph.targets
    numpy.random.default_rng(1).shuffle(keys)
    values = numpy.arange(graph.size, dtype=numpy.uint64)

    def certify() -> None:
        assert automorphisms(ColouredGraph(colours, *ends)).order == 1

    def one_pass() -> None:
        numpy.bincount(numpy.sort(keys) // graph.size, minlength=graph.size)

    def sums() -> None:
        found = numpy.zeros(graph.size, dtype=numpy.uint64)
        numpy.add.at(found, graph.targets, values[graph.sources])

    alternatives = {
        "certify": certify,
        "pass": one_pass,
        "sums": sums,
    }
    times = seconds(alternatives, ROUNDS)
    own, other, bare = (times[name] for name in alternatives)
    shown = [f"{graph.size:,}", f"{len(keys):,}", *(f"{1e3 * t:.1f} ms" for t in (own, other, bare))]
    return [*shown, f"**{own / other:.2f}**", f"{own / bare:.0f}"]


def plane(i: Any, j: Any) -> Any:
    """Return which points lie on which lines of the projective plane over 13 numbers."""
    q = 13
    points = [(1, x, y) for x in range(q) for y in range(q)] + [(0, 1, y) for y in range(q)] + [(0, 0, 1)]
    return numpy.array(points) @ numpy.array(points).T % q == 0


def examples() -> list[list[str]]:
    graphs = {
        "64-256-256-10, dense": random((64, 256, 256, 10), 40.0),
        "64-256-256-10, density 0.01": random((64, 256, 256, 10), 0.01),
        "1024-16384-16384-10, density 2e-4": random(SIZES, 2e-4),
        "16 blocks of 16 x 16": masked(256, lambda i, j: i // 16 == j // 16),
        "circulant 128 x 128": masked(128, lambda i, j: numpy.isin((i - j) % 128, [0, 1, 3])),
        "projective plane PG(2, 13)": masked(183, plane),
    }
    rows: list[list[str]] = []
    for name, graph in graphs.items():
        automorphisms(graph)  # loads what it needs
        begin = time.perf_counter()
        found = automorphisms(graph)
        took = time.perf_counter() - begin
        order = f"{found.log10_lower:.4f}"
        shown = order if found.exact else f"{order} to {found.log10_upper:.4f}"
        rows.append([name, shown, found.how, f"{1e3 * took:.0f} ms"])
    return rows


def main() -> None:
    head = (
        "neurons",
        "edges",
        "certified trivial",
        "one pass",
        "sums alone",
        "to the pass",
        "to the sums alone",
    )
    print(table(head, [certificate()]))
    print()
    print(table(("mask", "log10 of the order", "by", "time"), examples()))


if __name__ == "__main__":
    main()
