"""The graph of neurons: permutations of the units of wires whose weights have patterns.

In: a typed graph, and a state where masks are drawn or values frozen. Out: `NeuronGroup`. Its graph has the units
of every wire that a pattern touches as vertices, in the colour of the wire; where a weight's entries fall into
classes, those that are not of the most common class are edges. Axes of a weight along which nothing may be
permuted enter the classes, position by position. Units of wires that no pattern touches are not in it: they are
permuted at will, and counted with their wires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import lgamma, log, prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.kinds import kinds
from nnspec.compiler.symmetry.maps import action_of
from nnspec.compiler.symmetry.patterns import Array, Pattern, patterns
from nnspec.compiler.symmetry.relate import Related, relate_graph
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.compiler.symmetry.strands import strands
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.symmetry.refinement import ColouredGraph

Orders = dict[Atom, tuple[int, ...]]  # for each space that moves: new unit i is the old one at place i


class NeuronGroup(Node):
    """The permutations that keep all patterns, between two bounds: log10 of their number.

    `generators` generate what the lower bound counts. `spaces` are those of `all_spaces` whose units it permutes.
    """

    spaces: tuple[Atom, ...]
    log10_lower: float
    log10_upper: float
    order: int | None  # None when large, or not known
    exact: bool
    how: str
    generators: tuple[Orders, ...]
    all_spaces: Spaces


class NeuronGraph(Node):
    """A coloured graph whose first vertices are units: those of a space from `begins` on."""

    graph: ColouredGraph
    begins: dict[Atom, int]


def neuron_group(
    graph: Graph,
    state: Mapping[str, Tensor] | None = None,
    values: bool = False,
    budget: int | None = None,
) -> NeuronGroup | None:
    """Return the group of the wires that patterns touch; None where no pattern is known.

    With `values`, weights of few values count with those that they have in the state. `budget` bounds the search.
    """
    known = patterns(graph, state, values)
    if not known:
        return None
    from nnspec.compiler.symmetry.automorphisms import BUDGET, automorphisms

    spaces = Spaces(_let_through(relate_graph(graph), known))
    made = neuron_graph(spaces, known)
    found = automorphisms(made.graph, BUDGET if budget is None else budget)
    wider = _acting_apart(spaces, made.begins)
    return NeuronGroup(
        spaces=tuple(made.begins),
        log10_lower=found.log10_lower,
        log10_upper=max(found.log10_upper, wider or 0.0),
        order=None if wider else found.order,
        exact=found.exact and not wider,
        how=found.how,
        generators=tuple(_orders(moved, made.begins, spaces) for moved in found.generators),
        all_spaces=spaces,
    )


def act(group: NeuronGroup, orders: Orders, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with the units of wires permuted; the network computes the same with it."""
    from nnspec.compiler.symmetry.moves import key_of

    spaces, changed = group.all_spaces, dict(state)
    for carrier in spaces.related.carriers.values():
        key = key_of(carrier.name)
        if carrier.kind in ("weight", "buffer") and key in changed:
            for axis in range(len(carrier.shape)):
                changed[key] = _permuted(spaces, carrier.name, axis, orders, changed[key])
    return changed


def _permuted(spaces: Spaces, name: str, axis: int, orders: Orders, tensor: Tensor) -> Tensor:
    import torch

    start, index = 0, list[int]()
    for segment in spaces.atoms((name, axis)):
        sizes = [spaces.sizes[atom] for atom in segment]
        ways = [orders.get(spaces.space(atom), tuple(range(spaces.sizes[atom]))) for atom in segment]
        strides = [prod(sizes[place + 1 :]) for place in range(len(sizes))]
        for chosen in product(*ways):
            index.append(start + sum(c * s for c, s in zip(chosen, strides, strict=True)))
        start += prod(sizes)
    return tensor.index_select(axis, torch.tensor(index, device=tensor.device))


# ------------------------------------------------------------------------------------------------ the graph


def neuron_graph(spaces: Spaces, known: Mapping[str, Pattern]) -> NeuronGraph:
    """Return the coloured graph of the units that patterns touch."""
    return _Builder(spaces, known).made()


