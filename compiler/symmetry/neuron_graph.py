"""The coloured graph of neurons: units as vertices, entries of patterned weights as edges.

In: index spaces, and patterns of weights. Out: `NeuronGraph`. Units are in the colour of their wire; of a weight's
classes of entries the most common one is no edge. Axes along which nothing may be permuted enter the classes,
position by position. An entry along three axes or more is a vertex, joined to its indices. Where classes of entries may
change places, each class is a vertex, and each entry is one that is joined to its class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.kinds import kinds
from nnspec.compiler.symmetry.patterns import Array, Pattern
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.refinement import ColouredGraph


class NeuronGraph(Node):
    """A coloured graph of units: those of a space from `begins` on; their negatives `size` vertices behind, if any."""

    graph: ColouredGraph
    begins: dict[Atom, int]
    size: int
    is_doubled: bool


class _Block(Node):
    """Classes of entries along spaces that may be permuted, and those of their negatives.

    Of a weight `shared` by name whose classes may change places, the last axis are the other positions.
    """

    free: tuple[Atom, ...]
    classes: Array
    negative: Array
    shared: str | None = None


def neuron_graph(
    spaces: Spaces, known: Mapping[str, Pattern], flipped: frozenset[Atom] | None = None
) -> NeuronGraph:
    """Return the coloured graph of the units that patterns touch.

    With `flipped`, the spaces whose units may change sign, it is the double cover: each unit has a negative, and an
    entry joins equal signs as it is, opposite ones as its negative.
    """
    return _Builder(spaces, known, flipped).made()


class _Builder:
    def __init__(self, spaces: Spaces, known: Mapping[str, Pattern], flipped: frozenset[Atom] | None) -> None:
        import numpy

        self.numpy: Any = numpy
        self.spaces = spaces
        self.kinds = kinds(spaces)
        self.flipped = flipped
        self.signs = (0,) if flipped is None else (0, 1)
        self.blocks = [
            block
            for name, pattern in known.items()
            if (name, 0) in self.spaces.layouts
            for block in self.split(name, pattern)
        ]
        self.begins: dict[Atom, int] = {}
        self.size = 0
        for block in self.blocks:
            for space in block.free:
                if space not in self.begins:
                    self.begins[space] = self.size
                    self.size += spaces.sizes[space]
        self.count = self.size * len(self.signs)
        self.marks: list[Array] = []  # of units, by weights that have one axis to permute
        self.edges: list[Array] = []
        self.entries: list[Array] = []  # colours of vertices that stand for entries or classes
        self.classes: dict[
            str, tuple[int, int]
        ] = {}  # of weights: the vertex of the first class, how many there are
        self.known = known
        self.labels = 0

    def made(self) -> NeuronGraph:
        from nnspec.compiler.symmetry.refinement import ColouredGraph

        numpy = self.numpy
        wires = numpy.zeros(self.count, dtype=numpy.int64)
        for number, (space, begin) in enumerate(self.begins.items()):
            for sign in self.signs:
                first = begin + sign * self.size
                told = sign if self.flipped is not None and space not in self.flipped else 0
                wires[first : first + self.spaces.sizes[space]] = 2 * number + told
        if self.flipped is not None:
            units, opposite = numpy.arange(self.count), (numpy.arange(self.count) + self.size) % self.count
            self.join((units, opposite), numpy.zeros(self.count, dtype=numpy.int64), 1)
        for block in self.blocks:
            self.add(block)
        known = numpy.stack((wires, *self.marks))
        colours = numpy.unique(known, axis=1, return_inverse=True)[1].reshape(-1)
        colours = numpy.concatenate((colours, *(part + self.count for part in self.entries)))
        rows = numpy.concatenate((*self.edges, numpy.zeros((0, 3), dtype=numpy.int64)))
        return NeuronGraph(
            graph=ColouredGraph(colours, rows[:, 0], rows[:, 1], rows[:, 2]),
            begins=self.begins,
            size=self.size,
            is_doubled=self.flipped is not None,
        )

    def split(self, name: str, pattern: Pattern) -> Iterator[_Block]:
        """Yield the blocks of a weight along which something may be permuted."""
        classes = pattern.classes
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
            spaces = tuple(self.spaces.space(atoms[place]) for place in free)
            if pattern.is_shared:
                apart = block.transpose(order).reshape(*shape, -1)
                yield _Block(free=spaces, classes=apart, negative=apart, shared=name)
                continue
            own, negative = self.told_apart(
                block.transpose(order).reshape(prod(shape), -1), pattern.is_signed
            )
            yield _Block(free=spaces, classes=own.reshape(shape), negative=negative.reshape(shape))

    def told_apart(self, fibres: Array, is_signed: bool) -> tuple[Array, Array]:
        """Return a number for each row, and for its negative: rows that are the same have the same."""
        numpy = self.numpy
        if fibres.shape[1] == 1:
            own = fibres[:, 0]
            negative = -own if is_signed else own
            least = min(int(own.min()), int(negative.min()))
            return own - least, negative - least
        if not is_signed:
            own = numpy.unique(fibres, axis=0, return_inverse=True)[1].reshape(-1)
            return own, own
        both = numpy.concatenate((fibres, -fibres))
        own, negative = numpy.unique(both, axis=0, return_inverse=True)[1].reshape(2, -1)
        return own, negative

    def is_free(self, space: Atom) -> bool:
        """Return whether a space may be permuted."""
        return (
            space not in self.spaces.fixed
            and self.spaces.sizes[space] > 1
            and self.kinds[space].name != "complex"
        )

    def add(self, block: _Block) -> None:
        numpy = self.numpy
        if block.shared is not None:
            self.add_shared(block, block.shared)
            return
        if len(block.free) == 1:
            mark = numpy.zeros(self.count, dtype=numpy.int64)
            for sign, classes in zip(self.signs, (block.classes, block.negative), strict=False):
                begin = self.begins[block.free[0]] + sign * self.size
                mark[begin : begin + len(classes)] = classes
            self.marks.append(mark)
            return
        common = numpy.bincount(block.classes.reshape(-1)).argmax()
        even = (block.negative[block.classes == common] == common).all()
        absent = (block.classes == common) if even else numpy.zeros(block.classes.shape, dtype=bool)
        places = numpy.nonzero(~absent)
        kinds_ = 1 + int(max(block.classes.max(), block.negative.max()))
        for chosen in product(self.signs, repeat=len(block.free)):
            units = [
                index + self.begins[space] + sign * self.size
                for index, space, sign in zip(places, block.free, chosen, strict=True)
            ]
            classes = block.negative if sum(chosen) % 2 else block.classes
            self.join(tuple(units), classes[places], 0)
        self.labels += kinds_ + len(block.free)

    def add_shared(self, block: _Block, name: str) -> None:
        """Join each entry, a vertex, to its units and its class; opposite signs to the negative of the class."""
        numpy = self.numpy
        if name not in self.classes:
            count = 1 + int(self.known[name].classes.max())
            first = self.added(numpy.full(count * len(self.signs), self.labels))
            self.classes[name] = (first, count)
            if self.flipped is not None:
                both = first + numpy.arange(2 * count)
                opposite = first + (numpy.arange(2 * count) + count) % (2 * count)
                self.edges.append(numpy.stack((both, opposite, numpy.full(2 * count, self.labels)), axis=1))
            self.labels += 1
        begin, count = self.classes[name]
        *places, position = (axis.reshape(-1) for axis in numpy.indices(block.classes.shape))
        classes = block.classes.reshape(-1)
        for chosen in product(self.signs, repeat=len(block.free)):
            first = self.added(self.labels + position)
            entry = numpy.arange(first, first + len(classes))
            ends = [
                index + self.begins[space] + sign * self.size
                for index, space, sign in zip(places, block.free, chosen, strict=True)
            ]
            ends.append(begin + classes + count * (sum(chosen) % 2))
            for axis, end in enumerate(ends):
                label = numpy.full(len(entry), self.labels + axis)
                self.edges.append(numpy.stack((entry, end, label), axis=1))
        self.labels += max(block.classes.shape[-1], len(block.free) + 1)

    def added(self, colours: Array) -> int:
        """Add vertices beside the units; return the first."""
        first = self.count + sum(map(len, self.entries))
        self.entries.append(colours)
        return first

    def join(self, units: tuple[Array, ...], classes: Array, kinds_: int) -> None:
        """Join units that are the indices of entries: by an edge, or by a vertex for each entry of three axes or more."""
        numpy = self.numpy
        labels = classes + self.labels
        if len(units) == 2:
            self.edges.append(numpy.stack((*units, labels), axis=1))
        else:
            first = self.added(labels)
            entry = numpy.arange(first, first + len(labels))
            for axis, unit in enumerate(units):
                label = self.labels + int(classes.max()) + 1 + axis
                self.edges.append(numpy.stack((entry, unit, numpy.full(len(entry), label)), axis=1))
        self.labels += kinds_
