"""Linear regions: what a network sees of maps between two nonlinearities, and what it does not.

Between nonlinear tensors a network depends on its weights only through the composite maps from every source
(what a nonlinearity made, an input, the constant 1) to every sink (what a nonlinearity reads, an output).
The directions that change no composite are all that shifts, GL wires and kernels of narrow readers together
leave free; at random weights their number is exact, whatever the shapes. Regions of a single map of its
own are skipped: their composite is the weight itself.
"""

from __future__ import annotations

from math import prod
from typing import Any

from nnspec.compiler.relations import Contract, Elementwise, Fixed, Move, Relation, Sum, Term
from nnspec.compiler.symmetry.relate import Related
from nnspec.dsl.node import Node

LIMIT = 1200  # unknowns of one region; the cost grows with the cube


class Map(Node):
    """out = weight @ given + bias along one axis, or (no weight) a signed sum."""

    output: str
    inputs: tuple[tuple[str, float], ...]  # with coefficients
    weight: str | None = None
    transposed: bool = False  # the weight is stored [in, out]
    diagonal: bool = False  # the weight is a gain for each index
    bias: str | None = None


class Region(Node):
    """Maps that share a tensor or a weight."""

    maps: tuple[Map, ...]
    weights: tuple[str, ...]


class Unseen(Node):
    """How many directions of the weights no composite shows, and whether every region was counted."""

    dimension: int
    complete: bool
    note: str | None = None
    plain: frozenset[str] = frozenset()  # weights that are a composite, or the only weight of one
    alone: frozenset[str] = frozenset()  # weights that are a region of their own


def unseen_directions(related: Related) -> Unseen:
    """Count the directions of the weights that change no composite map, at random weights."""
    reader = _Reader(related)
    reader.read()
    total, note = 0, reader.note
    alone: set[str] = set()
    for region in reader.regions():
        if len(region.maps) == 1 and len(set(region.weights)) == len(region.weights):
            alone.update(region.weights)
            continue
        size = sum(reader.columns(weight) for weight in region.weights)
        if size > LIMIT:
            note = note or f"a linear region of {size} weights is too large to be searched"
            continue
        total += _unseen(region, reader)
    return Unseen(
        dimension=total,
        complete=note is None,
        note=note,
        plain=reader.plain_weights() - reader.taken,
        alone=frozenset(alone) - reader.taken,
    )


