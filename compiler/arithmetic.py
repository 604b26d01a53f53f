"""Arithmetic on configuration values while compiling, bounded so that no spec can hang the compiler.

Whole numbers stay within 2^63 - 1 and other numbers within double precision; powers are estimated before
they are taken. Sizes may be symbolic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnspec.compiler.values import Refused, describe, entries
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.dimensions import Dim, symbols
from nnspec.dsl.errors.arguments import ConditionNotKnown, DivisionByZero, WrongOperand
from nnspec.dsl.errors.limits import NumberTooLarge
from nnspec.dsl.source import Span

LARGEST = 2**63 - 1
_MOST_TERMS = 200

_NUMBER_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def calculate(operator: str, left: Any, right: Any, span: Span | None) -> Any:
    """Return `left operator right`, or raise Refused with the reason."""
    if operator in ("and", "or"):
        return _logic(operator, left, right, span)
    if operator in ("==", "!="):
        return _equal(left, right, span) == (operator == "==")
    first, second = entries(left), entries(right)
    if operator == "+" and first is not None and second is not None:
        return bounded((*first, *second), span)
    for value in (left, right):
        if not is_number(value):
            raise Refused(WrongOperand(span, operator=operator, found=describe(value)))
    if operator in _COMPARISONS:
        return _compare(operator, left, right, span)
    return bounded(_number(operator, left, right, span), span)


def negate(value: Any, span: Span | None) -> Any:
    """Return -value."""
    if not is_number(value):
        raise Refused(WrongOperand(span, operator="-", found=describe(value)))
    return -value


def invert(value: Any, span: Span | None) -> bool:
    """Return `not value`."""
    if not isinstance(value, bool):
        raise Refused(WrongOperand(span, operator="not", found=describe(value)))
    return not value


def is_number(value: Any) -> bool:
    """Return whether a configuration value is a number or a symbolic size."""
    return isinstance(value, int | float | Dim) and not isinstance(value, bool)


def bounded(value: Any, span: Span | None) -> Any:
    """Return the value, or raise Refused if it is beyond the limits."""
    if isinstance(value, int) and abs(value) > LARGEST:
        raise Refused(NumberTooLarge(span, what="larger than any size can be", limit="2^63 - 1"))
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(NumberTooLarge(span, what="infinite", limit="double precision"))
    if isinstance(value, Dim) and (
        len(value.terms) > _MOST_TERMS or any(abs(c) > LARGEST for _, c in value.terms)
    ):
        raise Refused(NumberTooLarge(span, what="too long a formula", limit=f"{_MOST_TERMS} terms"))
    if len(entries(value) or ()) > 100_000:
        raise Refused(NumberTooLarge(span, what="too long a list", limit="100,000 entries"))
    return value


def interval(start: Any, stop: Any, span: Span | None) -> tuple[int, ...]:
    """Return the whole numbers from start to stop, both in."""
    for value in (start, stop):
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused(WrongOperand(span, operator="..", found=describe(value)))
    if stop - start >= 100_000:
        raise Refused(NumberTooLarge(span, what="too long a range", limit="100,000 entries"))
    return tuple(range(start, stop + 1))


def _logic(operator: str, left: Any, right: Any, span: Span | None) -> bool:
    for value in (left, right):
        if not isinstance(value, bool):
            raise Refused(WrongOperand(span, operator=operator, found=describe(value)))
    return (left and right) if operator == "and" else (left or right)


def _compare(operator: str, left: Any, right: Any, span: Span | None) -> bool:
    if _sized(left, right) and any(isinstance(side, float) for side in (left, right)):
        raise Refused(WrongOperand(span, operator=operator, found="a dimension and a fraction"))
    difference = left - right
    if isinstance(difference, Dim):
        raise Refused(_undecided(difference, span))
    return (
        _COMPARISONS[operator](difference, 0) if _sized(left, right) else _COMPARISONS[operator](left, right)
    )


def _equal(left: Any, right: Any, span: Span | None) -> bool:
    if not (_sized(left, right) and is_number(left) and is_number(right)) or left == right:
        return left == right
    left, right = (int(s) if isinstance(s, float) and s.is_integer() else s for s in (left, right))
    if isinstance(left, float) or isinstance(right, float):
        return False  # sizes are whole numbers
    difference = left - right
    if isinstance(difference, Dim):
        raise Refused(_undecided(difference, span))
    return difference == 0


def _sized(left: Any, right: Any) -> bool:
    return isinstance(left, Dim) or isinstance(right, Dim)


def _undecided(difference: Dim, span: Span | None) -> Error:
    names = ", ".join(f"`{name}`" for name in sorted(symbols(difference)))
    found = f"open: it depends on the size of {names}"
    return ConditionNotKnown(span, found=found, help="make the size a parameter, such as `n: int`")


def _number(operator: str, left: Any, right: Any, span: Span | None) -> Any:
    if operator == "^":
        return _power(left, right, span)
    sides: tuple[Any, Any] = (left, right)
    symbolic = any(isinstance(side, Dim) for side in sides)
    if symbolic and (operator == "/" or any(isinstance(side, float) for side in sides)):
        raise Refused(WrongOperand(span, operator=operator, found="a dimension and a fraction"))
    if operator in ("/", "//", "%") and right == 0:
        raise Refused(DivisionByZero(span, text="this" if span is None else span.text[:60]))
    try:
        return left / right if operator == "/" else _NUMBER_OPERATORS[operator](left, right)
    except OverflowError:
        raise Refused(NumberTooLarge(span, what="infinite", limit="double precision")) from None


def _power(base: Any, exponent: Any, span: Span | None) -> Any:
    if isinstance(exponent, Dim) or (isinstance(base, Dim) and not _small_power(exponent)):
        raise Refused(WrongOperand(span, operator="^", found=describe(exponent)))
    if base == 0 and exponent < 0:
        raise Refused(DivisionByZero(span, text="this" if span is None else span.text[:60]))
    if isinstance(base, Dim):
        result: Any = 1
        for _ in range(exponent):
            result = bounded(base * result, span)
        return result
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent >= 0
    if whole and abs(base) > 1 and base.bit_length() * exponent > 130:
        raise Refused(NumberTooLarge(span, what="larger than any size can be", limit="2^63 - 1"))
    try:
        result = base**exponent if whole else float(base) ** float(exponent)
    except OverflowError:
        raise Refused(NumberTooLarge(span, what="infinite", limit="double precision")) from None
    if isinstance(result, complex):
        raise Refused(WrongOperand(span, operator="^", found="a fractional power of a negative number"))
    return result


def _small_power(exponent: Any) -> bool:
    return isinstance(exponent, int) and 0 <= exponent <= 8
