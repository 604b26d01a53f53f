"""Automorphism groups of coloured graphs: against all permutations, closed forms, networkx, and engines where installed."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import permutations
from math import factorial, lgamma, log, log10
from typing import Any

import networkx
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnspec.compiler.symmetry import engines
from nnspec.compiler.symmetry.automorphisms import Automorphisms, automorphisms
from nnspec.compiler.symmetry.refinement import ColouredGraph, cells, refined
from nnspec.compiler.symmetry.search import search
from nnspec.compiler.symmetry.twins import are_twins, twins


def log10_factorial(n: int) -> float:
    return lgamma(n + 1) / log(10)


def chain(*masks: Any) -> ColouredGraph:
    """Return the neurons of a network of masked layers: (units, inputs) each; inputs and outputs are fixed."""
    sizes = [masks[0].shape[1], *(mask.shape[0] for mask in masks)]
    begins = numpy.cumsum([0, *sizes])
    colours = numpy.concatenate([numpy.full(size, -place) for place, size in enumerate(sizes)])
    for begin, end in ((0, sizes[0]), (begins[-2], begins[-1])):
        colours[begin:end] = numpy.arange(1 + begin, 1 + end)
    rows = [
        numpy.stack((j + begins[place], i + begins[place + 1], numpy.full(len(i), place)), axis=1)
        for place, mask in enumerate(masks)
        for i, j in [numpy.nonzero(mask)]
    ]
    return ColouredGraph(colours, *numpy.concatenate(rows).T)


def dense(units: int, inputs: int) -> Any:
    return numpy.ones((units, inputs), dtype=bool)


def where(units: int, inputs: int, condition: Any) -> Any:
    return condition(*numpy.indices((units, inputs)))


def between_dense(mask: Any) -> ColouredGraph:
    """Return a mask between two hidden layers."""
    return chain(dense(mask.shape[1], 4), mask, dense(3, mask.shape[0]))


def image(graph: ColouredGraph, moved: dict[int, int]) -> Any:
    found = numpy.arange(graph.size)
    found[list(moved)] = list(moved.values())
    return found


def settled(graph: ColouredGraph, **options: Any) -> Automorphisms:
    """Return the group, whose generators are automorphisms."""
    found = automorphisms(graph, **options)
    assert all(graph.is_automorphism(image(graph, moved)) for moved in found.generators)
    return found


def projective_plane(q: int) -> Any:
    """Return which points lie on which lines of PG(2, q) for a prime q."""
    points = [(1, x, y) for x in range(q) for y in range(q)] + [(0, 1, y) for y in range(q)] + [(0, 0, 1)]
    return numpy.array(points) @ numpy.array(points).T % q == 0


def brute_force(graph: ColouredGraph) -> int:
    return sum(graph.is_automorphism(numpy.array(order)) for order in permutations(range(graph.size)))


@st.composite
def graphs(draw: Any, most: int = 6) -> ColouredGraph:
    n = draw(st.integers(2, most))
    vertex = st.integers(0, n - 1)
    edges = draw(st.sets(st.tuples(vertex, vertex, st.integers(0, 1)), max_size=2 * n))
    if draw(st.booleans()):
        edges |= {(b, a, label) for a, b, label in edges}
    if draw(st.booleans()):
        edges = {(a, b, c) for a in range(n) for b in range(n) for c in (0, 1)} - edges
    rows = numpy.array(sorted(edges)).reshape(-1, 3)
    colours = numpy.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    return ColouredGraph(colours * draw(st.integers(0, 1)), *rows.T)


# ------------------------------------------------------------------------------------------- small graphs


@settings(max_examples=150)
@given(graphs())
def test_it_is_what_all_permutations_say(graph: ColouredGraph) -> None:
    found = settled(graph)
    assert found.exact and found.order == brute_force(graph)
    assert found.log10_lower == pytest.approx(log10(found.order))


@settings(max_examples=100)
@given(graphs(5))
def test_the_search_alone_is_what_all_permutations_say(graph: ColouredGraph) -> None:
    found = search(graph, refined(graph), 10_000)
    assert found.is_whole and numpy.prod(found.orbits, initial=1) == brute_force(graph)


@settings(max_examples=100)
@given(graphs())
def test_twins_are_those_that_may_be_exchanged(graph: ColouredGraph) -> None:
    found = {frozenset(group) for group in twins(graph, refined(graph))}
    together = {frozenset(pair) for group in found for pair in permutations(group, 2)}
    for a in range(graph.size):
        for b in range(a):
            order = numpy.arange(graph.size)
            order[[a, b]] = b, a
            assert (frozenset((a, b)) in together) == graph.is_automorphism(order) == are_twins(graph, a, b)


@settings(max_examples=100)
@given(graphs(12))
def test_bounds_hold(graph: ColouredGraph) -> None:
    """Twins are at most the group, and the group at most what refinement allows; too small a budget says so."""
    exact = settled(graph)
    hashes = refined(graph)
    lower = sum(log10_factorial(len(group)) for group in twins(graph, hashes))
    upper = sum(log10_factorial(len(cell)) for cell in cells(hashes))
    assert lower - 1e-9 <= exact.log10_lower <= upper + 1e-9
    short = settled(graph, budget=1)
    assert short.log10_lower - 1e-9 <= exact.log10_lower <= short.log10_upper + 1e-9


@settings(max_examples=30)
@given(graphs(4))
def test_networkx_counts_the_same(graph: ColouredGraph) -> None:
    made = networkx.MultiDiGraph()
    made.add_nodes_from((v, {"colour": c}) for v, c in enumerate(graph.colours.tolist()))
    made.add_edges_from((a, b, {"label": c}) for a, b, c in graph.edges.tolist())
    matcher = networkx.algorithms.isomorphism.MultiDiGraphMatcher(
        made,
        made,
        node_match=lambda a, b: a["colour"] == b["colour"],
        edge_match=lambda a, b: (
            sorted(e["label"] for e in a.values()) == sorted(e["label"] for e in b.values())
        ),
    )
    assert settled(graph).order == sum(1 for _ in matcher.isomorphisms_iter())


@pytest.mark.parametrize("engine", engines.NAMES)
@settings(max_examples=60)
@given(graph=graphs())
def test_engines_count_the_same(engine: str, graph: ColouredGraph) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    counted = engines.count(graph, engine)
    assert counted is not None
    assert counted.log10_order == pytest.approx(settled(graph).log10_lower)
    assert all(graph.is_automorphism(order) for order in counted.generators)


# --------------------------------------------------------------------------------- networks, by closed forms


def test_dense_networks() -> None:
    small = settled(chain(dense(8, 4), dense(8, 8), dense(3, 8)))
    assert small.order == factorial(8) ** 2
    large = settled(chain(dense(256, 64), dense(256, 256), dense(10, 256)))
    assert large.factors == (256, 256) and large.log10_lower == pytest.approx(1013.867, abs=1e-3)
    assert large.exact and large.order is None


def test_blocks_are_permuted_within_and_among_each_other() -> None:
    found = settled(between_dense(where(256, 256, lambda i, j: i // 16 == j // 16)))
    assert found.exact
    assert found.log10_lower == pytest.approx(32 * log10_factorial(16) + log10_factorial(16))
    assert found.log10_lower == pytest.approx(439.58, abs=1e-2)


def test_circulants_keep_their_turns() -> None:
    assert (
        settled(between_dense(where(128, 128, lambda i, j: numpy.isin((i - j) % 128, [0, 1, 3])))).order
        == 128
    )
    assert (
        settled(between_dense(where(128, 128, lambda i, j: (i - j) % 128 <= 1))).order == 256
    )  # mirrored too


@pytest.mark.parametrize("q", [2, 3, 5, 13])
def test_refinement_does_not_see_projective_planes_but_the_search_does(
    q: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "NAMES", ())
    graph = between_dense(projective_plane(q))
    assert sorted(map(len, cells(refined(graph))))[-2:] == [q * q + q + 1] * 2
    found = settled(graph)
    assert found.exact and found.order == q**3 * (q**3 - 1) * (q**2 - 1)  # PGL(3, q)
    if q == 13:
        assert found.log10_lower == pytest.approx(8.909, abs=1e-3)
        short = settled(graph, budget=2)
        assert not short.exact and short.order is None
        assert short.log10_lower < found.log10_lower < short.log10_upper


@pytest.mark.parametrize("engine", engines.NAMES)
def test_engines_settle_what_the_search_leaves_open(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    monkeypatch.setattr(engines, "NAMES", (engine,))
    found = settled(between_dense(projective_plane(5)), budget=2)
    assert found.exact and found.how.endswith(engine) and found.order == 372000


def test_a_complete_directed_network_keeps_all_permutations() -> None:
    i, j = numpy.nonzero(~numpy.eye(64, dtype=bool))
    found = settled(ColouredGraph(numpy.zeros(64), i, j, numpy.zeros(len(i))))
    assert found.factors == (64,) and found.exact


def test_kolmogorov_networks_keep_the_order_of_their_terms() -> None:
    inner = where(36, 4, lambda i, j: i % 4 == j)
    outer = where(9, 36, lambda i, j: i == j // 4)
    assert settled(chain(inner, outer, dense(1, 9))).order == factorial(9)


def test_random_masks() -> None:
    random = numpy.random.default_rng(0)
    sizes = ((256, 64), (256, 256), (10, 256))
    assert settled(chain(*(random.random(size) < 0.1 for size in sizes))).order == 1
    for density in (0.01, 0.005):
        masks = [random.random(size) < density for size in sizes]
        found = settled(chain(*masks))
        assert found.exact and 10 < found.log10_lower < 400
        hashes = refined(chain(*masks))
        assert sum(log10_factorial(len(g)) for g in twins(chain(*masks), hashes)) <= found.log10_lower + 1e-9


def test_a_random_mask_of_many_neurons_is_proven_to_have_no_symmetry() -> None:
    random = numpy.random.default_rng(0)
    sizes = ((16384, 1024), (16384, 16384), (10, 16384))
    begins = numpy.cumsum([0, 1024, 16384, 16384, 10])
    colours = numpy.arange(begins[-1])
    colours[begins[1] : begins[2]], colours[begins[2] : begins[3]] = -1, -2
    rows = []
    for place, (units, inputs) in enumerate(sizes):
        chosen = numpy.unique(random.integers(0, units * inputs, units * inputs // 1000))
        i, j = numpy.divmod(chosen, inputs)
        rows.append(
            numpy.stack((j + begins[place], i + begins[place + 1], numpy.full(len(i), place)), axis=1)
        )
    found = automorphisms(ColouredGraph(colours, *numpy.concatenate(rows).T))
    assert found.order == 1 and found.how == "refinement"
