"""Twins: vertices that may be exchanged without moving any other.

In: a coloured graph. Out: its classes of twins. Being twins is an equivalence, and every permutation of a class
is an automorphism, so that the product of symmetric groups of the classes is a lower bound of the group. Found by
hashes of rows, then verified entry by entry: O(edges).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy

from nnspec.compiler.symmetry.refinement import Array, ColouredGraph, cells, mixed


def twins(graph: ColouredGraph, hashes: Array) -> list[list[int]]:
    """Return the classes of at least two twins; `hashes` are refined colours."""
    found: dict[int, list[int]] = {}
    for key in _keys(graph, hashes):
        for bucket in cells(key):
            for group in _verified(graph, bucket.tolist()) if len(bucket) > 1 else ():
                if not any(vertex in found for vertex in group):
                    found.update(dict.fromkeys(group, group))
    return list({id(group): group for group in found.values()}.values())


def _keys(graph: ColouredGraph, hashes: Array) -> Iterator[Array]:
    """Yield hashes that are equal for twins: of rows as they are, and of rows with an edge to the vertex itself.

    The second kind, for each label that joins vertices of one class, is for twins that are joined. Edges that lead
    from vertices to themselves count as marks.
    """
    outward = mixed(mixed(numpy.arange(graph.size)))
    inward = mixed(outward)
    rows = mixed(hashes) + graph.gathered(outward, inward)
    loops = graph.sources == graph.targets
    at, weight = graph.sources[loops], mixed(graph.labels[loops])
    numpy.subtract.at(rows, at, weight * (outward[at] + inward[at]))
    numpy.add.at(rows, at, mixed(weight))
    yield rows
    inside = ~loops & (hashes[graph.sources] == hashes[graph.targets])
    weights = mixed(numpy.unique(graph.labels[inside]))
    for weight in (*weights, *([weights.sum()] if len(weights) > 1 else [])):
        yield rows + weight * (outward + inward)


def _verified(graph: ColouredGraph, bucket: list[int]) -> list[list[int]]:
    """Split vertices whose hashes agree into classes of true twins."""
    found: list[list[int]] = []
    for vertex in bucket:
        home = next((group for group in found[:4] if are_twins(graph, group[0], vertex)), None)
        if home is None:
            found.append([vertex])
        else:
            home.append(vertex)
    return [group for group in found if len(group) > 1]


def are_twins(graph: ColouredGraph, first: int, second: int) -> bool:
    """Return whether exchanging two vertices is an automorphism: one's rows are the other's with both exchanged."""
    if graph.colours[first] != graph.colours[second]:
        return False
    begins, rows = graph.adjacency
    mine = rows[begins[first] : begins[first + 1]]
    theirs = rows[begins[second] : begins[second + 1]]
    if mine.shape != theirs.shape:
        return False
    other = mine[:, 1]
    if not ((other == first) | (other == second)).any():
        return numpy.array_equal(mine, theirs)
    moved = mine.copy()
    moved[other == first, 1] = second
    moved[other == second, 1] = first
    return numpy.array_equal(moved[numpy.lexsort(moved.T[::-1])], theirs)
