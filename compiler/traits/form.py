"""Normal forms of functions of one positive number: sums of products of powers, with exact coefficients.

A `Form` is a polynomial, with powers that may be fractions or negative, over atoms: the number t > 0 itself,
parameters, and whatever is not taken apart, such as tanh of a form. Two forms that are equal are equal
functions; two equal functions may differ as forms, so that "not equal" decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import cached_property

from nnspec.dsl.node import Node

_MOST_TERMS = 60
_MOST_EXPANDED = 4  # the highest power of a sum that is multiplied out

Monomial = tuple[tuple["Atom", Fraction], ...]


class Undefined(Exception):
    """There is no value: a division by zero, a root of a negative number."""


class Undecided(Exception):
    """The form would be too large, or the function is not one of entries."""


class Atom(Node):
    """What a form is made of. `degree` k: it is t^k times a constant; None: it is no power of t."""

    text: str
    degree: Fraction | None


class Form:
    """A sum of coefficient * product of atoms to their powers. Compared by value."""

    def __init__(self, terms: dict[Monomial, Fraction]) -> None:
        if len(terms) > _MOST_TERMS:
            raise Undecided
        self.terms = {key: number for key, number in terms.items() if number != 0}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @cached_property
    def text(self) -> str:
        """The form as a text, the same for equal forms."""
        return " + ".join(f"{self.terms[key]}{_monomial_text(key)}" for key in self.ordered)

    @cached_property
    def ordered(self) -> list[Monomial]:
        return sorted(self.terms, key=_monomial_text)

    @property
    def constant(self) -> Fraction | None:
        """The number that the form is, None if it holds an atom."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(()) if len(self.terms) == 1 else None

    @property
    def leading(self) -> Fraction:
        return self.terms[self.ordered[0]] if self.terms else Fraction(0)

    @property
    def sign(self) -> int | None:
        """1, 0 or -1 where that is certain for every t > 0, None elsewhere."""
        if not self.terms:
            return 0
        positive = all(atom == T for key in self.terms for atom, _ in key)
        signs = {1 if number > 0 else -1 for number in self.terms.values()}
        return signs.pop() if positive and len(signs) == 1 else None

    @property
    def degree(self) -> Fraction | None:
        """k if the form is t^k times what does not depend on t, None otherwise (and for zero)."""
        degrees = {_degree(key) for key in self.terms}
        return degrees.pop() if len(degrees) == 1 else None

    def scaled(self, factor: Fraction) -> Form:
        return Form({key: number * factor for key, number in self.terms.items()})

    def plus(self, other: Form) -> Form:
        terms = dict(self.terms)
        for key, number in other.terms.items():
            terms[key] = terms.get(key, Fraction(0)) + number
        return Form(terms)

    def times(self, other: Form) -> Form:
        terms: dict[Monomial, Fraction] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                key = _joined((*left, *right))
                terms[key] = terms.get(key, Fraction(0)) + a * b
        return Form(terms)

    def power(self, exponent: Fraction) -> Form:
        """Return the form to a power."""
        if not self.terms:
            return _power_of_zero(exponent)
        whole = exponent.denominator == 1
        if exponent == 1:
            return self
        exact = whole and (exponent > 0 or self.sign is not None)  # u / u is not 1 where u is 0
        if len(self.terms) == 1 and (exact or (self.sign == 1 and self.leading == 1)):
            ((key, number),) = self.terms.items()
            factor = number**exponent.numerator if whole else number
            return Form({_joined((atom, power * exponent) for atom, power in key): factor})
        if whole and 1 < exponent <= _MOST_EXPANDED:
            return self.times(self.power(exponent - 1))
        return self._opaque_power(exponent)

    def _opaque_power(self, exponent: Fraction) -> Form:
        # A common factor comes out, so that 1 / (2 u) and 1 / u are the same but for a number.
        out = self.leading if exponent.denominator == 1 else Fraction(1)
        inside = self.scaled(1 / out)
        degree = None if inside.degree is None else inside.degree * exponent
        atom = Atom(text=f"({inside.text})^{exponent}", degree=degree)
        return form_of(atom).scaled(out**exponent.numerator if exponent.denominator == 1 else Fraction(1))


T = Atom(text="t", degree=Fraction(1))


def number(value: float | Fraction) -> Form:
    """Return the form of a number, exactly as the machine holds it."""
    return Form({(): Fraction(value)})


def form_of(atom: Atom) -> Form:
    """Return the form that is one atom."""
    return Form({((atom, Fraction(1)),): Fraction(1)})


def _joined(factors: Iterable[tuple[Atom, Fraction]]) -> Monomial:
    powers: dict[Atom, Fraction] = {}
    for atom, power in factors:
        powers[atom] = powers.get(atom, Fraction(0)) + power
    kept = ((atom, power) for atom, power in powers.items() if power != 0)
    return tuple(sorted(kept, key=lambda factor: factor[0].text))


def _monomial_text(key: Monomial) -> str:
    return "".join(f" * [{atom.text}]^{power}" for atom, power in key)


def _degree(key: Monomial) -> Fraction | None:
    total = Fraction(0)
    for atom, power in key:
        if atom.degree is None:
            return None
        total += atom.degree * power
    return total


def _power_of_zero(exponent: Fraction) -> Form:
    if exponent < 0:
        raise Undefined
    return number(1 if exponent == 0 else 0)
