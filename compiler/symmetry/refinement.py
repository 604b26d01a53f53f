"""Coloured graphs of neurons, and colour refinement: which vertices are told apart by what stands around them.

In: colours of vertices and labelled directed edges, as arrays. Refinement works with hashes that depend on the
structure alone (Weisfeiler and Leman 1968): vertices that an automorphism exchanges always keep equal colours, so
that classes of colours bound the orbits from above, whatever two hashes collide. Imported only where a graph
of neurons is built: it needs numpy.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeAlias

import numpy

Array: TypeAlias = "numpy.ndarray[Any, Any]"

_GOLDEN = numpy.uint64(0x9E3779B97F4A7C15)
_FIRST = numpy.uint64(0xBF58476D1CE4E5B9)
_SECOND = numpy.uint64(0x94D049BB133111EB)
_SHIFTS = tuple(numpy.uint64(n) for n in (30, 27, 31))


def mixed(values: Array) -> Array:
    """Return well-mixed 64-bit hashes (splitmix64: Steele, Lea and Flood 2014)."""
    found = values.astype(numpy.uint64)
    found += _GOLDEN
    found ^= found >> _SHIFTS[0]
    found *= _FIRST
    found ^= found >> _SHIFTS[1]
    found *= _SECOND
    found ^= found >> _SHIFTS[2]
    return found


class ColouredGraph:
    """Vertices 0 .. n - 1 with whole numbers as colours, and directed edges with whole numbers as labels.

    At most one edge of a label leads from one vertex to another.
    """

    def __init__(self, colours: Array, sources: Array, targets: Array, labels: Array) -> None:
        self.colours = colours.astype(numpy.int64, copy=False)
        self.sources = sources.astype(numpy.int64, copy=False)
        self.targets = targets.astype(numpy.int64, copy=False)
        self.labels = labels.astype(numpy.int64, copy=False)

    @property
    def size(self) -> int:
        return len(self.colours)

    @cached_property
    def weights(self) -> Array:
        """A hash of the label of each edge."""
        least, most = int(self.labels.min(initial=0)), int(self.labels.max(initial=0))
        few = least >= 0 and most < len(self.labels)
        return mixed(numpy.arange(most + 1))[self.labels] if few else mixed(self.labels)

    def gathered(self, outward: Array, inward: Array) -> Array:
        """Return for each vertex the sum of `outward` of those its edges lead to and `inward` of those they come from."""
        found = numpy.zeros(self.size, dtype=numpy.uint64)
        for ends, others, values in (
            (self.sources, self.targets, outward),
            (self.targets, self.sources, inward),
        ):
            numpy.take(values, others, out=self._room, mode="clip")
            numpy.multiply(self._room, self.weights, out=self._room)
            numpy.add.at(found, ends, self._room)
        return found

    @cached_property
    def _room(self) -> Array:
        """A number for each edge: new memory for every pass costs more than the pass."""
        return numpy.empty(len(self.sources), dtype=numpy.uint64)

    @cached_property
    def edges(self) -> Array:
        """The edges as rows of (source, target, label), sorted."""
        return _sorted(numpy.stack((self.sources, self.targets, self.labels), axis=1))

    @cached_property
    def adjacency(self) -> tuple[Array, Array]:
        """For each vertex, where its rows begin; the rows (0 out or 1 in, neighbour, label), sorted within a vertex."""
        vertex = numpy.concatenate((self.sources, self.targets))
        other = numpy.concatenate((self.targets, self.sources))
        label = numpy.concatenate((self.labels, self.labels))
        side = numpy.repeat((0, 1), len(self.sources))
        order = numpy.lexsort((label, other, side, vertex))
        begins = numpy.searchsorted(vertex[order], numpy.arange(self.size + 1))
        return begins, numpy.stack((side, other, label), axis=1)[order]

    def is_automorphism(self, image: Array) -> bool:
        """Return whether a permutation of the vertices keeps every colour and every edge."""
        if not numpy.array_equal(self.colours[image], self.colours):
            return False
        moved = numpy.stack((image[self.sources], image[self.targets], self.labels), axis=1)
        return numpy.array_equal(_sorted(moved), self.edges)

    def part(self, vertices: Array) -> ColouredGraph:
        """Return the graph on some of the vertices, numbered in their order."""
        number = numpy.full(self.size, -1)
        number[vertices] = numpy.arange(len(vertices))
        kept = (number[self.sources] >= 0) & (number[self.targets] >= 0)
        sources, targets = number[self.sources[kept]], number[self.targets[kept]]
        return ColouredGraph(self.colours[vertices], sources, targets, self.labels[kept])


def _sorted(rows: Array) -> Array:
    return rows[numpy.lexsort(rows.T[::-1])]


def refined(graph: ColouredGraph, hashes: Array | None = None) -> Array:
    """Return a hash for each vertex, refined until no class of equal hashes falls apart any more."""
    return refined_and_counted(graph, hashes)[0]


def refined_and_counted(graph: ColouredGraph, hashes: Array | None = None) -> tuple[Array, int]:
    """Return refined hashes, and how many different ones there are."""
    now = mixed(graph.colours) if hashes is None else hashes
    before, count = 0, 1
    while before < count < graph.size:
        now = mixed(now ^ mixed(graph.gathered(mixed(now), mixed(~now))))
        before, count = count, classes(now)
    return now, count


def classes(hashes: Array) -> int:
    """Return how many different hashes there are."""
    ordered = numpy.sort(hashes)
    return int((ordered[1:] != ordered[:-1]).sum()) + 1 if len(ordered) else 0


def cells(hashes: Array) -> list[Array]:
    """Return the vertices of each class, classes in the order of their hashes."""
    order = numpy.argsort(hashes, kind="stable")
    ends = numpy.flatnonzero(numpy.diff(hashes[order])) + 1
    return [part for part in numpy.split(order, ends) if len(part)]


def numbered(hashes: Array) -> Array:
    """Return the number of each vertex's class, by the order of the hashes."""
    return numpy.unique(hashes, return_inverse=True)[1]
