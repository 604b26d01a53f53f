"""Arithmetic of claims: exact on whole numbers of any length, bounded so that no claim can hang the compiler.

Values are int, Fraction, float, bool, and `Large` for a whole number that is known by its logarithm alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

from nnspec.dsl.node import Node

_MOST_FACTORS = 5_000  # of a factorial
_MOST_BITS = 500_000  # of an exact number
_SAME = 1e-9  # relative: logarithms that are nearer tell nothing apart


class Large(Node):
    """A whole number so large that its logarithm alone is known."""

    log10: float


class NoNumber(Exception):
    """There is no such number, or it is not known; says why."""


Number: TypeAlias = "int | Fraction | float | Large"


def arithmetic(operator: str, left: Any, right: Any) -> Number:
    """Return `left operator right`, exact where both are; NoNumber if there is none."""
    _plain(left, right)
    if operator in ("/", "//", "%") and right == 0:
        raise NoNumber("it divides by zero")
    exact = all(isinstance(side, int | Fraction) for side in (left, right))
    if operator == "^":
        return _power(left, right, exact)
    if exact and max(_bits(left), 1) + max(_bits(right), 1) > _MOST_BITS:
        raise NoNumber("a number in it is too long")
    if operator == "/" and exact:
        return _shortest(Fraction(left) / Fraction(right))
    try:
        return _shortest(_OPERATORS[operator](left, right))
    except OverflowError:
        raise NoNumber("a number in it is infinite") from None


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: float(a) / float(b),
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def _power(base: Any, exponent: Any, exact: bool) -> Number:
    if base == 0 and exponent < 0:
        raise NoNumber("it divides by zero")
    if exact and isinstance(exponent, int):
        if _bits(base) * abs(exponent) > _MOST_BITS:
            raise NoNumber("a number in it is too long")
        return _shortest(Fraction(base) ** exponent)
    try:
        found = float(base) ** float(exponent)
    except OverflowError:
        raise NoNumber("a number in it is infinite") from None
    if isinstance(found, complex):
        raise NoNumber("it takes a fractional power of a negative number")
    return found


def negative(value: Any) -> Number:
    """Return -value."""
    _plain(value)
    return -value


def apply(function: str, values: tuple[Any, ...]) -> Number:
    """Return a function of claims at these values."""
    wanted, count = (2 if function in ("min", "max") else 1), len(values)
    if count < wanted or (wanted == 1 and count > 1):
        raise NoNumber(f"`{function}` takes {'at least two numbers' if wanted == 2 else 'one number'}")
    if function == "log10":
        return logarithm(values[0])
    _plain(*values)
    if function == "factorial":
        return _factorial(values[0])
    if function == "abs":
        return abs(values[0])
    return min(values) if function == "min" else max(values)


def _factorial(count: Any) -> int:
    if not isinstance(count, int) or count < 0:
        raise NoNumber("a factorial is of a whole number of at least 0")
    if count > _MOST_FACTORS:
        raise NoNumber(f"a factorial here is of at most {_MOST_FACTORS:,}")
    return _known_factorial(count)


@lru_cache(maxsize=64)
def _known_factorial(count: int) -> int:
    return math.factorial(count)


def logarithm(value: Any) -> float:
    """Return the logarithm to the base 10."""
    if isinstance(value, Large):
        return value.log10
    _plain(value)
    if value <= 0:
        raise NoNumber("it takes the logarithm of a number that is not above 0")
    if isinstance(value, Fraction):
        return math.log10(value.numerator) - math.log10(value.denominator)
    return math.log10(value)


def compare(operator: str, left: Any, right: Any, tolerance: Any = None) -> bool:
    """Return whether `left operator right` holds, with `==` to within a tolerance if there is one."""
    if isinstance(left, bool) and isinstance(right, bool) and operator in ("==", "!="):
        return (left == right) is (operator == "==")
    if tolerance is not None:
        apart: Any = arithmetic("-", left, right)
        return abs(apart) <= tolerance
    if isinstance(left, Large) or isinstance(right, Large):
        return _compare_logarithms(operator, left, right)
    _plain(left, right)
    return _COMPARISONS[operator](left, right)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _compare_logarithms(operator: str, left: Any, right: Any) -> bool:
    """Numbers of which one is known by its logarithm are told apart if these clearly differ."""
    if not all(isinstance(side, Large) or side > 0 for side in (left, right)):
        return _COMPARISONS[operator](*(1 if isinstance(side, Large) else side for side in (left, right)))
    first, second = logarithm(left), logarithm(right)
    if abs(first - second) <= _SAME * max(1.0, abs(first), abs(second)):
        raise NoNumber(
            f"a number about 10^{first:.6f} is known by its logarithm alone, and the two are that near"
        )
    return _COMPARISONS[operator](first, second)


def shown(value: Any) -> str:
    """Write a value as people read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Large):
        return f"about 10^{value.log10:.3f}"
    if isinstance(value, Fraction):
        value = _nearest(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**18 else _scientific(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: exact numbers that are too long for one, as text."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, Fraction):
        return plain(_nearest(value))
    if isinstance(value, int) and abs(value) < 10**4000:
        return str(value)
    return value if isinstance(value, float) else shown(value)


def _nearest(value: Fraction) -> Any:
    try:
        return float(value)
    except OverflowError:
        return int(value)


def _scientific(value: int) -> str:
    """Write a long whole number with its first digits and how many there are."""
    power = math.log10(abs(value))
    size = int(power + 1e-12)
    sign = "-" if value < 0 else ""
    return f"{sign}{10 ** (power - size):.6f} * 10^{size}"


def _plain(*values: Any) -> None:
    for value in values:
        if isinstance(value, Large):
            raise NoNumber(
                "a number in it is known by its logarithm alone: compare it as it is, or its `log10`"
            )
        if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
            raise NoNumber("it calculates with what is no number")
        if isinstance(value, float) and not math.isfinite(value):
            raise NoNumber("a number in it is infinite or undefined")


def _bits(value: Any) -> int:
    if isinstance(value, Fraction):
        return value.numerator.bit_length() + value.denominator.bit_length()
    return value.bit_length() if isinstance(value, int) else 64


def _shortest(value: Any) -> Any:
    """Return a fraction that is a whole number as one."""
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else value
