"""Equilibrium propagation by hand, in numpy float64: what the compiled rules are held against.

A network of n units s = f(W s + V x + b), W[j, i] from i to j, of which the last `outputs` are read. C = |o - y|^2 / 2.
Equations: Scellier and Bengio 2017 (symmetric), Scellier and others 2018 (vector field), Scurria and others 2026
(asymmetric: the deviation from the free state travels back along the edges), Laborieux and Zenke 2022 (points on a
circle of complex nudges). The exact gradient is that of implicit differentiation, by a dense solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # float64 or complex128


@dataclass(frozen=True)
class Net:
    """Weights of one network, with its cost's targets; rows are samples."""

    W: Array  # [units, units]
    V: Array  # [units, inputs]
    b: Array  # [units]
    outputs: int
    f: Callable[[Array], Array] = np.tanh
    slope: Callable[[Array], Array] = lambda u: 1 - np.tanh(u) ** 2

    def feed(self, x: Array) -> Array:
        return x @ self.V.T + self.b

    def error(self, s: Array, y: Array) -> Array:
        """Return dC/ds, zero on hidden units."""
        found = np.zeros_like(s)
        found[:, -self.outputs :] = s[:, -self.outputs :] - y
        return found

    def settle(self, x: Array, steps: int = 200, damping: float = 1.0) -> Array:
        """Return the free equilibrium."""
        s = np.zeros((len(x), len(self.W)))
        for _ in range(steps):
            s = (1 - damping) * s + damping * self.f(s @ self.W.T + self.feed(x))
        return s

    def nudged(
        self,
        x: Array,
        y: Array,
        rest: Array,
        beta: complex,
        back: bool,
        steps: int = 200,
        damping: float = 1.0,
    ) -> Array:
        """Return the equilibrium under -beta dC/ds; with `back` deviations travel along reversed edges instead."""
        s = rest.astype(type(beta)) if isinstance(beta, complex) else rest
        A = self.W.T - self.W if back else np.zeros_like(self.W)
        for _ in range(steps):
            drive = s @ self.W.T + self.feed(x) - beta * self.error(s, y) + (s - rest) @ A.T
            s = (1 - damping) * s + damping * self.f(drive)
        return s

    def exact(self, x: Array, y: Array) -> Array:
        """Return the mean gradient of C with respect to W, by implicit differentiation."""
        s = self.settle(x)
        D = self.slope(s @ self.W.T + self.feed(x))
        identity = np.eye(len(self.W))
        e = self.error(s, y)
        adjoint: Array = np.stack(
            [np.linalg.solve(identity - d[:, None] * self.W.T, d * g) for d, g in zip(D, e, strict=True)]
        )
        return adjoint.T @ s / len(x)


def displacement(
    net: Net, x: Array, y: Array, rest: Array, beta: float, nudge: str, back: bool, points: int = 8
) -> Array:
    """Return d s / d beta at 0 as a way of nudging estimates it."""
    if nudge == "one_sided":
        return (net.nudged(x, y, rest, beta, back) - rest) / beta
    if nudge == "centered":
        return (net.nudged(x, y, rest, beta, back) - net.nudged(x, y, rest, -beta, back)) / (2 * beta)
    turns = np.exp(2j * np.pi * np.arange(points) / points)
    found = sum(net.nudged(x, y, rest, complex(beta * turn), back) / turn for turn in turns)
    return np.real(found) / (points * beta)


def estimate(net: Net, x: Array, y: Array, beta: float, nudge: str, back: bool, points: int = 8) -> Array:
    """Return dC/dW by the rule -(1 / beta) (s_j^beta - s0_j) s0_i: vector field, or asymmetric with `back`."""
    rest = net.settle(x)
    return -displacement(net, x, y, rest, beta, nudge, back, points).T @ rest / len(x)


def symmetric_estimate(net: Net, x: Array, y: Array, beta: float) -> Array:
    """Return dC/dW of a symmetric W, each pair counted once: -(1 / (2 beta)) (s_i s_j at +beta - at -beta)."""
    rest = net.settle(x)
    plus, minus = (net.nudged(x, y, rest, sign * beta, False) for sign in (1, -1))
    found = -(plus.T @ plus - minus.T @ minus) / (2 * beta * len(x))
    np.fill_diagonal(found, 0)
    return found


def random_net(
    seed: int, asymmetry: float, gain: float = 0.4, units: int = 20, inputs: int = 8, outputs: int = 4
) -> Net:
    """A random network between symmetric (0) and fully directed (1), without self-connections."""
    draw = np.random.default_rng(seed)
    one, other = draw.normal(size=(2, units, units))
    weight: Array = (1 - asymmetry) * (one + one.T) / np.sqrt(2) + asymmetry * other
    weight *= gain / np.sqrt(units * ((1 - asymmetry) ** 2 + asymmetry**2))
    np.fill_diagonal(weight, 0)
    feed = draw.normal(size=(units, inputs)) / np.sqrt(inputs)
    return Net(weight, feed, np.zeros(units), outputs)


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def relative_error(a: Array, exact: Array) -> float:
    return float(np.linalg.norm(a - exact) / np.linalg.norm(exact))