class _Builder:
    def __init__(self, spaces: Spaces, known: Mapping[str, Pattern]) -> None:
        import numpy

        self.numpy: Any = numpy
        self.spaces = spaces
        self.kinds = kinds(spaces)
        self.blocks = [
            block for name, pattern in known.items() for block in self.split(name, pattern.classes)
        ]
        self.begins: dict[Atom, int] = {}
        self.size = 0
        for free, _ in self.blocks:
            for space in free:
                if space not in self.begins:
                    self.begins[space] = self.size
                    self.size += spaces.sizes[space]
        self.marks: list[Array] = []  # of units, by weights that have one axis to permute
        self.edges: list[Array] = []
        self.entries: list[Array] = []  # colours of vertices that stand for entries
        self.labels = 0

    def made(self) -> NeuronGraph:
        from nnspec.compiler.symmetry.refinement import ColouredGraph

        numpy = self.numpy
        for free, classes in self.blocks:
            self.add(free, classes)
        wires = numpy.concatenate(
            [numpy.full(self.spaces.sizes[s], n) for n, s in enumerate(self.begins)] or [numpy.zeros(0, int)]
        )
        units = numpy.unique(numpy.stack((wires, *self.marks)), axis=1, return_inverse=True)[1].reshape(-1)
        colours = numpy.concatenate((units, *(part + len(units) for part in self.entries)))
        rows = numpy.concatenate((*self.edges, numpy.zeros((0, 3), dtype=numpy.int64)))
        graph = ColouredGraph(colours, rows[:, 0], rows[:, 1], rows[:, 2])
        return NeuronGraph(graph=graph, begins=self.begins)

    def split(self, name: str, classes: Array) -> Iterator[tuple[tuple[Atom, ...], Array]]:
        """Yield the spaces that may be permuted along a block of a weight, and classes along them."""
        numpy = self.numpy
        axes = [self.spaces.atoms((name, axis)) for axis in range(classes.ndim)]
        for segments in product(*(range(len(axis)) for axis in axes)):
            block = classes
            for axis, number in enumerate(segments):
                sizes = [prod(self.spaces.sizes[a] for a in segment) for segment in axes[axis]]
                start = sum(sizes[:number])
                block = block.take(range(start, start + sizes[number]), axis=axis)
            atoms = [atom for axis, number in zip(axes, segments, strict=True) for atom in axis[number]]
            block = block.reshape([self.spaces.sizes[atom] for atom in atoms])
            free = [place for place, atom in enumerate(atoms) if self.is_free(self.spaces.space(atom))]
            if not free:
                continue
            order = [*free, *(place for place in range(len(atoms)) if place not in free)]
            shape = [block.shape[place] for place in free]
            fibres = block.transpose(order).reshape(prod(shape), -1)
            found = numpy.unique(fibres, axis=0, return_inverse=True)[1]
            yield tuple(self.spaces.space(atoms[place]) for place in free), found.reshape(shape)

    def is_free(self, space: Atom) -> bool:
        """Return whether a space may be permuted."""
        return (
            space not in self.spaces.fixed
            and self.spaces.sizes[space] > 1
            and self.kinds[space].name != "complex"
        )

    def add(self, free: tuple[Atom, ...], classes: Array) -> None:
        numpy = self.numpy
        if len(free) == 1:
            mark = numpy.zeros(self.size, dtype=numpy.int64)
            begin = self.begins[free[0]]
            mark[begin : begin + len(classes)] = classes
            self.marks.append(mark)
            return
        places = numpy.nonzero(classes != numpy.bincount(classes.reshape(-1)).argmax())
        units = [index + self.begins[space] for index, space in zip(places, free, strict=True)]
        labels = classes[places] + self.labels
        self.labels += int(classes.max()) + 1
        if len(free) == 2:
            self.edges.append(numpy.stack((*units, labels), axis=1))
            return
        first = self.size + sum(map(len, self.entries))
        entry = numpy.arange(first, first + len(labels))
        for unit in units:  # an edge for each axis, in a label of its own
            self.edges.append(numpy.stack((entry, unit, numpy.full(len(entry), self.labels)), axis=1))
            self.labels += 1
        self.entries.append(labels)


def _let_through(related: Related, known: Mapping[str, Pattern]) -> Related:
    """Return the relations with weights that do what their constraints say beside their patterns."""
    carriers = {
        name: carrier.replace(action=action_of(known[name].weight)) if name in known else carrier
        for name, carrier in related.carriers.items()
    }
    return related.replace(carriers=carriers)


def _acting_apart(spaces: Spaces, begins: Mapping[Atom, int]) -> float | None:
    """Return a bound of the order where wires have copies, each of which may be permuted by itself; else None."""
    found = [s for s in strands(spaces, kinds(spaces)) if any(space in begins for space in s.spaces)]
    if all(strand.copies == 1 and len(strand.spaces) == 1 for strand in found):
        return None
    return sum(strand.copies * lgamma(strand.size + 1) / log(10) for strand in found)


def _orders(moved: Mapping[int, int], begins: Mapping[Atom, int], spaces: Spaces) -> Orders:
    found: Orders = {}
    for space, begin in begins.items():
        size = spaces.sizes[space]
        order = [moved.get(begin + unit, begin + unit) - begin for unit in range(size)]
        if order != list(range(size)):
            found[space] = tuple(order)
    return found
