"""How a phase is nudged: at which strengths its states settle, and how these give the slope at strength 0.

The slope of a function e of the states is the sum of coefficient * e over the points. Imports no torch.
"""

from __future__ import annotations

import cmath
from typing import Any, NamedTuple

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.syntax import CallOf, Expression, Name


class Point(NamedTuple):
    """A strength, and what the states that settle under it count in the slope."""

    strength: complex
    coefficient: complex


class Nudging(Component):
    """A way of nudging. `points` are for a strength beta; `sign` is 1 or -1, drawn where `draws`."""

    family = "nudging"
    draws = False

    def points(self, beta: float, sign: float, options: dict[str, Any]) -> tuple[Point, ...]:
        """Return the points; one of strength 0 is where the phase begins, and of a complex sum the real part counts."""
        raise TypeError(f"{self.name} has no points")


class OneSided(Nudging):
    name = "one_sided"
    doc = """Compares the nudged states with those before: (e(beta) - e(0)) / beta, with an error in beta (Scellier and
Bengio, 2017)."""
    example = "learn = equilibrium(nudging = one_sided)"

    def points(self, beta: float, sign: float, options: dict[str, Any]) -> tuple[Point, ...]:
        return (Point(beta, 1 / beta), Point(0, -1 / beta))


class RandomSign(Nudging):
    name = "random_sign"
    doc = """As `one_sided`, with a sign of beta that is drawn for each batch: the error in beta has mean zero (Scellier
and Bengio, 2017)."""
    example = "learn = equilibrium(nudging = random_sign)"
    draws = True

    def points(self, beta: float, sign: float, options: dict[str, Any]) -> tuple[Point, ...]:
        own = sign * beta
        return (Point(own, 1 / own), Point(0, -1 / own))


class Centered(Nudging):
    name = "centered"
    doc = """Compares nudges to both sides: (e(beta) - e(-beta)) / (2 beta), with an error in beta^2 (Laborieux and
others, 2021)."""
    example = "learn = equilibrium(nudging = centered)"

    def points(self, beta: float, sign: float, options: dict[str, Any]) -> tuple[Point, ...]:
        return (Point(beta, 0.5 / beta), Point(-beta, -0.5 / beta))


class Holomorphic(Nudging):
    name = "holomorphic"
    doc = """Nudges by `points` complex strengths on a circle of radius beta, beta_k = beta exp(2 pi i k / points), and
takes the mean of e(beta_k) / beta_k: by Cauchy's formula the slope, with an error in beta^points (Laborieux and Zenke,
2022). States become complex numbers, so activations must be holomorphic."""
    arguments = (Argument(name="points", kind="int", default=8, at_least=2, doc="on the circle"),)
    example = "learn = equilibrium(nudging = holomorphic(points = 8))"

    def points(self, beta: float, sign: float, options: dict[str, Any]) -> tuple[Point, ...]:
        count = options["points"]
        found: list[Point] = []
        for k in range(count // 2 + 1):  # the others are conjugates, whose part is the same
            strength = beta * cmath.exp(2j * cmath.pi * k / count)
            twice = 1 if k in (0, count / 2) else 2
            found.append(Point(strength, twice / (count * strength)))
        return tuple(found)


_NUDGINGS = registered((OneSided(), RandomSign(), Centered(), Holomorphic()))
DEFAULT = Choice(family="nudging", name="centered")


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the ways of nudging."""
    return tuple(nudging.entry() for nudging in _NUDGINGS.values())


def nudging(choice: Choice) -> Nudging:
    """Return the way of nudging that a choice names."""
    return _NUDGINGS[choice.name]


def named(expression: Expression, reader: Any) -> Choice | None:
    """Return the way of nudging that stands in a rule's own text, such as `holomorphic(points = 4)`."""
    function = expression.function if isinstance(expression, CallOf) else expression
    own = _NUDGINGS.get(function.name) if isinstance(function, Name) else None
    if own is None:
        return None
    given = expression.arguments if isinstance(expression, CallOf) else ()
    names = [argument.name for argument in own.arguments]
    options = {argument.name: argument.default for argument in own.arguments}
    options |= {(a.name or names[place]): reader.plain(a.value) for place, a in enumerate(given)}
    return Choice(family="nudging", name=own.name, arguments=tuple(options.items()), span=expression.span)


def is_complex(choice: Choice) -> bool:
    """Return whether states become complex numbers."""
    return choice.name == Holomorphic.name
