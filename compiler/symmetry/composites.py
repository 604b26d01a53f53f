"""What a network sees of its linear regions, and what it does not.

Between nonlinear tensors a network depends on its weights only through the composite maps from every source
(and the constant 1) to every sink. The directions that change no composite are all that shifts, GL wires and
kernels of narrow readers together leave free; at random weights their number is exact, whatever the
shapes. Regions of a single map of its own are skipped: their composite is the weight itself.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.symmetry.regions import Map, Maps, Region
from nnspec.compiler.symmetry.relate import Related
from nnspec.dsl.node import Node

LIMIT = 1200  # unknowns of one region; the cost grows with the cube


class Unseen(Node):
    """How many directions of the weights no composite shows, and whether every region was counted."""

    dimension: int
    complete: bool
    note: str | None = None
    plain: frozenset[str] = frozenset()  # weights that are a composite, or the only weight of one
    alone: frozenset[str] = frozenset()  # weights that are a region of their own
    border: frozenset[str] = frozenset()  # tensors at which regions end or begin


def unseen_directions(related: Related) -> Unseen:
    """Count the directions of the weights that change no composite map, at random weights."""
    reader = Maps(related)
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
        total += unseen_in(region, reader)
    return Unseen(
        dimension=total,
        complete=note is None,
        note=note,
        plain=reader.plain_weights() - reader.taken,
        alone=frozenset(alone) - reader.taken,
        border=frozenset(reader.border),
    )


def unseen_in(region: Region, reader: Maps) -> int:
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


def _forward(region: Region, reader: Maps, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
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


def _backward(region: Region, reader: Maps, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
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
