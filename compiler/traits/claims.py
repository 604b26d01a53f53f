"""Claims of an activation about itself, tested at random points in double precision.

In: the typed block of an activation. Out: a point where a claim fails, in words; None if it holds at every point.
Evaluates the expression for single numbers, by the operations' own rules; imports neither torch nor numpy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from nnspec.compiler.ir import Apply, Block, Claim
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.traits.decide import decided
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.definitions import FalseClaim, UntestableClaim

_POINTS = 60
_TOLERANCE = 1e-9


class Untestable(Exception):
    """The expression has no value at single numbers."""


def wrong_claims(block: Block, related: tuple[Related, ...]) -> Iterator[Error]:
    """Yield the errors of claims that are not decided and fail, or cannot be tested."""
    known = decided(block)
    for claim in block.claims:
        if claim.word == known.parity or (claim.degree is not None and claim.degree == known.degree):
            continue
        try:
            found = counterexample(block, claim) if known.entrywise else _none()
        except Untestable:
            yield UntestableClaim(claim.span, related, name=block.name, claim=str(claim))
            continue
        if found is not None:
            yield FalseClaim(claim.span, related, name=block.name, claim=str(claim), found=found)


def _none() -> None:
    raise Untestable


def counterexample(block: Block, claim: Claim) -> str | None:
    """Return where a claim fails, None if it holds at every point tried; raise Untestable."""
    draw = random.Random(0)
    tried = 0
    for number in range(_POINTS):
        # Zero, then points of every size, each with parameters of its own.
        x = 0.0 if number == 0 else draw.choice((-1, 1)) * 10 ** draw.uniform(-2, 1)
        scale = 10 ** draw.uniform(-1, 1)
        seed = draw.randrange(2**31)
        try:
            left, right, shown = _sides(block, claim, x, scale, seed)
        except (ArithmeticError, ValueError):
            continue  # no value there
        tried += 1
        if not abs(left - right) <= _TOLERANCE * (1 + abs(left) + abs(right)):
            return shown
    if not tried:
        raise Untestable
    return None


def _sides(block: Block, claim: Claim, x: float, scale: float, seed: int) -> tuple[float, float, str]:
    """Return both sides of the equation that a claim says, and what the label shows."""

    def at(value: float) -> float:
        return _value(block, value, random.Random(seed))

    if claim.degree is None:
        sign = -1 if claim.word == "odd" else 1
        left, right = at(-x), sign * at(x)
        return left, right, f"f({0.0 - x:.4g}) is {left:.4g}, and f({x:.4g}) is {at(x):.4g}"
    left, right = at(scale * x), scale**claim.degree * at(x)
    return left, right, f"f({scale * x:.4g}) is {left:.4g}, and f({x:.4g}) is {at(x):.4g}"


def _value(block: Block, x: float, draw: random.Random) -> float:
    """Return the activation at a number, with parameters drawn in the order in which they are met."""
    found: Any = _run(block, (x,), draw)
    if isinstance(found, complex) or not math.isfinite(found):
        raise ValueError
    return float(found)


def _run(block: Block, inputs: tuple[Any, ...], draw: random.Random) -> Any:
    known = dict(zip((port.value for port in block.inputs), inputs, strict=True))
    for statement in block.plain:
        given = tuple(known[value] for value in statement.inputs)
        if isinstance(statement, Apply):
            primitive = statement.operation
            found = operation(primitive.operation).number(primitive.options, given)
            if found is None:
                raise Untestable
        else:
            instance = block.child(statement.child).instances[0]
            if isinstance(instance, Block):
                found = _run(instance, given, draw)
            elif not given and len(instance.outputs[0].axes) == instance.options["follows"]:
                found = draw.gauss(0, 1)  # a learned number, or that of one unit, or another that changes
            else:
                raise Untestable
        known[statement.outputs[0]] = found
    return known[block.outputs[0].value]
