"""Jacobians of loops at their equilibria: eigenvalues, singular values, Gershgorin's discs.

Every eigenvalue of J lies in the union of the discs around J_ii with the radius sum_j |J_ij| over the rest of row i, and in
that of the columns (Gershgorin, 1931). Discs within the unit disc, or for a flow left of the imaginary axis, prove
stability; discs that reach out of it prove nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.checks.motion import Motion


def jacobian(motion: Motion, states: Tensor) -> Tensor:
    """Return df/ds of every row, [rows, units, units], by reverse differentiation, one unit after another."""
    import torch

    found: list[Tensor] = []
    with torch.enable_grad():
        given = states.detach().requires_grad_()
        moved = motion.function(given)
        if not moved.requires_grad:
            return torch.zeros(*states.shape, states.shape[1], dtype=states.dtype)
        for unit in range(states.shape[1]):
            slopes: Any = torch.autograd.grad(
                moved[:, unit].sum(), given, retain_graph=True, allow_unused=True
            )
            found.append(torch.zeros_like(states) if slopes[0] is None else slopes[0])
    return torch.stack(found, 1).detach()


class Discs(NamedTuple):
    """Gershgorin's discs of one matrix, and which of them lie where all eigenvalues would be stable."""

    centres: Tensor  # [units]
    radii: Tensor
    safe: Tensor  # bool


class Spectrum(NamedTuple):
    """What the Jacobian of one sample says, of the units that may move; where none may, radii are -inf."""

    values: Tensor  # eigenvalues, complex
    rows: Discs
    columns: Discs
    radius: float  # the largest |eigenvalue| of a map, the largest real part of a flow
    step_radius: float  # of the solver's own plain step: below 1 it comes closer
    contraction: (
        float  # the largest singular value of a map, of a flow the largest eigenvalue of (J + J') / 2
    )
    asymmetry: (
        float | None
    )  # |J - J'| / |J + J'|: 0 of what follows the slope of an energy; None of a single unit


def spectrum(matrix: Tensor, form: str, stride: float) -> Spectrum:
    """Return the spectrum of a Jacobian [units, units] of a map or a flow, whose solver takes steps of a length."""
    import torch

    linear: Any = torch.linalg
    values = linear.eigvals(matrix)
    one = 1.0 if form == "map" else 0.0
    steps = 1 + stride * (values - one)
    if form == "map":
        radius, contraction = _largest(values.abs()), _largest(linear.svdvals(matrix))
    else:
        radius = _largest(values.real)
        contraction = _largest(linear.eigvalsh((matrix + matrix.mT) / 2))
    return Spectrum(
        values=values,
        rows=discs(matrix, form),
        columns=discs(matrix.mT, form),
        radius=radius,
        step_radius=_largest(steps.abs()),
        contraction=contraction,
        asymmetry=_ratio(matrix - matrix.mT, matrix + matrix.mT) if len(matrix) > 1 else None,
    )


def discs(matrix: Tensor, form: str) -> Discs:
    """Return the discs of the rows of a matrix."""
    centres = matrix.diagonal()
    radii = matrix.abs().sum(1) - centres.abs()
    reach = centres.abs() + radii - 1 if form == "map" else centres + radii
    return Discs(centres, radii, reach < 0)


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else float("-inf")


def _ratio(part: Tensor, whole: Tensor) -> float:
    size = float(whole.square().sum()) ** 0.5
    return float(part.square().sum()) ** 0.5 / size if size else 0.0
