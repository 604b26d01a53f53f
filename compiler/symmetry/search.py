"""The exact group of a small coloured graph: individualise a vertex, refine, and look for what matches.

In: a coloured graph and a budget of refinements. Out: strong generators and the order, or how far the search came.
The first path fixes vertices v_1, v_2, .. until colours tell all apart. The order is the product of the orbits
of v_k under the automorphisms that fix v_1 .. v_(k-1) (orbit and stabiliser); an automorphism that takes v_k to
another vertex of its class is found, and verified edge by edge, or refuted, by a search that refines both sides
alike (McKay and Piperno 2014, "Practical graph isomorphism II", arXiv:1301.1493, without their pruning). Meant for
what is left of a graph when twins and equal components are taken out.
"""

from __future__ import annotations

import numpy

from nnspec.compiler.symmetry.refinement import Array, ColouredGraph, cells, classes, mixed, refined
from nnspec.dsl.node import Node

_MARK = numpy.uint64(0xD6E8FEB86659FD93)


class Spent(Exception):
    """Raised when the budget is used up."""


class Found(Node):
    """Generators, as arrays of images, and the sizes of the orbits along the first path.

    `is_whole` says that the search ended; otherwise the orbits are those of a subgroup.
    """

    generators: tuple[Array, ...]
    orbits: tuple[int, ...]
    is_whole: bool


def search(graph: ColouredGraph, hashes: Array, budget: int) -> Found:
    """Return the automorphism group; `hashes` are refined colours, `budget` how many refinements may be made."""
    return _Search(graph, budget).run(hashes)


class _Search:
    def __init__(self, graph: ColouredGraph, budget: int) -> None:
        self.graph = graph
        self.left = budget
        self.path: list[
            tuple[Array, Array]
        ] = []  # hashes before, the class of which the first vertex is fixed
        self.leaf: Array = numpy.empty(0)
        self.sorted: list[Array] = []  # the sorted hashes at each depth, the last of the leaf
        self.generators: list[Array] = []

    def run(self, hashes: Array) -> Found:
        orbits: list[int] = []
        try:
            self.descend(hashes)
            for depth in range(len(self.path) - 1, -1, -1):
                orbits.append(self.orbit(depth))
        except Spent:
            return Found(generators=tuple(self.generators), orbits=tuple(orbits), is_whole=False)
        return Found(generators=tuple(self.generators), orbits=tuple(orbits), is_whole=True)

    def descend(self, hashes: Array) -> None:
        while classes(hashes) < self.graph.size:
            self.sorted.append(numpy.sort(hashes))
            cell = _target(hashes)
            self.path.append((hashes, cell))
            hashes = self.fixed(hashes, int(cell[0]))
        self.sorted.append(numpy.sort(hashes))
        self.leaf = hashes

    def fixed(self, hashes: Array, vertex: int) -> Array:
        """Return the colours refined after a vertex has got one of its own."""
        if self.left <= 0:
            raise Spent
        self.left -= 1
        hashes = hashes.copy()
        hashes[vertex] = mixed(hashes[vertex : vertex + 1] ^ _MARK)[0]
        return refined(self.graph, hashes)

    def orbit(self, depth: int) -> int:
        """Return the size of the orbit of the vertex fixed at a depth, adding the generators that make it."""
        hashes, cell = self.path[depth]
        first = int(cell[0])
        merged = _Merged(self.graph.size, self.generators)
        refuted: set[int] = set()
        for vertex in cell[1:].tolist():
            root = merged.root(vertex)
            if root == merged.root(first) or root in {merged.root(other) for other in refuted}:
                continue
            image = self.match(depth + 1, self.fixed(hashes, vertex))
            if image is None:
                refuted.add(vertex)
            else:
                self.generators.append(image)
                merged.add(image)
        return sum(merged.root(vertex) == merged.root(first) for vertex in cell.tolist())

    def match(self, depth: int, hashes: Array) -> Array | None:
        """Return an automorphism from the first path to colours that came from it in the same way; None if none is."""
        if not numpy.array_equal(numpy.sort(hashes), self.sorted[depth]):
            return None
        if depth == len(self.path):
            image = numpy.empty(self.graph.size, dtype=numpy.int64)
            image[numpy.argsort(self.leaf)] = numpy.argsort(hashes)
            return image if self.graph.is_automorphism(image) else None
        own, cell = self.path[depth]
        for vertex in numpy.flatnonzero(hashes == own[cell[0]]).tolist():
            image = self.match(depth + 1, self.fixed(hashes, vertex))
            if image is not None:
                return image
        return None


def _target(hashes: Array) -> Array:
    """Return the class whose vertices are told apart next: a largest one, in which vertices have least in common."""
    return max(cells(hashes), key=len)


class _Merged:
    """Orbits of the group that permutations generate."""

    def __init__(self, size: int, generators: list[Array]) -> None:
        self.parents = list(range(size))
        for image in generators:
            self.add(image)

    def root(self, vertex: int) -> int:
        while self.parents[vertex] != vertex:
            self.parents[vertex] = self.parents[self.parents[vertex]]
            vertex = self.parents[vertex]
        return vertex

    def add(self, image: Array) -> None:
        moved = numpy.flatnonzero(image != numpy.arange(len(image)))
        for vertex in moved.tolist():
            self.parents[self.root(vertex)] = self.root(int(image[vertex]))
