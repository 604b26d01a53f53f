"""Why some directions of the weights move no output although no symmetry of the architecture says so.

In: the spectrum of a Jacobian, what the group moves the point along, and the units on the probe. A cause explains the null
vectors that live on the weights it speaks of: those that the pieces of the network, cut at its functions, do not show (linear
pieces, those under constraints, polynomials), those of dead units, of constant ones (and the biases behind them), of doubles,
of units that are always on, of wires whose read-out is narrow, of single linear maps (their inputs do not fill their wire,
or what follows forgets these directions), and of units that drive themselves. What is left is unknown. Each direction
is counted once, under the first cause that explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.rank import TOLERANCE, Spectrum
from nnspec.compiler.fibres.tangents import extended
from nnspec.compiler.fibres.units import Units

if TYPE_CHECKING:
    from torch import Tensor

_ALONE = 1e-9  # a number that changes nothing by itself lies in a span of directions up to this

CAUSES: tuple[str, ...] = (
    "dead unit",
    "constant unit",
    "duplicate units",
    "always-on unit",
    "kernel of a read-out",
    "within one linear map",
    "unit's connection to itself",
    "inside a constraint",
    "polynomials",
    "statistics of a norm",
    "behind a step",
    "unknown",
)
_OF_KERNELS = (
    "kernel of a read-out",
    "within one linear map",
)  # both are of the group's family `kernel`


def causes(
    chart: Chart,
    found: Spectrum,
    units: tuple[Units, ...],
    declared: Tensor,
    expected: int,
    unused: tuple[int, ...] = (),
    maps: tuple[tuple[int, ...], ...] = (),
    pieces: Iterable[tuple[str, Tensor]] = (),
) -> dict[str, int]:
    """Count the null directions beyond `expected` by cause.

    `declared` is a basis of those that the group's generators give, and of what constraints store and do not
    use; `unused` are the entries that no output depends on, `maps` those of each map and its bias. Kernel directions that
    the group counts have no generators: they are found as kernels. `pieces` are causes with the null directions that
    each explains, [p, k], asked for only where something is left.
    """
    known = extended(declared, [_null_on(found, unused)] if unused else [], chart.count)
    owed = max(0, expected - known.shape[1])  # of the group, and still to be found
    left = max(0, found.nullity - expected)
    counted = dict.fromkeys(CAUSES, 0)
    more = min(
        left, max(0, known.shape[1] - expected)
    )  # stored, and at these weights not used by a constraint
    counted["inside a constraint"] += more
    left -= more
    idle = (declared.square().sum(dim=1) > 1 - _ALONE).nonzero().flatten().tolist()
    for cause, basis in pieces if left else ():
        before = known.shape[1]
        known = extended(known, [basis], chart.count)
        new = known.shape[1] - before
        paid = min(owed, new)
        owed, new = owed - paid, min(new - paid, left)
        counted[cause] += new
        left -= new
    for cause, entries in (
        *_kernels(units, chart, idle, bool(owed)),
        *_suspects(units),
        *_kernels(units, chart, idle, not owed),
        *(("within one linear map", own) for own in maps),
        *_selves(units),
    ):
        if not left:
            break
        before = known.shape[1]
        known = extended(known, [_null_on(found, entries)], chart.count)
        new = known.shape[1] - before
        if cause in _OF_KERNELS:
            paid = min(owed, new)
            owed, new = owed - paid, new - paid
        counted[cause] += min(new, left)
        left -= min(new, left)
    counted["unknown"] = left
    return counted


def shares(chart: Chart, hidden: Tensor) -> dict[str, float]:
    """Return how much of a space of null vectors [p, k] lies on each tensor; the shares add up to 1."""
    count = max(1, hidden.shape[1])
    return {key: float((hidden[place] ** 2).sum()) / count for key, place in chart.slices().items()}


def beyond(found: Spectrum, declared: Tensor) -> Tensor:
    """Return a basis of the null vectors that are orthogonal to what the group gives."""
    import torch

    null = found.null
    rest = null - declared @ (declared.T @ null)
    left, values, _ = torch.linalg.svd(rest, full_matrices=False)
    return left[:, values > 0.5]  # cosines of orthonormal vectors: near 0 or near 1


def _suspects(units: tuple[Units, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield causes and the entries of the weights that each speaks of."""
    own = [(u, index, kind) for u in units for index, kind in enumerate(u.kinds)]
    for u, index, kind in own:
        if kind == "dead":
            yield "dead unit", (*u.made[index], *u.read[index])
    for u, index, kind in own:
        if kind == "constant":
            yield "constant unit", (*u.made[index], *u.read[index], *u.behind)
    for u in units:
        for group in u.doubles:
            yield "duplicate units", _entries(u, group)
    for u in units:
        on = tuple(index for index, kind in enumerate(u.kinds) if kind == "always on")
        if on:
            yield "always-on unit", (*_entries(u, on), *u.behind)


def _kernels(
    units: tuple[Units, ...], chart: Chart, idle: Iterable[int], wanted: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield what makes a linear wire, part of which its readers may not see, and units that nothing reads.

    Entries that are `idle`, such as those behind a mask, read nothing.
    """
    point = chart.point.clone()
    point[list(idle)] = 0.0
    for u in units if wanted else ():
        seen = [u.is_linear or not bool(point[list(read)].any()) for read in u.read]
        made = chain.from_iterable(own for own, is_so in zip(u.made, seen, strict=True) if is_so)
        yield "kernel of a read-out", tuple(dict.fromkeys(made))


def _selves(units: tuple[Units, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield what makes each unit that drives itself: where its function is linear, z = w z + r rests at r / (1 - w)."""
    for u in units:
        for made, read in zip(u.made, u.read, strict=True):
            if set(made) & set(read):
                yield "unit's connection to itself", made


def _entries(u: Units, group: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(entry for index in group for entry in (*u.made[index], *u.read[index])))


def _null_on(found: Spectrum, entries: tuple[int, ...]) -> Tensor:
    """Return a basis [p, k] of the null vectors that move nothing but these entries."""
    import torch

    size = found.triangle.shape[1]
    if not entries:
        return torch.zeros(size, 0, dtype=torch.float64)
    chosen = list(dict.fromkeys(entries))
    _, values, right = torch.linalg.svd(found.triangle[:, chosen], full_matrices=True)
    rank = int((values > TOLERANCE * found.values[0]).sum())
    basis = torch.zeros(size, len(chosen) - rank, dtype=torch.float64)
    basis[chosen] = right[rank:].T
    return basis
