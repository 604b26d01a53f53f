"""Solvers for matching two sets of units: linear, signed and quadratic assignment, and rotations.

All work on numpy arrays and maximise. In quadratic assignment a unit stands on two sides of a matrix: the
relaxation of Vogelstein et al. (2015, "Fast approximate quadratic programming for graph matching") is followed
by Frank-Wolfe steps, here with a linear term and with signs. It finds local maxima; nothing more is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

Array: TypeAlias = Any  # numpy's arrays have no shapes for the type checker to see

_STEPS = 60  # of Frank-Wolfe
_FLAT = 1e-12  # relative gain that ends them


class Assignment(NamedTuple):
    """Unit i is matched with the unit `order[i]` of the other set, times `signs[i]`."""

    order: Array
    signs: Array

    def matrix(self) -> Array:
        import numpy as np

        found = np.zeros((len(self.order), len(self.order)))
        found[np.arange(len(self.order)), self.order] = self.signs
        return found


def assigned(scores: Array, signed: bool = False) -> Assignment:
    """Return the assignment of the largest sum of scores; `signed`: of their magnitudes, with their signs."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    rows, order = linear_sum_assignment(np.abs(scores) if signed else scores, maximize=True)
    picked = scores[rows, order]
    return Assignment(order, np.where(picked < 0, -1.0, 1.0) if signed else np.ones(len(order)))


class Quadratic(NamedTuple):
    """f(P) = <linear, P> + the sum over pairs of <A, P B P'>, for arrays A and B of shape (slices, n, n)."""

    linear: Array
    ours: Array
    theirs: Array
    signed: bool = False

    def value(self, p: Array) -> float:
        return float((self.linear * p).sum() + (self.ours * (p @ self.theirs @ p.T)).sum())

    def slope(self, p: Array) -> Array:
        there = self.ours @ p @ self.theirs.swapaxes(1, 2) + self.ours.swapaxes(1, 2) @ p @ self.theirs
        return self.linear + there.sum(axis=0)

    def magnitudes(self) -> Quadratic:
        """Return the problem of magnitudes, whose solution knows no signs."""
        import numpy as np

        return Quadratic(np.abs(self.linear), np.abs(self.ours), np.abs(self.theirs))


def quadratically_assigned(problem: Quadratic, restarts: int, seed: int) -> Assignment:
    """Return the best assignment that Frank-Wolfe finds from the middle and from random starts."""
    import numpy as np

    random = np.random.default_rng(seed)
    n = len(problem.linear)
    best: Assignment | None = None
    height = -np.inf
    for restart in range(restarts + 1):
        start = np.full((n, n), 1.0 / n)
        if restart:  # between the middle and an assignment, nearer to it from start to start
            share = restart / restarts
            start = (1 - share) * start + share * np.eye(n)[random.permutation(n)]
        if restart % 2 and problem.signed:  # with signs from the beginning
            start = start * random.choice([-1.0, 1.0], n)
            found = _climbed(problem, _frank_wolfe(problem, start))
        else:
            found = _from(problem, start)
        if (value := problem.value(found.matrix())) > height:
            best, height = found, value
    assert best is not None
    return best


def _from(problem: Quadratic, start: Array) -> Assignment:
    if not problem.signed:
        return _climbed(problem, _frank_wolfe(problem, start))
    unsigned = _climbed(problem.magnitudes(), _frank_wolfe(problem.magnitudes(), start))
    signs = _signs(problem, unsigned.matrix())
    return _climbed(problem, Assignment(unsigned.order, signs))


def _frank_wolfe(problem: Quadratic, p: Array) -> Assignment:
    """Follow the slope over doubly stochastic matrices, with exact line search, to an assignment."""

    value = problem.value(p)
    for _ in range(_STEPS):
        step = assigned(problem.slope(p), problem.signed).matrix() - p
        # f along the step is value + first * t + second * t^2.
        second = float((problem.ours * (step @ problem.theirs @ step.T)).sum())
        first = problem.value(p + step) - value - second
        ends = [1.0] if second >= 0 else [min(1.0, max(0.0, -first / (2 * second)))]
        t = max(ends, key=lambda t: first * t + second * t * t)
        gain = first * t + second * t * t
        if gain <= _FLAT * max(abs(value), 1e-300):
            break
        p, value = p + t * step, value + gain
    return assigned(p, problem.signed)


def _climbed(problem: Quadratic, given: Assignment) -> Assignment:
    """Assign by the slope at an assignment, as long as that is better."""
    value = problem.value(given.matrix())
    while True:
        found = assigned(problem.slope(given.matrix()), problem.signed)
        higher = problem.value(found.matrix())
        if higher <= value + _FLAT * abs(value):
            return given
        given, value = found, higher


def _signs(problem: Quadratic, p: Array) -> Array:
    """Return signs s of large s' M s + l's for units in a given order: spectral, then one unit at a time."""
    import numpy as np

    matrix = (problem.ours * (p @ problem.theirs @ p.T)).sum(axis=0)
    matrix = matrix + matrix.T
    linear = (problem.linear * p).sum(axis=1)
    _, vectors = np.linalg.eigh(matrix)
    candidates = [np.where(vectors[:, -1] < 0, -1.0, 1.0)]
    candidates += [-candidates[0], np.where(linear < 0, -1.0, 1.0)]

    def height(signs: Array) -> float:
        return float(signs @ matrix @ signs / 2 + linear @ signs)

    signs = max(candidates, key=height)
    for _ in range(len(signs)):
        gains = -2 * signs * (matrix @ signs - np.diag(matrix) * signs + linear)
        if gains.max() <= 0:
            break
        signs[gains.argmax()] *= -1
    return signs


def rotation(products: Array) -> Array:
    """Return the orthogonal M of largest <products, M>: Procrustes (Schönemann, 1966)."""
    import numpy as np

    left, _, right = np.linalg.svd(products)
    return left @ right


def plane_rotation(products: Array) -> Array:
    """Return the rotation M of the plane, no reflection, of largest <products, M>."""
    import numpy as np

    cos, sin = products[0, 0] + products[1, 1], products[1, 0] - products[0, 1]
    length = np.hypot(cos, sin) or 1.0
    return np.array([[cos, -sin], [sin, cos]]) / length


def two_sided_map(forward: Sequence[Sequence[Array]], dual: Sequence[Sequence[Array]]) -> Array:
    """Return the M of least |M b - a| over pairs (a, b) forward and |M' a - b| over those that move dually.

    Where nothing decides M, it is the identity. The equations (S M + M T = R) are solved in the axes of S and T.
    """
    import numpy as np

    size = len([*forward, *dual][0][0])
    read, made, right = (np.zeros((size, size)) for _ in range(3))
    for a, b in forward:
        made, right = made + b @ b.T, right + a @ b.T
    for a, b in dual:
        read, right = read + a @ a.T, right + a @ b.T
    small = 1e-12 * max(float(np.trace(made) + np.trace(read)), 1e-300)
    (s, left), (t, other) = np.linalg.eigh(read), np.linalg.eigh(made)
    turned = left.T @ (right + small * np.eye(size)) @ other
    return left @ (turned / (s[:, None].clip(0) + t[None, :].clip(0) + small)) @ other.T
