"""Equilibria of a loop: where it settles from its own start and from random ones, and how it comes there.

Equilibria that repel are not found by settling; from a start that does not settle, Newton's method is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.checks.motion import Motion, settled
from nnspec.compiler.checks.spectra import jacobian

if TYPE_CHECKING:
    from torch import Tensor

Motions = Callable[
    ["Tensor"], Motion
]  # the motion of these samples, by their numbers, which may come several times

_NEWTON = 50
_HALVINGS = 12


class Ends(NamedTuple):
    """Where random starts of one sample end."""

    equilibria: Tensor  # [count, units], the most visited first
    visits: tuple[int, ...]
    unsettled: int  # starts that go on moving: a cycle, or too slow
    gone: int  # starts that blow up


def random_starts(motion: Motion, count: int, spread: float, seed: int) -> Tensor:
    """Return states [count, units], uniform in the box of `clip`, else between -spread and spread."""
    import torch

    random = torch.Generator().manual_seed(seed)
    low, high = motion.clip or (-spread, spread)
    drawn = torch.rand(count, motion.start.shape[1], generator=random, dtype=motion.start.dtype)
    return low + (high - low) * drawn


def ends(motions: Motions, sample: int, starts: Tensor, steps: int, tolerance: float, apart: float) -> Ends:
    """Return the equilibria that a sample's starts end at; two are one if no unit differs by more than `apart`."""
    import torch

    motion = motions(torch.full((len(starts),), sample))
    found, residuals = settled(motion, starts, steps, tolerance)
    there = found[residuals < tolerance]
    gone = int(residuals.isinf().sum())
    centres: list[Tensor] = []
    visits: list[int] = []
    for state in there:
        near = [n for n, centre in enumerate(centres) if float((centre - state).abs().max()) <= apart]
        if near:
            visits[near[0]] += 1
        else:
            centres.append(state)
            visits.append(1)
    order = sorted(range(len(visits)), key=lambda n: -visits[n])
    equilibria = torch.stack([centres[n] for n in order]) if order else starts[:0]
    return Ends(equilibria, tuple(visits[n] for n in order), len(starts) - len(there) - gone, gone)


def newton(motion: Motion, start: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return roots of the pull near given states, and the residuals there; a row whose steps fail stays.

    Newton's method, damped by halving until the residual falls.
    """
    import torch

    linear: Any = torch.linalg
    states, residual = start.clone(), motion.residual(start)
    for _ in range(_NEWTON):
        if bool((residual < tolerance).all()):
            break
        slope = jacobian(motion, states)
        if motion.form == "map":
            slope = slope - torch.eye(slope.shape[1], dtype=slope.dtype)
        free = motion.free(states)
        both = free.unsqueeze(2) & free.unsqueeze(1)
        slope = torch.where(both, slope, torch.eye(slope.shape[1], dtype=slope.dtype))
        moved = motion.pull(states).where(free, 0)
        way = -linear.lstsq(slope, moved.unsqueeze(2)).solution.squeeze(2)
        states, residual = _shortened(motion, states, way, residual)
    return states, residual


def _shortened(motion: Motion, states: Tensor, way: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    length = torch.ones_like(before)
    tried, after = states, before
    for _ in range(_HALVINGS):
        tried = motion.clipped(states + length.unsqueeze(1) * way)
        after = motion.residual(tried)
        if bool((after < before).all()):
            break
        length = torch.where(after < before, length, length / 2)
    better = after < before
    return torch.where(better.unsqueeze(1), tried, states), torch.where(better, after, before)


def exponent(motion: Motion, start: Tensor, steps: int, seed: int) -> Tensor:
    """Return the largest finite-time Lyapunov exponent of each row: per step of a map, per unit of time of a flow.

    The mean logarithm of how much each step stretches a tangent, which turns to the most stretched direction on the
    way (Benettin et al., 1980). A tenth of the steps goes by before it is measured. -inf where a step forgets every
    direction, as where all units are held.
    """
    import torch

    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(start.shape, generator=random, dtype=start.dtype)
    tangent = drawn / _lengths(drawn)
    states, total, counted = start, torch.zeros(len(start), dtype=start.dtype), 0
    for step in range(steps):
        moved: Any = torch.func.jvp(motion.step, (states,), (tangent,))
        states, tangent = moved
        size = _lengths(tangent)
        if step >= steps // 10:
            total += size[:, 0].log()
            counted += 1
        tangent = tangent / size.clamp(min=1e-300)
    return total / (counted * (motion.stride if motion.form == "flow" else 1.0))


def _lengths(rows: Tensor) -> Tensor:
    return rows.square().sum(1, keepdim=True).sqrt()
