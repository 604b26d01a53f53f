"""The directions in which the derived group moves given weights, and those that constraints do not use.

In: a group, a chart and a point. Out: an orthonormal basis of the span of d/dt g_t(theta) at t = 0 over the
one-parameter subgroups g of every continuous family. Those of GL and O wires, and shifts that a norm forgets,
are drawn at random, again and again until their span stops growing. What a constraint stores beyond the weight that it
makes of it is the kernel of the derivative of its map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart, State
from nnspec.compiler.ir import state_key
from nnspec.compiler.symmetry.dimensions import redundant_weights
from nnspec.compiler.symmetry.elements import directions, every_unit
from nnspec.compiler.symmetry.generators import Generator, generators
from nnspec.compiler.symmetry.moves import Multiply, Shift
from nnspec.compiler.symmetry.record import SymmetryGroup

if TYPE_CHECKING:
    from torch import Tensor

Moved = Callable[[State, float], State]

_STEP = 1e-4  # of the central difference
_TOLERANCE = 1e-6  # below it a new direction lies in the span of the others
_KERNEL = 1e-9  # of the largest singular value


def tangents(group: SymmetryGroup, chart: Chart, point: Tensor) -> Tensor:
    """Return an orthonormal basis [p, k] of what the group moves the point along."""
    found = extended(None, [_tangent(chart, point, move) for move in flows(group)], chart.count)
    for seed in range(chart.count + 1):
        drawn = [_tangent(chart, point, g) for g in generators(group, seed) if _is_drawn(g)]
        grown = extended(found, drawn, chart.count)
        if grown.shape[1] == found.shape[1]:
            break
        found = grown
    return found


def flows(group: SymmetryGroup) -> Iterator[Moved]:
    """Yield the one-parameter subgroups of scales and shifts, common ones and those of single indices.

    Index 0 is left out: it follows from the others and the common ones.
    """
    d = group.derivation
    for direction in directions(d, d.scales):
        for given in every_unit(d, direction):
            yield lambda state, t, given=given: Multiply(given=given.times(t), sign=False).apply(d, state)
    for direction in directions(d, d.shifts):
        for given in every_unit(d, direction):
            yield lambda state, t, given=given: Shift(given=given.times(t)).apply(d, state)


def redundant(group: SymmetryGroup, chart: Chart, point: Tensor) -> Iterator[Tensor]:
    """Yield for each constrained weight a basis [p, k] of the steps of stored numbers that leave the weight as it is."""
    import torch

    from nnspec.compiler.emit.load import weight_function

    places, state = chart.slices(), chart.state(point)
    for own in redundant_weights(group.derivation):
        keys = [state_key(own.owner, tensor.name) for tensor in own.weight.stored]
        entries = [
            entry for key in keys if key in places for entry in range(*places[key].indices(chart.count))
        ]
        made = weight_function(own.weight, own.owner)
        if not entries:
            continue

        def along(
            direction: Tensor, entries: list[int] = entries, made: Callable[[State], Tensor] = made
        ) -> Tensor:
            def weight(moved: Tensor) -> Tensor:
                full = point.index_copy(0, torch.tensor(entries), moved)
                return made({**state, **chart.state(full)}).reshape(-1)

            return torch.func.jvp(weight, (point[entries],), (direction,))[1]

        steps = torch.eye(len(entries), dtype=torch.float64)
        derivative = torch.stack([along(step) for step in steps], dim=1)
        _, values, right = torch.linalg.svd(derivative, full_matrices=True)
        rank = int((values > _KERNEL * values.max().clamp_min(1e-300)).sum())
        basis = torch.zeros(chart.count, len(entries) - rank, dtype=torch.float64)
        basis[entries] = right[rank:].T
        yield basis


def extended(basis: Tensor | None, more: list[Tensor], count: int) -> Tensor:
    """Return an orthonormal basis of a span and more vectors (columns [p] or [p, k])."""
    import torch

    columns = [item.reshape(count, -1) for item in more]
    old = torch.zeros(count, 0, dtype=torch.float64) if basis is None else basis
    if not columns:
        return old
    new = torch.cat(columns, dim=1)
    new = new / new.norm(dim=0).clamp_min(1e-300)
    for _ in range(2):
        new = new - old @ (old.T @ new)
    left, values, _ = torch.linalg.svd(new, full_matrices=False)
    return torch.cat([old, left[:, values > _TOLERANCE]], dim=1)


def _is_drawn(generator: Generator) -> bool:
    """Return whether a seed draws it: matrices, and the shifts of a single weight, which is named."""
    named = not (generator.wire or "%").startswith("%")
    return generator.family in ("linear", "orthogonal") or (generator.family == "shift" and named)


def _tangent(chart: Chart, point: Tensor, move: Moved) -> Tensor:
    state = chart.state(point)
    return (chart.vector(move(state, _STEP)) - chart.vector(move(state, -_STEP))) / (2 * _STEP)
