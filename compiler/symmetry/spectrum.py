"""The spectrum of a network's Jacobian: how its outputs move with its weights.

In: a typed graph, a state in double precision, and which entries of it move. Out: singular values, largest first, one
for each entry. Inputs are added until the rank stands still: behind a kink few inputs see little. Weights with a
straight-through constraint take few values; they stand still. Statistics that a norm keeps take part in symmetries:
what they can make good counts as no movement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.relations import Normalize
from nnspec.compiler.rewrites.hard import hard, hard_state
from nnspec.compiler.symmetry.draws import learned_keys, outputs_of, random_inputs, with_same_draws
from nnspec.compiler.symmetry.places import key_of
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-9  # of the largest singular value
_FEWEST = 64  # inputs
_CHUNK = 256  # directions at once


class Spectrum(Node):
    """Singular values, largest first; `samples` inputs were looked at."""

    values: tuple[float, ...]
    samples: int

    @property
    def rank(self) -> int:
        return sum(value > TOLERANCE * self.values[0] for value in self.values) if self.values else 0

    @property
    def nullity(self) -> int:
        return len(self.values) - self.rank

    @property
    def gap(self) -> float:
        """The smallest singular value kept over the largest one dropped."""
        rank = self.rank
        if not 0 < rank < len(self.values) or not self.values[rank]:
            return inf
        return self.values[rank - 1] / self.values[rank]


def jacobian_spectrum(
    graph: Graph,
    group: SymmetryGroup,
    state: Mapping[str, Tensor],
    seed: int,
    entries: Mapping[str, Tensor] | None = None,
) -> Spectrum:
    """Return the spectrum of the Jacobian at a state.

    `entries` names flat indices of the tensors that move, by state-dict key; all learned ones by default.
    """
    learned = learned_keys(graph)
    graph, state = hard(graph), hard_state(graph, dict(state))
    moving = _entries(learned, state, entries)
    count = sum(index.numel() for index in moving.values())
    if not count:
        return Spectrum(values=(), samples=0)
    kept = _statistics(group, state)
    jacobian = _jacobian(graph, group, state, {**moving, **kept}, seed)
    samples = max(_FEWEST, ceil(2 * count / _outputs(graph, group, state, seed)))
    found = _reduced(jacobian(samples, 0), None)
    spectrum = _spectrum(found, count, samples)
    while samples < max(2 * _FEWEST, 3 * count):
        found = _reduced(jacobian(samples, samples), found)
        samples *= 2
        before, spectrum = spectrum, _spectrum(found, count, samples)
        if spectrum.nullity == before.nullity:
            break
    return spectrum


def _entries(
    learned: list[str], state: Mapping[str, Tensor], entries: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    import torch

    if entries is None:
        return {name: torch.arange(state[name].numel()) for name in learned}
    return {name: index for name, index in entries.items() if name in learned and index.numel()}


def _statistics(group: SymmetryGroup, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the means and variances that norms keep."""
    import torch

    norms = (s.relation for s in group.derivation.related.stated if isinstance(s.relation, Normalize))
    names = dict.fromkeys(name for norm in norms for name in (norm.mean, norm.variance) if name is not None)
    return {
        key_of(name): torch.arange(state[key_of(name)].numel()) for name in names if key_of(name) in state
    }


def _outputs(graph: Graph, group: SymmetryGroup, state: Mapping[str, Tensor], seed: int) -> int:
    """Return how many numbers a network gives for one input."""
    found = with_same_draws(graph, seed)(state, *random_inputs(graph, group, 1, seed))
    return max(1, outputs_of(found).shape[1])


def _jacobian(
    graph: Graph,
    group: SymmetryGroup,
    state: Mapping[str, Tensor],
    moving: Mapping[str, Tensor],
    seed: int,
) -> Callable[[int, int], Tensor]:
    """Return a function of (how many inputs, which draw of them) that gives the rows of the Jacobian there."""
    import torch

    forward = with_same_draws(graph, seed)
    sizes = [index.numel() for index in moving.values()]
    point = torch.cat([state[name].flatten()[index] for name, index in moving.items()])

    def rows(samples: int, draw: int) -> Tensor:
        inputs = random_inputs(graph, group, samples, seed + 7919 * draw)

        def outputs(flat: Tensor) -> Tensor:
            changed = dict(state)
            for (name, index), part in zip(moving.items(), torch.split(flat, sizes), strict=True):
                own = state[name]
                changed[name] = own.flatten().index_copy(0, index, part).view(own.shape)
            return outputs_of(forward(changed, *inputs)).flatten()

        def along(direction: Tensor) -> Tensor:
            moved: tuple[Any, ...] = torch.func.jvp(outputs, (point,), (direction,))
            return moved[1]

        many: Any = torch.func.vmap(along, randomness="same", chunk_size=_CHUNK)
        return many(torch.eye(point.numel(), dtype=torch.float64)).T

    return rows


def _reduced(rows: Tensor, before: Tensor | None) -> Tensor:
    """Return the triangular factor of rows below those that came before: it has their singular values."""
    import torch

    stacked = rows if before is None else torch.cat([before, rows])
    if stacked.shape[0] <= stacked.shape[1]:
        return stacked
    linear_algebra: Any = torch.linalg
    return linear_algebra.qr(stacked, mode="r")[1]


def _spectrum(triangular: Tensor, count: int, samples: int) -> Spectrum:
    import torch

    linear_algebra: Any = torch.linalg
    moving, kept = triangular[:, :count], triangular[:, count:]
    least = 0.0
    if kept.shape[1]:
        least = TOLERANCE * float(linear_algebra.matrix_norm(moving))  # what is left of nothing is rounding
        left, sizes, _ = linear_algebra.svd(kept, full_matrices=False)
        inside = left[:, sizes > TOLERANCE * sizes[0]]
        moving = moving - inside @ (inside.T @ moving)
    found: list[float] = linear_algebra.svdvals(moving).tolist()
    values = [value if value > least else 0.0 for value in found]
    return Spectrum(values=(*values, *(0.0,) * (count - len(values))), samples=samples)
