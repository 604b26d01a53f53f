"""The automorphism group of a coloured graph: bounds from twins and refinement, exact where little is left.

In: a coloured graph. Out: `Automorphisms`. Colour refinement comes first: where it tells all vertices apart, the
group is proven to be trivial, and the sizes of its classes bound it from above. What refinement fixes or joins
evenly falls away; twins are taken together, for one symmetric group each; components that are equal, vertex for
vertex, for one more. These steps are exact and repeated. A search settles the rest within a budget, then an
engine that is installed; otherwise the two bounds are given.
"""

from __future__ import annotations

from importlib import import_module
from math import factorial, lgamma, log, log10, prod
from typing import Any

import numpy

from nnspec.compiler.symmetry import engines
from nnspec.compiler.symmetry.refinement import Array, ColouredGraph, numbered, refined, refined_and_counted
from nnspec.compiler.symmetry.search import search
from nnspec.compiler.symmetry.twins import twins
from nnspec.dsl.node import Node

VISITS = 10**8  # of vertices and edges, about as many seconds as there are tens of millions
DIGITS = 300  # of orders that are given as whole numbers

Moved = dict[int, int]  # vertices that a permutation moves, with their images


class Automorphisms(Node):
    """The group between two bounds, log10 of its order; `factors` are n for S_n, `orbits` plain factors."""

    log10_lower: float
    log10_upper: float
    factors: tuple[int, ...]
    orbits: tuple[int, ...]
    generators: tuple[Moved, ...]
    how: str

    @property
    def exact(self) -> bool:
        return self.log10_lower == self.log10_upper

    @property
    def order(self) -> int | None:
        """The order, where it is exact and small."""
        if not self.exact or self.log10_lower > DIGITS:
            return None
        if self.how.endswith(engines.NAMES):  # counted in floating point by the engine
            return round(10**self.log10_lower) if self.log10_lower < 12 else None
        return prod(map(factorial, self.factors)) * prod(self.orbits)


def automorphisms(
    graph: ColouredGraph, budget: int | None = None, engine: str | None = None
) -> Automorphisms:
    """Return the group; `engine` names one that settles what is left, in place of the search.

    `budget` is how many refinements the search may make; None leaves it to the size of what is left.
    """
    return _Reduction(graph).run(budget, engine)


