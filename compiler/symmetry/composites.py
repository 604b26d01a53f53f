"""What a network sees of its linear regions, and what it does not.

Between nonlinear tensors a network depends on its weights only through the composite maps from every source
(and the constant 1) to every sink. The directions that change no composite are all that shifts, GL wires and
kernels of narrow readers together leave free; at random weights they are all of them, whatever the shapes. A
source that a norm made is known to lie in a subspace (its entries sum to zero, or it is turned from a narrow
wire), and a sink that forgets a common shift sees a map up to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nnspec.compiler.relations import Normalize, Softmax
from nnspec.compiler.symmetry.regions import Map, Maps, Region, reads
from nnspec.compiler.symmetry.relate import Related
from nnspec.dsl.node import Node

LIMIT = 1200  # unknowns of one region; the cost grows with the cube
TOLERANCE = 1e-9  # of the largest singular value


class Unseen(Node):
    """What the regions of a network are like: what keeps them from telling all, and which are single maps."""

    note: str | None = None
    alone: frozenset[str] = frozenset()  # weights that are a region of their own


def unseen_directions(related: Related) -> Unseen:
    """Look at the linear regions of a network."""
    reader = Maps(related)
    reader.read()
    note = reader.note
    alone: set[str] = set()
    for region in reader.regions():
        if len(region.maps) == 1 and len(set(region.weights)) == len(region.weights):
            alone.update(region.weights)
        elif sum(reader.columns(weight) for weight in region.weights) > LIMIT:
            note = note or "a linear region is too large to be searched"
    return Unseen(note=note, alone=frozenset(alone) - reader.taken)


def kernel_vectors(
    related: Related, values: Mapping[str, Any], steps: Callable[[str], Any]
) -> Iterator[dict[str, Any]]:
    """Yield directions of weights that change no composite map; `values` are weights as arrays, by name.

    `steps` gives the directions in which a weight under a constraint may move from its value, a column each.
    """
    reader = Maps(related)
    reader.read()
    composites = _Composites(reader, values, steps)
    for region in reader.regions():
        if sum(reader.columns(weight) for weight in region.weights) <= LIMIT:
            yield from composites.unseen_in(region)


class _Composites:
    """The composite maps of all regions: what each tensor is of its sources, and what each sink is of it."""

    def __init__(self, reader: Maps, values: Mapping[str, Any], steps: Callable[[str], Any]) -> None:
        self.reader = reader
        self.values = values
        self.steps = steps
        self.norms: dict[str, Normalize] = {}
        self.totals: dict[tuple[str, int], float] = {}
        self.forgets: set[tuple[str, int]] = set()
        for stated in reader.related.stated:
            self._note(stated.relation)
        self.forward = self._forward()

    def _note(self, relation: Any) -> None:
        if isinstance(relation, Normalize) and relation.group != "unit" and len(relation.axes) == 1:
            self.norms[relation.output] = relation
            if relation.group == "centred":
                self.totals[relation.output, relation.axes[0]] = 0.0
                self.forgets.add((relation.input, relation.axes[0]))
        elif isinstance(relation, Softmax):
            self.forgets.add((relation.input, relation.axis))
            if relation.total is not None:
                self.totals[relation.output, relation.axis] = relation.total

    def unseen_in(self, region: Region) -> Iterator[dict[str, Any]]:
        """Yield a basis of the directions of a region's weights that change no composite."""
        import numpy as np

        # What a weight does outside of maps, no composite tells.
        plain = (name for name in dict.fromkeys(region.weights) if name not in self.reader.taken)
        names = [name for name in plain if self.reader.columns(name)]
        if not names:
            return
        backward = self._backward(region)
        steps = {name: self.steps(name) for name in names if not self.reader.carriers[name].is_free}
        parts: list[Any] = []
        for name in names:
            columns = _columns(name, region, self.forward, backward)
            parts.append(columns @ steps[name] if name in steps else columns)
        jacobian = np.concatenate(parts, axis=1)
        _, spectrum, right = np.linalg.svd(jacobian, full_matrices=True)
        rank = int((spectrum > TOLERANCE * spectrum[0]).sum()) if spectrum.size else 0
        for row in right[rank:]:
            found: dict[str, Any] = {}
            start = 0
            for name, part in zip(names, parts, strict=True):
                own = row[start : start + part.shape[1]]
                moved = steps[name] @ own if name in steps else own
                found[name] = moved.reshape(self.values[name].shape)
                start += part.shape[1]
            yield found

    def _forward(self) -> dict[str, dict[str, Any]]:
        """Return for each tensor its matrix from each source; the source "1" is the constant."""
        found: dict[str, dict[str, Any]] = {}
        for item in self.reader.maps:
            total: dict[str, Any] = {}
            for name, coefficient in item.inputs:
                if name not in found:
                    found[name] = self._source(name, found)
                for source, matrix in found[name].items():
                    image = matrix if item.weight is None else _matrix(item, self.values) @ matrix
                    total[source] = total.get(source, 0) + coefficient * image
            if item.bias is not None:
                total["1"] = total.get("1", 0) + self.values[item.bias][:, None]
            found[item.output] = total
        return found

    def _source(self, name: str, known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Return what is known of a source: the subspace in which it lies, and a constant part."""
        import numpy as np

        size = self.reader.size(name)
        axis = self.reader.axis.get(name, len(self.reader.carriers[name].shape) - 1)
        matrix = np.eye(size)
        norm = self.norms.get(name)
        if norm is not None and norm.axes == (axis,) and norm.input in known:
            directions = np.concatenate(list(known[norm.input].values()), axis=1)
            left, spectrum, _ = np.linalg.svd(directions, full_matrices=False)
            inside = left[:, spectrum > TOLERANCE * spectrum[0]] if spectrum.size else left
            matrix = inside @ inside.T
        total = self.totals.get((name, axis))
        if total is None:
            return {name: matrix}
        centred = np.eye(size) - 1.0 / size
        found = {name: centred @ matrix @ centred if total == 0 else centred}
        return found if total == 0 else {**found, "1": np.full((size, 1), total / size)}

    def _backward(self, region: Region) -> dict[str, dict[str, Any]]:
        """Return for each tensor the matrices with which it enters each sink."""
        import numpy as np

        found: dict[str, dict[str, Any]] = {item.output: {} for item in region.maps}
        for item in reversed(region.maps):
            own = found[item.output]
            if item.output in self.reader.sinks:
                size = self.reader.size(item.output)
                forgets = (item.output, self.reader.axis.get(item.output, -1)) in self.forgets
                seen = (
                    np.eye(size) - 1.0 / size if forgets and self._only_forgets(item.output) else np.eye(size)
                )
                own[item.output] = own.get(item.output, 0) + seen
            for name, coefficient in item.inputs:
                if name not in found:
                    continue
                for sink, matrix in own.items():
                    image = matrix if item.weight is None else matrix @ _matrix(item, self.values)
                    found[name][sink] = found[name].get(sink, 0) + coefficient * image
        return found

    def _only_forgets(self, tensor: str) -> bool:
        """Whether no output of the network is this tensor and all that reads it, but for maps, forgets shifts."""
        if tensor in self.reader.related.outputs:
            return False
        axis = self.reader.axis[tensor]
        for stated in self.reader.related.stated:
            relation = stated.relation
            if tensor in reads(relation) and id(relation) not in self.reader.read_as_maps:
                inside = (
                    relation.axes == (axis,) and relation.group == "centred"
                    if isinstance(relation, Normalize)
                    else isinstance(relation, Softmax) and relation.axis == axis
                )
                if not inside:
                    return False
        return True


def _matrix(item: Map, values: Mapping[str, Any]) -> Any:
    import numpy as np

    stored = values[item.weight or ""]
    if item.diagonal:
        return np.diag(stored)
    return stored.T if item.transposed else stored


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
