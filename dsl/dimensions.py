"""Sizes of axes: whole numbers, or polynomials in symbolic dimensions such as `4 * width + 1`.

In: integers and symbol names. Out: canonical sizes (equal sizes are equal objects) and a one-way
unifier that binds the symbols of a declared type to the sizes of an actual one. A size without
symbols is always a plain `int`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from nnspec.dsl.node import Node


class Quotient(Node):
    """`numerator // denominator` or `numerator % denominator` that cannot be worked out yet."""

    operator: str  # "//" or "%"
    numerator: Size
    denominator: Size


Atom: TypeAlias = "str | Quotient"
Monomial: TypeAlias = tuple[tuple[Atom, int], ...]


class Dim(Node):
    """A polynomial: `terms` maps monomials to non-zero coefficients, in a canonical order."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Size) -> Size:
        return _combine(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: Size) -> Size:
        return _combine(self, other, -1)

    def __rsub__(self, other: int) -> Size:
        return _combine(other, self, -1)

    def __neg__(self) -> Size:
        return _combine(0, self, -1)

    def __mul__(self, other: Size) -> Size:
        found: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                key = _times(left, right)
                found[key] = found.get(key, 0) + a * b
        return _build(found)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return _divide("//", self, other)

    def __rfloordiv__(self, other: int) -> Size:
        return _divide("//", other, self)

    def __mod__(self, other: Size) -> Size:
        return _divide("%", self, other)

    def __rmod__(self, other: int) -> Size:
        return _divide("%", other, self)

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            sign = " - " if coefficient < 0 else " + "
            text += sign + _term_text(monomial, abs(coefficient))
        return text[3:] if text.startswith(" + ") else "-" + text[3:]


Size: TypeAlias = "int | Dim"


def symbol(name: str) -> Size:
    """Return the size that is the symbolic dimension of this name."""
    return Dim(terms=((((name, 1),), 1),))


def symbols(size: Size) -> frozenset[str]:
    """Return the names of the symbolic dimensions in a size."""
    found: set[str] = set()
    for monomial, _ in _terms(size):
        for atom, _ in monomial:
            if isinstance(atom, str):
                found.add(atom)
            else:
                found |= symbols(atom.numerator) | symbols(atom.denominator)
    return frozenset(found)


def substitute(size: Size, bindings: Mapping[str, Size]) -> Size:
    """Return the size with symbols replaced by what they are bound to."""
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, coefficient in size.terms:
        term: Size = coefficient
        for atom, power in monomial:
            value = _substitute_atom(atom, bindings)
            for _ in range(power):
                term = term * value
        total = total + term
    return total


def bind(declared: Size, actual: Size, bindings: dict[str, Size]) -> bool:
    """Make `declared` equal to `actual` by binding its free symbols; False if that cannot be.

    Binds when, after substitution, one symbol stands alone in a term of degree one, as in `2 * n + 1`.
    The symbols of `actual` belong to the caller and are never bound.
    """
    known = substitute(_rename(declared, bindings), {_FREE + name: size for name, size in bindings.items()})
    free = [name for name in symbols(known) if name.startswith(_FREE)]
    if not free:
        return known == actual
    if len(free) > 1 or isinstance(known, int):
        return False
    return _solve(known, free[0], actual, bindings)


_FREE = "?"  # marks the callee's symbols while they are told apart from the caller's


def _rename(size: Size, bindings: Mapping[str, Size]) -> Size:
    return substitute(size, {name: symbol(_FREE + name) for name in symbols(size)})


def _solve(size: Dim, name: str, actual: Size, bindings: dict[str, Size]) -> bool:
    factor = dict(size.terms).get(((name, 1),))
    if factor is None or any(name in symbols(_build({m: c})) for m, c in size.terms if m != ((name, 1),)):
        return False
    rest = size - factor * symbol(name)
    difference = actual - rest
    value = exact_quotient(difference, factor)
    if value is None:
        return False
    bindings[name.removeprefix(_FREE)] = value
    return True


def exact_quotient(size: Size, factor: int) -> Size | None:
    """Return size / factor if that is whole in every coefficient, else None."""
    if any(coefficient % factor for _, coefficient in _terms(size)):
        return None
    return _build({monomial: coefficient // factor for monomial, coefficient in _terms(size)})


def _substitute_atom(atom: Atom, bindings: Mapping[str, Size]) -> Size:
    if isinstance(atom, str):
        return bindings.get(atom, symbol(atom))
    return _divide(
        atom.operator, substitute(atom.numerator, bindings), substitute(atom.denominator, bindings)
    )


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(size, int):
        return (((), size),) if size else ()
    return size.terms


def _order(item: tuple[Monomial, int]) -> tuple[int, str]:
    return -sum(power for _, power in item[0]), str(item[0])


def _build(terms: Mapping[Monomial, int]) -> Size:
    kept = {monomial: coefficient for monomial, coefficient in terms.items() if coefficient}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    return Dim(terms=tuple(sorted(kept.items(), key=_order)))


def _combine(left: Size, right: Size, sign: int) -> Size:
    found = dict(_terms(left))
    for monomial, coefficient in _terms(right):
        found[monomial] = found.get(monomial, 0) + sign * coefficient
    return _build(found)


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=str))


def _divide(operator: str, numerator: Size, denominator: Size) -> Size:
    """Divide as far as it comes out whole for every value of the symbols."""
    if isinstance(numerator, int) and isinstance(denominator, int):
        return numerator // denominator if operator == "//" else numerator % denominator
    if numerator == denominator:
        return 1 if operator == "//" else 0
    if isinstance(denominator, int) and denominator:
        whole = exact_quotient(numerator, denominator)
        if whole is not None:
            return whole if operator == "//" else 0
    return Dim(
        terms=((((Quotient(operator=operator, numerator=numerator, denominator=denominator), 1),), 1),)
    )


def _term_text(monomial: Monomial, coefficient: int) -> str:
    parts = [_atom_text(atom) + (f"^{power}" if power > 1 else "") for atom, power in monomial]
    if coefficient != 1 or not parts:
        parts.insert(0, str(coefficient))
    return " * ".join(parts)


def _atom_text(atom: Atom) -> str:
    if isinstance(atom, str):
        return atom
    sides: list[str] = []
    for side in (atom.numerator, atom.denominator):
        compound = not isinstance(side, int) and (len(side.terms) > 1 or " " in str(side))
        sides.append(f"({side})" if compound else str(side))
    return f"({sides[0]} {atom.operator} {sides[1]})"
