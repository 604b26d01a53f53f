"""Engines for automorphism groups that may be installed: for what our own search leaves open.

In: a coloured graph. Out: log10 of the order of its group, and generators. None of them is required, and none is
imported before it is needed: pynauty (GPL), igraph (GPL). (canonaut 1.0.0 is not among them: it counted 1 where there are 2.)
Labels and directions of edges become coloured vertices (nauty's users' guide, section 14).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from math import log10
from typing import Any

import numpy

from nnspec.compiler.symmetry.refinement import Array, ColouredGraph
from nnspec.dsl.node import Node

NAMES = ("pynauty", "igraph")


class Counted(Node):
    """What an engine found."""

    engine: str
    log10_order: float
    generators: tuple[Array, ...]


class _Simple(Node):
    """An undirected graph whose vertices alone are coloured; the first `size` are those of the graph itself."""

    size: int
    colours: Array
    edges: list[tuple[int, int]]


def count(graph: ColouredGraph, engine: str | None = None) -> Counted | None:
    """Return what the engine of this name finds, or the first that is installed; None where none is."""
    for name in NAMES if engine is None else (engine,):
        if find_spec(name) is not None:
            return _COUNTS[name](_simple(graph))
    return None


def _simple(graph: ColouredGraph) -> _Simple:
    """Put two vertices on each edge: the first at its source, the second at its target, coloured by the label."""
    edges, size = len(graph.sources), graph.size
    start = numpy.arange(size, size + edges)
    end = start + edges
    marks = 2 * numpy.unique(graph.labels, return_inverse=True)[1] + int(graph.colours.max()) + 1
    pairs = numpy.concatenate(
        [numpy.stack(ends, axis=1) for ends in ((graph.sources, start), (start, end), (end, graph.targets))]
    )
    colours = numpy.concatenate((graph.colours, marks, marks + 1))
    return _Simple(
        size=size,
        colours=numpy.unique(colours, return_inverse=True)[1],
        edges=[(int(a), int(b)) for a, b in pairs],
    )


def _pynauty(graph: _Simple) -> Counted:
    pynauty: Any = import_module("pynauty")
    neighbours: dict[int, list[int]] = {}
    for first, second in graph.edges:
        neighbours.setdefault(first, []).append(second)
    order = numpy.argsort(graph.colours, kind="stable")
    ends = numpy.flatnonzero(numpy.diff(graph.colours[order])) + 1
    colouring = [set(part.tolist()) for part in numpy.split(order, ends)]
    made = pynauty.Graph(len(graph.colours), adjacency_dict=neighbours, vertex_coloring=colouring)
    generators, mantissa, exponent, *_ = pynauty.autgrp(made)
    images = [image[: graph.size] for image in generators]
    return Counted(engine="pynauty", log10_order=log10(mantissa) + exponent, generators=_arrays(images))


def _igraph(graph: _Simple) -> Counted:
    made: Any = import_module("igraph").Graph(n=len(graph.colours), edges=graph.edges)
    colours = graph.colours.tolist()
    order = made.count_automorphisms(color=colours)
    images = [image[: graph.size] for image in made.automorphism_group(color=colours)]
    return Counted(engine="igraph", log10_order=log10(order), generators=_arrays(images))


def _arrays(images: list[Any]) -> tuple[Array, ...]:
    return tuple(numpy.array(image, dtype=numpy.int64) for image in images)


_COUNTS = {"pynauty": _pynauty, "igraph": _igraph}
