"""Arithmetic of claims: against Python's own on whole numbers, and at its limits."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nnspec.compiler.claims.numbers import (
    Large,
    NoNumber,
    apply,
    arithmetic,
    compare,
    logarithm,
    plain,
    shown,
)

WHOLE = some.integers(-(10**30), 10**30)


@given(WHOLE, WHOLE.filter(bool))
def test_whole_numbers_are_exact(a: int, b: int) -> None:
    assert arithmetic("+", a, b) == a + b and arithmetic("*", a, b) == a * b
    assert arithmetic("/", a, b) == Fraction(a, b)
    assert arithmetic("//", a, b) * b + arithmetic("%", a, b) == a
    assert isinstance(arithmetic("/", a * b, b), int)
    assert compare("<", a, b) == (a < b) and compare("==", a, b, abs(a - b)) and compare(">=", a, a)
    assert not compare("==", a, b, abs(a - b) - 1) or a == b


def test_orders_of_groups_are_exact() -> None:
    order = apply("factorial", (128,))
    assert order == math.factorial(128)
    assert compare("==", arithmetic("/", arithmetic("*", order, 7), 7), order)
    assert not compare("==", arithmetic("+", order, 1), order)
    assert shown(order) == "3.856205 * 10^215" and f"{math.factorial(128):.6e}" == "3.856205e+215"


@pytest.mark.parametrize(
    ("operator", "right", "holds"),
    [
        ("<", 10**400, False),
        ("<", 10**401, True),
        (">", 10**399, True),
        (">=", 10**401, False),
        ("==", 10**399, False),
        ("!=", 10**399, True),
        (">", -3, True),
        ("==", 0, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_logarithms_tell_numbers_apart_that_clearly_differ(operator: str, right: int, holds: bool) -> None:
    if right != 10**400:
        assert compare(operator, Large(log10=400.0), right) is holds
    assert compare(operator, Large(log10=400.5), right) is holds


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
def test_and_no_others(operator: str) -> None:
    value = math.factorial(300)
    with pytest.raises(NoNumber, match="known by its logarithm"):
        compare(operator, Large(log10=math.lgamma(301) / math.log(10)), value)


def test_the_logarithm_of_a_large_number_is_a_number() -> None:
    assert logarithm(Large(log10=431.2)) == 431.2
    assert logarithm(Fraction(1, 10**500)) == pytest.approx(-500)
    with pytest.raises(NoNumber):
        arithmetic("/", Large(log10=431.2), 2)


@pytest.mark.parametrize(
    ("operator", "a", "b"),
    [
        ("/", 1, 0),
        ("//", 1, 0),
        ("%", 1.0, 0),
        ("^", 0, -1),
        ("^", 10, 10**9),
        ("^", -8, 0.5),
        ("^", 1e300, 2),
        ("*", 2**400_000, 2**400_000),
        ("+", True, 1),
        ("*", "a", 2),
        ("+", math.inf, 1),
        ("*", 1e300, 1e300),
        ("^", 2, -(10**7)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number(operator: str, a: Any, b: Any) -> None:
    with pytest.raises(NoNumber):
        compare("==", arithmetic(operator, a, b), 1)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("factorial", (-1,)),
        ("factorial", (5001,)),
        ("factorial", (2.0,)),
        ("log10", (0,)),
        ("min", (1,)),
        ("abs", (1, 2)),
        ("max", (1, Large(log10=400.0))),
    ],
)
def test_functions_say_what_they_do_not_take(function: str, given: tuple[Any, ...]) -> None:
    with pytest.raises(NoNumber):
        apply(function, given)


@pytest.mark.parametrize(
    ("value", "text", "data"),
    [
        (118_282, "118,282", 118_282),
        (0.123456789, "0.123457", 0.123456789),
        (True, "true", True),
        (Fraction(1, 4), "0.25", 0.25),
        (10**20, "1.000000 * 10^20", str(10**20)),
        (-(10**20), "-1.000000 * 10^20", str(-(10**20))),
        (10**10_000, "1.000000 * 10^10000", "1.000000 * 10^10000"),
        (Fraction(10**700 + 1, 10), "1.000000 * 10^699", str(10**699)),
        (10**23, "1.000000 * 10^23", str(10**23)),
        (Large(log10=431.2), "about 10^431.200", "about 10^431.200"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_values_are_shown(value: Any, text: str, data: Any) -> None:
    assert shown(value) == text and plain(value) == data