class _Reader:
    """Reads relations as maps along one axis of each tensor, and notes what is not one."""

    def __init__(self, related: Related) -> None:
        self.related = related
        self.carriers = related.carriers
        self.views: dict[str, tuple[str, bool]] = {}
        self.maps: list[Map] = []
        self.axis: dict[str, int] = {}  # the axis along which maps act
        self.sinks: set[str] = set(related.outputs)
        self.note: str | None = None
        self.taken: set[str] = set()  # weights that appear outside of maps

    def size(self, tensor: str) -> int:
        """Return the size of a tensor along its axis."""
        shape = self.carriers[tensor].shape
        size = shape[self.axis.get(tensor, len(shape) - 1)] if shape else 1
        assert isinstance(size, int)
        return size

    def columns(self, weight: str) -> int:
        """Return how many numbers of a weight may move."""
        carrier = self.carriers[weight]
        if carrier.action is None or (not carrier.is_free and carrier.action.degree == 0):
            return 0
        sizes = [size for size in carrier.shape if isinstance(size, int)]
        return prod(sizes)

    def read(self) -> None:
        made: set[str] = set()
        for stated in self.related.stated:
            relation = stated.relation
            if self._is_view(relation):
                continue
            found = self._map(relation)
            if found is None:
                self._cut(relation, made)
            else:
                self.maps.append(found)
                made.add(found.output)
        for item in self.maps:
            for weight in (item.weight, item.bias):
                if weight is not None:
                    self._check_weight(weight)

    def plain_weights(self) -> frozenset[str]:
        """Return the weights of maps from a source that reach a sink through sums alone."""
        made = {item.output for item in self.maps}
        reaching = set(self.sinks)
        for item in reversed(self.maps):
            if item.output in reaching and item.weight is None:
                reaching.update(name for name, _ in item.inputs)
        return frozenset(
            item.weight
            for item in self.maps
            if item.weight is not None and item.output in reaching and item.inputs[0][0] not in made
        )

    def _check_weight(self, weight: str) -> None:
        carrier = self.carriers[weight]
        if weight in self.taken:
            self.note = self.note or f"{weight} is used in two ways"
        if not carrier.is_free and not (carrier.action and carrier.action.degree == 0):
            self.note = self.note or f"the constraint on {weight} may hide directions"

    def _is_view(self, relation: Relation) -> bool:
        """Remember transposed weights."""
        if not isinstance(relation, Move) or self.carriers[relation.input].kind != "weight":
            return False
        turned = relation.groups == (((0,), (1,)), ((1,), (0,)))
        if turned:
            self.views[relation.output] = (relation.input, True)
        return turned

    def _cut(self, relation: Relation, made: set[str]) -> None:
        """Treat a relation as the end of some regions and the start of others."""
        reads, is_linear = _reads(relation)
        for tensor in reads:
            carrier = self.carriers[tensor]
            if not carrier.live:
                self.taken.add(self.views.get(tensor, (tensor, False))[0])
                if is_linear:
                    self.note = (
                        self.note or "a linear map of another kind than one axis stands between weights"
                    )
                continue
            self.sinks.add(tensor)
            if is_linear and tensor in made:
                self.note = self.note or "a linear map of another kind than one axis stands between weights"

    def _map(self, relation: Relation) -> Map | None:
        if isinstance(relation, Sum):
            return self._sum(relation)
        if not isinstance(relation, Contract) or len(relation.terms) != 2:
            return None
        live = [term for term in relation.terms if self.carriers[term.tensor].live]
        weights = [term for term in relation.terms if not self.carriers[term.tensor].live]
        if len(live) != 1 or relation.powers:
            return None
        return self._linear(relation, live[0], weights[0])

    def _linear(self, relation: Contract, given: Term, weight: Term) -> Map | None:
        name, turned = self.views.get(weight.tensor, (weight.tensor, False))
        if self.carriers[name].kind != "weight":
            return None
        if len(weight.labels) == 1:
            return self._gain(relation, given, weight)
        out = relation.output
        summed = [label for label in given.labels if label not in out.labels]
        new = [label for label in out.labels if label not in given.labels]
        if (
            len(weight.labels) != 2
            or len(summed) != 1
            or len(new) != 1
            or set(weight.labels) != {summed[0], new[0]}
        ):
            return None
        if any(not label or label.startswith("#") for label in (summed[0], new[0])):
            return None
        if relation.bias is not None and relation.bias.labels != (new[0],):
            return None
        places = ((given.tensor, given.labels.index(summed[0])), (out.tensor, out.labels.index(new[0])))
        if not all(self._along(tensor, axis) for tensor, axis in places):
            return None
        return Map(
            output=out.tensor,
            inputs=((given.tensor, 1.0),),
            weight=name,
            transposed=(weight.labels == (summed[0], new[0])) != turned,
            bias=None if relation.bias is None else relation.bias.tensor,
        )

    def _gain(self, relation: Contract, given: Term, weight: Term) -> Map | None:
        (label,) = weight.labels
        out = relation.output
        if given.labels != out.labels or label not in out.labels:
            return None
        if relation.bias is not None and relation.bias.labels != (label,):
            return None
        axis = out.labels.index(label)
        if not all(self._along(tensor, axis) for tensor in (given.tensor, out.tensor)):
            return None
        return Map(
            output=out.tensor,
            inputs=((given.tensor, 1.0),),
            weight=weight.tensor,
            diagonal=True,
            bias=None if relation.bias is None else relation.bias.tensor,
        )

    def _sum(self, relation: Sum) -> Map | None:
        labels = relation.output.labels
        if any(term.labels != labels or not self.carriers[term.tensor].live for term in relation.terms):
            return None
        axes = {self.axis[t.tensor] for t in (*relation.terms, relation.output) if t.tensor in self.axis}
        axis = axes.pop() if len(axes) == 1 else len(labels) - 1
        if axes or not all(self._along(t.tensor, axis) for t in (*relation.terms, relation.output)):
            return None
        pairs = zip(relation.terms, relation.coefficients, strict=True)
        return Map(output=relation.output.tensor, inputs=tuple((t.tensor, c) for t, c in pairs))

    def _along(self, tensor: str, axis: int) -> bool:
        """Say that maps act along this axis of a tensor; False if others act along another."""
        return self.axis.setdefault(tensor, axis) == axis

    def regions(self) -> list[Region]:
        """Return the regions: maps joined by tensors that a map makes, and by weights."""
        made = {item.output for item in self.maps}
        parents = list(range(len(self.maps)))

        def root(index: int) -> int:
            while parents[index] != index:
                parents[index] = parents[parents[index]]
                index = parents[index]
            return index

        owner: dict[str, int] = {}
        for index, item in enumerate(self.maps):
            names = [item.output, *(name for name, _ in item.inputs if name in made)]
            names += [name for name in (item.weight, item.bias) if name is not None]
            for name in names:
                first = owner.setdefault(name, index)
                parents[root(index)] = root(first)
        groups: dict[int, list[Map]] = {}
        for index, item in enumerate(self.maps):
            groups.setdefault(root(index), []).append(item)
        return [_region(tuple(maps)) for maps in groups.values()]


