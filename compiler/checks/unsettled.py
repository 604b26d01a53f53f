"""Why states had not settled after their steps: the spectrum of a step where they ended, and what would help.

In: a network, weights, inputs, and how the states settled. Out: the spectral radius of a step where its slowest sample ended, and
advice, which was tried. Eigenvalues are Ritz values of some steps of Arnoldi's method, for all samples at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.checks.loops import Placed, loops
from nnspec.compiler.checks.motion import Motion, settled
from nnspec.compiler.ir import Graph
from nnspec.compiler.solvers import LEAPS

if TYPE_CHECKING:
    from torch import Tensor

_VECTORS = 30  # of Arnoldi's method
_NOTHING = 1e-10  # of a vector that is left of another
_TRIED = (4, 2, 1, 0.5, 0.25, 0.1)  # times the length of a step
_LONGER = 10  # times the steps, at most, and between these bounds
_FEWEST, _MOST = 200, 1_000
_AT_ONCE = 10  # steps between two looks at the residual


class Reason(NamedTuple):
    """The spectral radius of a step, and what to try."""

    radius: float
    advice: str


class Settling(NamedTuple):
    """How states settled: `stride` is the damping or time step, None for the loop's own."""

    steps: int
    tolerance: float
    stride: float | None = None


def reason(
    graph: Graph, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...], given: Settling
) -> Reason | None:
    """Return why the loop of a network that is furthest from rest did not settle; None where all do, or blow up."""
    import torch

    from nnspec.compiler.checks.motions import motions_of

    rows = tuple(values.cpu().double() if values.is_floating_point() else values.cpu() for values in inputs)
    own = {key: tensor.detach().cpu() for key, tensor in state.items()}
    found: list[tuple[float, Reason]] = []
    for placed in loops(graph):
        motion = motions_of(graph, placed, own, rows)(torch.arange(len(rows[0])))
        if given.stride is not None:
            motion = motion._replace(stride=given.stride)
        states, residual = settled(motion, motion.start, given.steps, 0.0)
        worst = int(residual.argmax())
        left = float(residual[worst])
        if given.tolerance < left < math.inf:
            values = ritz_values(motion, states)[worst]
            radius = float((1 + motion.stride * values).abs().max())
            found.append((left, Reason(radius, _advice(motion, given, placed))))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def ritz_values(motion: Motion, states: Tensor) -> Tensor:
    """Return eigenvalues, [rows, vectors], of the slope of the pull of each row, on a Krylov space of a random vector."""
    import torch

    count = min(_VECTORS, states.shape[1])
    random = torch.Generator().manual_seed(0)
    basis: list[Tensor] = []
    following = torch.zeros_like(states)
    table = states.new_zeros(len(states), count, count)
    for column in range(count):
        size = _length(following)
        fresh = _beside(basis, torch.randn(states.shape, generator=random, dtype=states.dtype))
        ends = size < _NOTHING  # of a row whose vectors span a space of their own: go on outside of it
        if column:
            table[:, column, column - 1] = size.where(~ends, 0)
        following = torch.where(ends[:, None], fresh, following)
        basis.append(following / _length(following)[:, None])
        moved: Any = torch.func.jvp(motion.pull, (states,), (basis[-1],))[1]
        table[:, : column + 1, column] = torch.stack([(vector * moved).sum(1) for vector in basis], 1)
        following = _beside(basis, moved)
    linear: Any = torch.linalg
    return linear.eigvals(table)


def _beside(basis: list[Tensor], vector: Tensor) -> Tensor:
    """Return the part of a vector of each row that is orthogonal to a basis; twice, for what rounding left."""
    for own in (*basis, *basis):
        vector = vector - (own * vector).sum(1, keepdim=True) * own
    return vector


def _length(rows: Tensor) -> Tensor:
    return rows.square().sum(1).sqrt()


def _advice(motion: Motion, given: Settling, placed: Placed) -> str:
    """Return what brings these samples to rest: more steps, others, or what else there is."""
    word, limit = ("damping", 1.0) if motion.form == "map" else ("dt", math.inf)
    if placed.loop.solver.name in LEAPS:
        return (
            f"give `{placed.loop.solver.name}` more `steps` or a larger `memory`, or the loop smaller weights"
        )
    lengths = dict.fromkeys(min(factor * motion.stride, limit) for factor in _TRIED)
    counts = {length: _steps(motion._replace(stride=length), given) for length in lengths}
    known = {length: count for length, count in counts.items() if count is not None}
    own = counts[motion.stride]
    if not known:
        tried = f"no `{word}` from {min(lengths):.2g} to {max(lengths):.2g} brought them to rest in {_most(given):,} steps"
        return (
            "bound the states with `clip`, make the weights of the loop smaller, as `spectral(0.9)` does, or take "
            f"`solve = anderson`: {tried}"
        )
    best = min(known, key=lambda length: known[length])
    other = f"`{word} = {best:.2g}`, with which {known[best]:,} are enough"
    if own is None:
        return f"take {other.replace(' are enough', ' steps are enough')}"
    return f"take more steps: {own:,} are enough" + (f"; or {other}" if 2 * known[best] <= own else "")


def _steps(motion: Motion, given: Settling) -> int | None:
    """Return after how many steps all samples are at rest; None if that takes too long."""
    states = motion.start
    for count in range(_AT_ONCE, _most(given) + 1, _AT_ONCE):
        states, residual = settled(motion, states, _AT_ONCE, given.tolerance)
        if bool((residual < given.tolerance).all()):
            return count
        if bool(residual.isinf().any()):
            return None
    return None


def _most(given: Settling) -> int:
    return min(_MOST, max(_FEWEST, _LONGER * given.steps))
