"""Symbolic sizes against plain integer arithmetic at random points."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnspec.dsl.dimensions import Size, bind, substitute, symbol, symbols

NAMES = ("a", "b", "n")
OPERATORS: dict[str, Callable[[Size, Size], Size]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
}
points = st.fixed_dictionaries({name: st.integers(1, 9) for name in NAMES})
leaves = st.one_of(st.integers(-4, 9), st.sampled_from(NAMES))
trees = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from(sorted(OPERATORS)), inner, inner), max_leaves=7
)


def evaluate(tree: object, leaf: Callable[[object], Size]) -> Size:
    if not isinstance(tree, tuple):
        return leaf(tree)
    operator, left, right = tree
    return OPERATORS[operator](evaluate(left, leaf), evaluate(right, leaf))


@given(trees, points)
def test_symbolic_arithmetic_agrees_with_integers(tree: object, point: dict[str, int]) -> None:
    try:
        expected = evaluate(tree, lambda leaf: point[leaf] if isinstance(leaf, str) else leaf)
        size = evaluate(tree, lambda leaf: symbol(leaf) if isinstance(leaf, str) else leaf)
        found = substitute(size, point)
    except ZeroDivisionError:
        return
    assert found == expected


@given(trees, trees)
def test_equal_polynomials_are_equal_objects(left: object, right: object) -> None:
    def leaf(value: object) -> Size:
        return symbol(value) if isinstance(value, str) else value

    try:
        x, y = evaluate(left, leaf), evaluate(right, leaf)
    except ZeroDivisionError:
        return
    assert (x + y) * (x + y) == x * x + 2 * (x * y) + y * y
    assert x - x == 0


def test_a_size_without_symbols_is_an_int() -> None:
    n = symbol("n")
    assert isinstance((n + 3) - n, int)
    assert (4 * n) // 2 == 2 * n
    assert (n * n) % 1 == 0
    assert symbols((n + 1) // symbol("w")) == {"n", "w"}


@pytest.mark.parametrize(
    ("declared", "actual", "found"),
    [
        (symbol("n"), 5, 5),
        (2 * symbol("n") + 1, 9, 4),
        (2 * symbol("n"), 9, None),
        (4 * symbol("n"), 8 * symbol("w"), 2 * symbol("w")),
        (symbol("n") * symbol("n"), 9, None),
    ],
)
def test_binding_solves_for_one_symbol(declared: Size, actual: Size, found: Size | None) -> None:
    bindings: dict[str, Size] = {}
    assert bind(declared, actual, bindings) == (found is not None)
    assert bindings.get("n") == found


def test_the_callers_symbols_are_never_bound() -> None:
    bindings: dict[str, Size] = {}
    assert bind(symbol("n"), symbol("n") + 1, bindings)
    assert bindings == {"n": symbol("n") + 1}
    assert not bind(symbol("n"), symbol("n"), bindings)