def _region(maps: tuple[Map, ...]) -> Region:
    weights = [name for item in maps for name in (item.weight, item.bias) if name is not None]
    return Region(maps=maps, weights=tuple(weights) if len(maps) == 1 else tuple(dict.fromkeys(weights)))


def _reads(relation: Relation) -> tuple[tuple[str, ...], bool]:
    """Return what a relation reads, and whether it is linear in it."""
    match relation:
        case Elementwise():
            return tuple(t.tensor for t in relation.terms), False
        case Sum() | Contract():
            return tuple(t.tensor for t in relation.terms), True
        case Fixed():
            return (), True
        case _:
            fields = ("input", "whole", "part")
            found = tuple(name for field in fields if (name := getattr(relation, field, None)))
            return found, hasattr(relation, "groups") or hasattr(relation, "whole")


def _unseen(region: Region, reader: _Reader) -> int:
    """Return the number of directions of a region's weights that change no composite."""
    import numpy as np

    random = np.random.default_rng(0)
    values: dict[str, Any] = {}
    for name in region.weights:
        values[name] = random.standard_normal([int(str(size)) for size in reader.carriers[name].shape])
    forward = _forward(region, reader, values)
    backward = _backward(region, reader, values)
    columns: list[Any] = []
    for name in region.weights:
        if reader.columns(name):
            columns.append(_columns(name, region, forward, backward))
    if not columns:
        return 0
    jacobian = np.concatenate(columns, axis=1)
    spectrum = np.linalg.svd(jacobian, compute_uv=False)
    return jacobian.shape[1] - int((spectrum > 1e-9 * spectrum[0]).sum())


def _matrix(item: Map, values: dict[str, Any]) -> Any:
    import numpy as np

    stored = values[item.weight or ""]
    if item.diagonal:
        return np.diag(stored)
    return stored.T if item.transposed else stored


def _forward(region: Region, reader: _Reader, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each tensor its matrix from each source; the source "1" is the constant."""
    import numpy as np

    made = {item.output for item in region.maps}
    found: dict[str, dict[str, Any]] = {}
    for item in region.maps:
        total: dict[str, Any] = {}
        for name, coefficient in item.inputs:
            own = found[name] if name in made else {name: np.eye(reader.size(name))}
            for source, matrix in own.items():
                image = matrix if item.weight is None else _matrix(item, values) @ matrix
                total[source] = total.get(source, 0) + coefficient * image
        if item.bias is not None:
            total["1"] = total.get("1", 0) + values[item.bias][:, None]
        found[item.output] = total
    for name in {name for item in region.maps for name, _ in item.inputs} - made:
        found[name] = {name: np.eye(reader.size(name))}
    return found


def _backward(region: Region, reader: _Reader, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each tensor the matrices with which it enters each sink."""
    import numpy as np

    found: dict[str, dict[str, Any]] = {item.output: {} for item in region.maps}
    for item in reversed(region.maps):
        own = found[item.output]
        if item.output in reader.sinks:
            own[item.output] = own.get(item.output, 0) + np.eye(reader.size(item.output))
        for name, coefficient in item.inputs:
            if name not in found:
                continue
            for sink, matrix in own.items():
                image = matrix if item.weight is None else matrix @ _matrix(item, values)
                found[name][sink] = found[name].get(sink, 0) + coefficient * image
    return found


def _columns(
    name: str, region: Region, forward: dict[str, dict[str, Any]], backward: dict[str, dict[str, Any]]
) -> Any:
    """Return how every composite changes with the entries of one weight, over all its uses."""
    import numpy as np

    blocks: dict[tuple[str, str], Any] = {}
    sinks = {sink: own for rows in backward.values() for sink, own in rows.items()}
    width = 0
    for item in region.maps:
        if name not in (item.weight, item.bias):
            continue
        for sink, matrix in backward[item.output].items():
            if name == item.bias:
                blocks[sink, "1"] = blocks.get((sink, "1"), 0) + matrix
                width = matrix.shape[1]
                continue
            for source, inner in forward[item.inputs[0][0]].items():
                block = _kron(matrix, inner, item)
                blocks[sink, source] = blocks.get((sink, source), 0) + block
                width = block.shape[1]
    rows: list[Any] = []
    for sink in sinks:
        for source, matrix in forward[sink].items():
            found = blocks.get((sink, source))
            rows.append(np.zeros((matrix.size, width)) if found is None else found)
    return np.concatenate(rows, axis=0)


def _kron(outer: Any, inner: Any, item: Map) -> Any:
    """Return d(outer @ W @ inner) / dW, rows and columns flattened row-major."""
    import numpy as np

    sink, source = outer.shape[0], inner.shape[1]
    if item.diagonal:
        return np.einsum("so,ok->sko", outer, inner).reshape(sink * source, -1)
    full = np.einsum("so,ik->skoi", outer, inner)
    if item.transposed:
        full = full.transpose(0, 1, 3, 2)
    return full.reshape(sink * source, -1)
