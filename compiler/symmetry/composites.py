"""What a network sees of its linear regions, and what it does not.

Between nonlinear tensors a network depends on its weights only through the composite maps from every source
(and the constant 1) to every sink. The directions that change no composite are all that shifts, GL wires and
kernels of narrow readers together leave free; at random weights they are all of them, whatever the shapes. A
source that a norm made is known to lie in a subspace (its entries sum to zero, or it is turned from a narrow
wire), and a sink that forgets a common shift sees a map up to that. A norm sees what it reads up to turns and scales, and
makes a source that is turned alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nnspec.compiler.relations import Normalize, Relation, Softmax
from nnspec.compiler.symmetry.regions import Map, Maps, Region, reads
from nnspec.compiler.symmetry.relate import Related
from nnspec.compiler.symmetry.turns import Joined, joined_regions
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
    for joined in joined_regions(reader, composites.norms, LIMIT):
        if joined.unknowns <= LIMIT:
            yield from composites.unseen_in(joined)


class _Eye(Node):
    """What sees a sink: up to a projection, and up to what a norm forgets if that is what sees it."""

    seen: Any
    norm: Normalize | None = None


class _Composites:
    """The composite maps of all regions: what each tensor is of its sources, and what each sink is of it."""

    def __init__(self, reader: Maps, values: Mapping[str, Any], steps: Callable[[str], Any]) -> None:
        self.reader = reader
        self.values = values
        self.steps = steps
        self.norms: dict[str, Normalize] = {}
        self.totals: dict[tuple[str, int], float] = {}
        self.seeing: dict[str, list[Relation]] = {}  # what reads a tensor, but for maps
        for stated in reader.related.stated:
            self._note(stated.relation)
        self.forward = self._forward(self._source)
        self.whole = self._forward(lambda name, _: {name: _identity(reader.size(name))})

    def _note(self, relation: Relation) -> None:
        if id(relation) not in self.reader.read_as_maps:
            for tensor in reads(relation):
                self.seeing.setdefault(tensor, []).append(relation)
        if isinstance(relation, Normalize) and relation.group != "unit" and len(relation.axes) == 1:
            self.norms[relation.output] = relation
            if relation.group == "centred":
                self.totals[relation.output, relation.axes[0]] = 0.0
        elif isinstance(relation, Softmax) and relation.total is not None:
            self.totals[relation.output, relation.axis] = relation.total

    def unseen_in(self, joined: Joined) -> Iterator[dict[str, Any]]:
        """Yield a basis of the directions of the weights of regions that change no composite."""
        import numpy as np

        region = joined.region
        # What a weight does outside of maps, no composite tells.
        plain = (name for name in dict.fromkeys(region.weights) if name not in self.reader.taken)
        names = [name for name in plain if self.reader.columns(name)]
        if not names:
            return
        backward = self._backward(region)
        sinks = list(dict.fromkeys(sink for rows in backward.values() for sink in rows))
        rows = [(sink, eye) for sink in sinks for eye in self._eyes(sink)]
        steps = {name: self.steps(name) for name in names if not self.reader.carriers[name].is_free}
        parts: list[Any] = []
        for name in names:
            columns = self._stacked(rows, _blocks(name, region, self.forward, backward))
            parts.append(columns @ steps[name] if name in steps else columns)
        own = sum(part.shape[1] for part in parts)
        norms = [self._forgotten(rows, eye.norm, joined) for _, eye in rows if eye.norm is not None]
        for row in _moving(_null_space(np.concatenate([*parts, *norms], axis=1)), own):
            found: dict[str, Any] = {}
            start = 0
            for name, part in zip(names, parts, strict=True):
                part_of_row = row[start : start + part.shape[1]]
                moved = steps[name] @ part_of_row if name in steps else part_of_row
                found[name] = moved.reshape(self.values[name].shape)
                start += part.shape[1]
            yield found

    def _stacked(self, rows: list[tuple[str, _Eye]], blocks: Mapping[tuple[str, str], Any]) -> Any:
        """Return how what eyes see of every composite changes; `blocks` are [sink, source, numbers]."""
        import numpy as np

        width = next(iter(blocks.values())).shape[-1] if blocks else 0
        found: list[Any] = []
        for sink, eye in rows:
            for source, matrix in self.forward[sink].items():
                block = blocks.get((sink, source))
                seen = np.zeros((*matrix.shape, width)) if block is None else np.tensordot(eye.seen, block, 1)
                found.append(seen.reshape(-1, width))
        return np.concatenate(found, axis=0)

    def _forgotten(self, rows: list[tuple[str, _Eye]], norm: Normalize, joined: Joined) -> Any:
        """Return how composites change by a scale of what a norm reads, and by its turns, with what reads it."""
        import numpy as np

        basis = [turn.basis for turn in joined.turns if turn.norm is norm]
        acting = np.concatenate([np.eye(self.reader.size(norm.input))[None], *basis])
        turning = np.concatenate([np.zeros((1, *acting.shape[1:])), *basis])  # a scale is forgotten
        found: list[Any] = []
        for sink, eye in rows:
            for source, matrix in self.forward[sink].items():
                block = np.zeros((*matrix.shape, len(acting)))
                if eye.norm is norm:
                    block -= np.moveaxis(acting @ matrix, 0, 2)
                if source == norm.output:
                    block += np.moveaxis(self.whole[sink][source] @ turning @ self.forward_of(source), 0, 2)
                found.append(np.tensordot(eye.seen, block, 1).reshape(-1, len(acting)))
        return np.concatenate(found, axis=0)

    def forward_of(self, source: str) -> Any:
        """Return the subspace in which a source lies, as the matrix that stands for it in composites."""
        return self.forward[source][source]

    def _eyes(self, sink: str) -> Iterator[_Eye]:
        """Yield what sees a sink: each norm along its axis, what forgets shifts, and all else at once."""
        whole = _identity(self.reader.size(sink))
        centred = whole - 1.0 / len(whole)
        axis = self.reader.axis.get(sink, -1)
        plain = sink in {*self.reader.related.outputs, *self.reader.carried} or sink not in self.seeing
        for relation in self.seeing.get(sink, []):
            if isinstance(relation, Normalize) and relation.group != "unit" and relation.axes == (axis,):
                yield _Eye(seen=centred if relation.group == "centred" else whole, norm=relation)
            elif isinstance(relation, Softmax) and relation.axis == axis:
                yield _Eye(seen=centred)
            else:
                plain = True
        if plain:
            yield _Eye(seen=whole)

    def _forward(
        self, source_of: Callable[[str, Mapping[str, dict[str, Any]]], dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Return for each tensor its matrix from each source; the source "1" is the constant."""
        found: dict[str, dict[str, Any]] = {}
        for item in self.reader.maps:
            total: dict[str, Any] = {}
            for place, (name, coefficient) in enumerate(item.inputs):
                if name not in found:
                    found[name] = source_of(name, found)
                acting = self._acting(item, place)
                for source, matrix in found[name].items():
                    total[source] = total.get(source, 0) + coefficient * acting @ matrix
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

    def _acting(self, item: Map, place: int) -> Any:
        """Return the matrix with which a map acts on one of its inputs."""
        if item.weight is not None:
            return _matrix(item, self.values)
        size = self.reader.size(item.output)
        if item.part is not None:
            return _identity(self.reader.size(item.inputs[place][0]))[item.part : item.part + size]
        if item.starts:
            start = item.starts[place]
            return _identity(size)[:, start : start + self.reader.size(item.inputs[place][0])]
        return _identity(size)

    def _backward(self, region: Region) -> dict[str, dict[str, Any]]:
        """Return for each tensor the matrices with which it enters each sink."""

        found: dict[str, dict[str, Any]] = {item.output: {} for item in region.maps}
        for item in reversed(region.maps):
            own = found[item.output]
            if item.output in self.reader.sinks:
                own[item.output] = own.get(item.output, 0) + _identity(self.reader.size(item.output))
            for place, (name, coefficient) in enumerate(item.inputs):
                if name not in found:
                    continue
                acting = self._acting(item, place)
                for sink, matrix in own.items():
                    found[name][sink] = found[name].get(sink, 0) + coefficient * matrix @ acting
        return found


