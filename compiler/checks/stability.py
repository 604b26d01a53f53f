"""Whether a loop settles, where, and whether it stays: everything that is measured of one loop at given weights.

In: the motions of some samples. Out: `Stability`, numbers for JSON and tensors for pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.checks.equilibria import Ends, Motions, ends, exponent, newton, random_starts
from nnspec.compiler.checks.motion import Motion, Path, followed
from nnspec.compiler.checks.spectra import Spectrum, jacobian, spectrum

if TYPE_CHECKING:
    from torch import Tensor

_CLOSE = 1e-3  # equilibria nearer than this are one
_SHOWN = 12  # paths from random starts that are kept


class Settings(NamedTuple):
    """How long, from where and how exactly is looked."""

    samples: int = 4
    starts: int = 20
    spread: float = 1.0
    steps: int = 500
    tolerance: float = 1e-6
    seed: int = 0


class Stability(NamedTuple):
    """What was found of one loop."""

    motion: Motion  # of the samples
    path: Path  # from its own start
    found: Tensor  # an equilibrium of each sample, [samples, units]; of one that does not settle, by Newton's method
    left: Tensor  # the residual there
    spectra: tuple[Spectrum, ...]
    ends: tuple[Ends, ...]
    stretch: float  # the contraction number at its worst, over states on the way
    exponent: float
    paths: Path  # of the first sample, from random starts
    energies: Tensor | None  # along them, [steps + 1, starts]
    tolerance: float

    @property
    def worst(self) -> Spectrum:
        return max(self.spectra, key=lambda one: one.step_radius)

    @property
    def settled(self) -> list[bool]:
        """Whether each sample comes to rest from its own start."""
        return [bool(value) for value in self.path.residuals[-1] < self.tolerance]


def stability(motions: Motions, given: Settings) -> Stability:
    """Measure a loop."""
    import torch

    motion = motions(torch.arange(given.samples))
    path = followed(motion, motion.start, given.steps)
    found, left = newton(motion, path.states[-1], given.tolerance * 1e-6)
    slopes = jacobian(motion, found)
    free = motion.free(found)
    spectra = tuple(
        spectrum(own[units][:, units], motion.form, motion.stride)
        for own, units in zip(slopes, free, strict=True)
    )
    drawn = random_starts(motion, given.starts, given.spread, given.seed)
    paths, energies, crowd = _paths(motions, drawn, given)
    return Stability(
        motion=motion,
        path=path,
        found=found,
        left=left,
        spectra=spectra,
        ends=tuple(
            ends(motions, sample, drawn, given.steps, given.tolerance, _CLOSE)
            for sample in range(given.samples)
        ),
        stretch=max(_stretch(crowd, drawn), *(one.contraction for one in spectra)),
        exponent=float(exponent(motion, motion.start, given.steps, given.seed).max()),
        paths=paths,
        energies=energies,
        tolerance=given.tolerance,
    )


def _paths(motions: Motions, drawn: Tensor, given: Settings) -> tuple[Path, Tensor | None, Motion]:
    import torch

    crowd = motions(torch.zeros(len(drawn), dtype=torch.long))
    shown = (
        crowd._replace(start=drawn)
        if len(drawn) <= _SHOWN
        else motions(torch.zeros(_SHOWN, dtype=torch.long))
    )
    paths = followed(shown, drawn[:_SHOWN], given.steps)
    energies = None if shown.energy is None else torch.stack([shown.energy(s) for s in paths.states])
    return paths, energies, crowd


def _stretch(motion: Motion, states: Tensor) -> float:
    """Return the largest contraction number over some states, all units free."""
    slopes = jacobian(motion, states)
    return max(spectrum(own, motion.form, motion.stride).contraction for own in slopes)


def largest_stride(values: Tensor, form: str) -> float | None:
    """Return the damping or time step below which plain steps come closer to an equilibrium with these eigenvalues.

    |1 + d m| < 1 for every m, the eigenvalue of a flow, or of a map less 1: d < -2 Re m / |m|^2. None if some m does not
    have a negative real part: no length of steps helps then.
    """
    moved = values - 1 if form == "map" else values
    if bool((moved.real >= 0).any()):
        return None
    return float((-2 * moved.real / moved.abs().square()).min()) if moved.numel() else None


def numbers(found: Stability) -> dict[str, Any]:
    """Return what was found as JSON: of several samples the worst, and lists by sample."""
    return {
        **_numbers_of_path(found),
        **_numbers_of_slopes(found),
        "lyapunov": _finite(found.exponent),
        "energy": _energy(found),
        "equilibria": [
            {
                "sample": sample,
                "count": len(own.equilibria),
                "visits": list(own.visits),
                "unsettled": own.unsettled,
                "gone": own.gone,
            }
            for sample, own in enumerate(found.ends)
        ],
        "eigenvalues": [[float(value.real), float(value.imag)] for value in found.worst.values],
    }


def _numbers_of_path(found: Stability) -> dict[str, Any]:
    """Return whether, when and how closely the states settle."""
    residuals = found.path.residuals.amax(1)
    return {
        "form": found.motion.form,
        "units": found.found.shape[1],
        "samples": len(found.spectra),
        "settled": sum(found.settled),
        "steps_to_settle": _steps(found),
        "residual": _finite(float(residuals[-1])),
        "residuals": [_finite(float(value)) for value in residuals],
        "equilibrium": bool(found.left.max() < found.tolerance),
        "equilibrium_residual": _finite(float(found.left.max())),
    }


def _numbers_of_slopes(found: Stability) -> dict[str, Any]:
    """Return what the Jacobians at the equilibria say."""
    worst = found.worst
    uneven = [one.asymmetry for one in found.spectra if one.asymmetry is not None]
    return {
        "radius": _finite(max(one.radius for one in found.spectra)),
        "radii": [_finite(one.radius) for one in found.spectra],
        "step_radius": _finite(worst.step_radius),
        "stable": bool(found.left.max() < found.tolerance)
        and all(one.step_radius < 1 for one in found.spectra),
        "largest_stride": largest_stride(worst.values, found.motion.form),
        "held": [found.found.shape[1] - len(one.values) for one in found.spectra],
        "contraction": _finite(max(one.contraction for one in found.spectra)),
        "contraction_anywhere": found.stretch,
        "jacobian_asymmetry": max(uneven) if len(uneven) == len(found.spectra) else None,
        "gershgorin": {
            name: {
                "failing": max(int((~getattr(one, name).safe).sum()) for one in found.spectra),
                "proves": all(bool(getattr(one, name).safe.all()) for one in found.spectra),
            }
            for name in ("rows", "columns")
        },
    }


def _steps(found: Stability) -> int | None:
    """Return after how many steps every sample is below the tolerance for good; None if one never is."""
    if not all(found.settled):
        return None
    moving = (found.path.residuals >= found.tolerance).any(1).nonzero()
    return int(moving[-1]) + 1 if len(moving) else 0


def _energy(found: Stability) -> dict[str, float] | None:
    if found.energies is None:
        return None
    change = found.energies[1:] - found.energies[:-1]
    return {
        "start": float(found.energies[0].mean()),
        "end": float(found.energies[-1].mean()),
        "largest_increase": max(0.0, float(change.max())),
    }


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