class _Reduction:
    """A graph that becomes smaller; each of its vertices stands for several of the first one, in an order."""

    def __init__(self, graph: ColouredGraph) -> None:
        self.graph = graph
        self.members: list[list[int]] = []
        self.factors: list[int] = []
        self.generators: list[Moved] = []
        self.steps: list[str] = []

    def run(self, budget: int | None, engine: str | None) -> Automorphisms:
        hashes, count = refined_and_counted(self.graph)
        self.steps.append("refinement")
        if count == self.graph.size:
            return self.result(0.0, 0.0, ())
        upper = _young(hashes)
        self.members = [[vertex] for vertex in range(self.graph.size)]
        hashes = self.stripped(hashes)
        while self.graph.size and (self.join_twins(hashes) or self.join_components(hashes)):
            hashes = self.stripped(refined(self.graph))
        known = sum(map(_log10_factorial, self.factors))
        if not self.graph.size:
            return self.result(known, known, ())
        return self.settled(hashes, known, min(upper, known + _young(hashes)), budget, engine)

    def settled(
        self, hashes: Array, known: float, upper: float, budget: int | None, engine: str | None
    ) -> Automorphisms:
        """Settle what no step has made smaller."""
        if engine is None:
            least = VISITS // (self.graph.size + len(self.graph.sources))
            found = search(self.graph, hashes, max(100, least) if budget is None else budget)
            self.generators += [self.lifted(image) for image in found.generators]
            self.steps.append("search")
            value = known + sum(map(log10, found.orbits))
            if found.is_whole:
                return self.result(value, value, found.orbits)
            known = max(known, value)
        counted = engines.count(self.graph, engine)
        if counted is None:
            return self.result(known, upper, ())
        self.steps.append(counted.engine)
        self.generators += [self.lifted(image) for image in counted.generators]
        value = sum(map(_log10_factorial, self.factors)) + counted.log10_order
        return self.result(value, value, ())

    def result(self, lower: float, upper: float, orbits: tuple[int, ...]) -> Automorphisms:
        return Automorphisms(
            log10_lower=lower,
            log10_upper=upper,
            factors=tuple(sorted(self.factors, reverse=True)),
            orbits=tuple(n for n in orbits if n > 1),
            generators=tuple(self.generators),
            how=", ".join(dict.fromkeys(self.steps)),
        )

    # ------------------------------------------------------------------------------------------ exact steps

    def stripped(self, hashes: Array) -> Array:
        """Drop vertices that are alone in their class, and edges that join classes evenly; return the hashes left."""
        graph, number = self.graph, numbered(hashes)
        sizes = numpy.bincount(number)
        loops = graph.sources == graph.targets
        first, second = number[graph.sources], number[graph.targets]
        keys = numpy.stack((first, second, graph.labels, loops), axis=1)
        kinds, kind, counts = numpy.unique(keys, axis=0, return_inverse=True, return_counts=True)
        a, b = sizes[kinds[:, 0]], sizes[kinds[:, 1]]
        all_ = numpy.where(kinds[:, 3] == 1, a, numpy.where(kinds[:, 0] == kinds[:, 1], a * (a - 1), a * b))
        uneven = (counts != all_)[kind.reshape(-1)]
        ends = (graph.sources[uneven], graph.targets[uneven], graph.labels[uneven])
        self.restrict(ColouredGraph(number, *ends), numpy.flatnonzero(sizes[number] > 1))
        return hashes[sizes[number] > 1]

    def restrict(self, graph: ColouredGraph, vertices: Array) -> None:
        self.graph = graph.part(vertices)
        self.members = [self.members[vertex] for vertex in vertices.tolist()]

    def join_twins(self, hashes: Array) -> bool:
        """Take twins together; return whether there are any."""
        found = twins(self.graph, hashes)
        if not found:
            return False
        self.steps.append("twins")
        marks: dict[Any, int] = {(): 0}
        extra, kept = numpy.zeros(self.graph.size, dtype=numpy.int64), numpy.ones(self.graph.size, bool)
        for group in found:
            self.symmetric([self.members[vertex] for vertex in group])
            kind = (len(group), self.between(group[0], group[1]))
            extra[group[0]] = marks.setdefault(kind, len(marks))
            kept[group[1:]] = False
            self.members[group[0]] = [one for vertex in group for one in self.members[vertex]]
        self.recolour(extra, kept)
        return True

    def join_components(self, hashes: Array) -> bool:
        """Leave out components that are copies of others; return whether there are any."""
        graph = self.graph
        sparse: Any = import_module("scipy.sparse")
        shape = (graph.size, graph.size)
        ones = numpy.ones(len(graph.sources), dtype=numpy.int8)
        links = sparse.coo_array((ones, (graph.sources, graph.targets)), shape=shape)
        count, number = import_module("scipy.sparse.csgraph").connected_components(links, directed=False)
        if count == 1:
            return False
        order = numpy.lexsort((hashes, number))
        parts = numpy.split(order, numpy.flatnonzero(numpy.diff(number[order])) + 1)
        copies = self.copies(hashes, parts)
        extra, kept = numpy.zeros(graph.size, dtype=numpy.int64), numpy.ones(graph.size, bool)
        for place, group in enumerate(copies):
            self.symmetric([[one for v in part for one in self.members[v]] for part in group])
            extra[group[0]] = place + 1
            for part in group[1:]:
                kept[part] = False
        if copies:
            self.steps.append("components")
            self.recolour(extra, kept)
        return bool(copies)

    def copies(self, hashes: Array, parts: list[Array]) -> list[list[list[int]]]:
        """Return components that are the same under the one map that their hashes, all different, allow."""
        rank = numpy.empty(self.graph.size, dtype=numpy.int64)
        component = numpy.empty(self.graph.size, dtype=numpy.int64)
        for place, part in enumerate(parts):
            rank[part], component[part] = numpy.arange(len(part)), place
        rows = numpy.stack((rank[self.graph.sources], rank[self.graph.targets], self.graph.labels), axis=1)
        owner = component[self.graph.sources]
        order = numpy.lexsort((*rows.T[::-1], owner))
        begins = numpy.searchsorted(owner[order], numpy.arange(len(parts) + 1))
        rows, same = rows[order], dict[Any, list[list[int]]]()
        for place, part in enumerate(parts):
            own = hashes[part]
            if len(part) == 1 or (own[1:] != own[:-1]).all():
                edges = rows[begins[place] : begins[place + 1]]
                same.setdefault((own.tobytes(), edges.tobytes()), []).append(part.tolist())
        return [group for group in same.values() if len(group) > 1]

    def recolour(self, extra: Array, kept: Array) -> None:
        graph = self.graph
        colours = graph.colours * (int(extra.max()) + 1) + extra
        graph = ColouredGraph(colours, graph.sources, graph.targets, graph.labels)
        self.restrict(graph, numpy.flatnonzero(kept))

    def between(self, first: int, second: int) -> tuple[tuple[int, ...], ...]:
        """Return what joins two vertices."""
        begins, rows = self.graph.adjacency
        own = rows[begins[first] : begins[first + 1]]
        return tuple(map(tuple, own[own[:, 1] == second][:, (0, 2)].tolist()))

    # ------------------------------------------------------------------------------------------- generators

    def symmetric(self, parts: list[list[int]]) -> None:
        """Note that lists of vertices may be permuted at will: an exchange and a cycle generate that."""
        self.factors.append(len(parts))
        self.generators.append(_cycle(parts[:2]))
        if len(parts) > 2:
            self.generators.append(_cycle(parts))

    def lifted(self, image: Array) -> Moved:
        moved: Moved = {}
        for vertex in numpy.flatnonzero(image != numpy.arange(len(image))).tolist():
            moved |= dict(zip(self.members[vertex], self.members[int(image[vertex])], strict=True))
        return moved


def _cycle(parts: list[list[int]]) -> Moved:
    return {
        one: other
        for part, following in zip(parts, parts[1:] + parts[:1], strict=True)
        for one, other in zip(part, following, strict=True)
    }


def _young(hashes: Array) -> float:
    """Return log10 of how many permutations keep each class of hashes."""
    sizes = numpy.bincount(numbered(hashes)) if len(hashes) else numpy.zeros(0, int)
    return sum(_log10_factorial(int(size)) for size in sizes[sizes > 1])


def _log10_factorial(count: int) -> float:
    return lgamma(count + 1) / log(10)