def _identity(size: int) -> Any:
    import numpy as np

    return np.eye(size)


def _null_space(matrix: Any) -> Any:
    """Return an orthonormal basis of what a matrix takes to zero, a row each."""
    import numpy as np

    if len(matrix) > matrix.shape[1]:
        matrix = np.linalg.qr(matrix, mode="r")
    _, spectrum, right = np.linalg.svd(matrix, full_matrices=True)
    rank = int((spectrum > TOLERANCE * spectrum[0]).sum()) if spectrum.size else 0
    return right[rank:]


def _moving(rows: Any, count: int) -> Any:
    """Return a basis of the first `count` numbers of some rows: what norms forget may move no weight."""
    import numpy as np

    _, spectrum, right = np.linalg.svd(rows[:, :count], full_matrices=False)
    return right[spectrum > TOLERANCE]


def _matrix(item: Map, values: Mapping[str, Any]) -> Any:
    import numpy as np

    stored = values[item.weight or ""]
    if item.diagonal:
        return np.diag(stored)
    return stored.T if item.transposed else stored


def _blocks(
    name: str, region: Region, forward: dict[str, dict[str, Any]], backward: dict[str, dict[str, Any]]
) -> dict[tuple[str, str], Any]:
    """Return how every composite changes with the entries of one weight, over all its uses: [sink, source, entries]."""
    blocks: dict[tuple[str, str], Any] = {}
    for item in region.maps:
        if name not in (item.weight, item.bias):
            continue
        for sink, matrix in backward[item.output].items():
            if name == item.bias:
                blocks[sink, "1"] = blocks.get((sink, "1"), 0) + matrix[:, None, :]
                continue
            for source, inner in forward[item.inputs[0][0]].items():
                blocks[sink, source] = blocks.get((sink, source), 0) + _kron(matrix, inner, item)
    return blocks


def _kron(outer: Any, inner: Any, item: Map) -> Any:
    """Return d(outer @ W @ inner) / dW as [sink, source, entries of W, row-major]."""
    import numpy as np

    if item.diagonal:
        return np.einsum("so,ok->sko", outer, inner)
    full = np.einsum("so,ik->skoi", outer, inner)
    if item.transposed:
        full = full.transpose(0, 1, 3, 2)
    return full.reshape(*full.shape[:2], -1)
