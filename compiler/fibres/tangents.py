"""The directions in which the derived group moves given weights.

In: a group, a chart and a point. Out: an orthonormal basis of the span of d/dt g_t(theta) at t = 0 over the
generators g of every continuous family. A generator speaks of one or two indices of a wire on which
permutations act; carried along by the permutations it speaks of all (pi g pi^-1). Those of GL and O wires
are drawn at random, again and again until their span stops growing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.symmetry.generators import Generator, generators
from nnspec.compiler.symmetry.record import SymmetryGroup

if TYPE_CHECKING:
    from torch import Tensor

_STEP = 1e-4  # of the central difference
_TOLERANCE = 1e-6  # below it a new direction lies in the span of the others
_MOST_DRAWS = 300


def tangents(group: SymmetryGroup, chart: Chart, point: Tensor) -> Tensor:
    """Return an orthonormal basis [p, k] of what the group moves the point along."""
    found = extended(None, list(_moves(group, chart, point, 0)), chart.count)
    drawn = [g for g in generators(group) if g.family in ("linear", "orthogonal") or _is_drawn(g)]
    if drawn:
        for seed in range(1, _MOST_DRAWS):
            grown = extended(found, list(_drawn(group, chart, point, seed)), chart.count)
            if grown.shape[1] == found.shape[1]:
                break
            found = grown
    return found


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


def _moves(group: SymmetryGroup, chart: Chart, point: Tensor, seed: int) -> Iterator[Tensor]:
    listed = list(generators(group, seed))
    turning = {g.wire: g for g in listed if g.family == "permutation"}
    wires = {wire.space.tensor: wire for wire in group.wires}
    for generator in listed:
        if generator.family in ("permutation", "sign"):
            continue
        yield _tangent(chart, point, generator)
        wire = wires.get(generator.wire or "")
        permutation = turning.get(None if wire is None else wire.name)
        if wire is not None and permutation is not None:
            for turn in range(1, wire.size):
                yield _conjugate(chart, point, generator, permutation, turn, wire.size)


def _drawn(group: SymmetryGroup, chart: Chart, point: Tensor, seed: int) -> Iterator[Tensor]:
    for generator in generators(group, seed):
        if generator.family in ("linear", "orthogonal") or _is_drawn(generator):
            yield _tangent(chart, point, generator)


def _is_drawn(generator: Generator) -> bool:
    """Return whether it is one of the shifts of a single weight, which a seed draws."""
    return generator.family == "shift" and not (generator.wire or "%").startswith("%")


def _tangent(chart: Chart, point: Tensor, generator: Generator) -> Tensor:
    state = chart.state(point)
    ahead = chart.vector(generator(state, _STEP))
    behind = chart.vector(generator(state, -_STEP))
    return (ahead - behind) / (2 * _STEP)


def _conjugate(
    chart: Chart, point: Tensor, generator: Generator, permutation: Generator, turn: int, size: int
) -> Tensor:
    """Return the tangent of pi^turn g pi^-turn; a permutation applied `size` times is none."""
    state = permutation(chart.state(point), size - turn)
    ahead = permutation(generator(state, _STEP), turn)
    behind = permutation(generator(state, -_STEP), turn)
    return (chart.vector(ahead) - chart.vector(behind)) / (2 * _STEP)
