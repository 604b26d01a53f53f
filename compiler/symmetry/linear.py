"""Homogeneous linear equations in sparse form, over the rationals or over GF(2).

In: equations as {unknown: coefficient}. Out: which unknowns stay free, what the others are in terms of
them, and ranks of unknowns over the solutions. Equalities, which is most of what networks give, unite
unknowns; chains of other equations are looked up with path compression. Both cost about linear time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction
from typing import TypeAlias

Number: TypeAlias = "int | Fraction"
Row: TypeAlias = "dict[Hashable, Number]"


class Equations:
    """Equations that are solved as they come. `modulus` is 2 for GF(2), None for the rationals."""

    def __init__(self, modulus: int | None = None) -> None:
        self.modulus = modulus
        self._solved: dict[Hashable, Row] = {}  # of those that stand for others
        self._unknowns: dict[Hashable, None] = {}
        self._stands_for: dict[Hashable, Hashable] = {}  # the unknown that is equal to one

    def copy(self) -> Equations:
        """Return the same equations, to which others may be added."""
        made = Equations(self.modulus)
        made._solved = dict(self._solved)
        made._unknowns = dict(self._unknowns)
        made._stands_for = dict(self._stands_for)
        return made

    def unknown(self, *names: Hashable) -> None:
        """Announce unknowns, so that those in no equation count as free."""
        for name in names:
            self._unknowns[name] = None

    def add(self, row: Mapping[Hashable, Number]) -> None:
        """Add the equation that the sum of coefficient * unknown is zero."""
        self._unknowns.update(dict.fromkeys(row))
        if len(row) == 2 and self._united(*row.items()):
            return
        left = self.value(row)
        if not left:
            return
        pivot = next(reversed(left))
        factor = left.pop(pivot)
        self._solved[pivot] = {name: self._divide(-number, factor) for name, number in left.items()}

    def zero(self, name: Hashable) -> None:
        """Add the equation that an unknown is zero."""
        if self._is_known(name):
            self.add({name: 1})
        else:
            self._unknowns[name] = None
            self._solved[name] = {}

    def equal(self, left: Hashable, right: Hashable, factor: Number = 1) -> None:
        """Add the equation left = factor * right."""
        self.add({left: 1} if factor == 0 else {left: 1, right: -factor})

    def free(self) -> list[Hashable]:
        """Return the unknowns that may take any value."""
        return [name for name in self._unknowns if name not in self._stands_for and name not in self._solved]

    def value(self, row: Mapping[Hashable, Number]) -> Row:
        """Return a sum in terms of the free unknowns alone."""
        found: Row = {}
        for name, number in row.items():
            if name in self._stands_for or name in self._solved:
                for free, factor in self.of(name).items():
                    self._accumulate(found, free, number * factor)
            else:
                self._accumulate(found, name, number)
        return found

    def of(self, name: Hashable) -> Row:
        """Return an unknown in terms of the free ones."""
        name = self._root(name)
        row = self._solved.get(name)
        if row is None:
            return {name: 1}
        if not row:
            return row
        waiting = [name]
        while waiting:
            current = waiting[-1]
            open_ = [root for inner in self._solved[current] if self._unfinished(root := self._root(inner))]
            if open_:
                waiting.extend(open_)
                continue
            waiting.pop()
            self._solved[current] = self._substituted(self._solved[current])
        return self._solved[name]

    def rank(self, names: Iterable[Hashable]) -> int:
        """Return the dimension of what these unknowns take over all solutions."""
        return independent([self.of(name) for name in names], self.modulus)

    def basis(self) -> list[dict[Hashable, Number]]:
        """Return a basis of the solutions, each with its non-zero unknowns."""
        found: dict[Hashable, dict[Hashable, Number]] = {name: {} for name in self.free()}
        for name in self._unknowns:
            for free, factor in self.of(name).items():
                found[free][name] = factor
        return [solution for solution in found.values() if solution]

    def _root(self, name: Hashable) -> Hashable:
        """Return the unknown that stands for one."""
        above = self._stands_for.get(name, name)
        if above is name:
            return name
        root = above
        while root in self._stands_for:
            root = self._stands_for[root]
        while above is not root:
            self._stands_for[name] = root
            name, above = above, self._stands_for[above]
        return root

    def _united(self, left: tuple[Hashable, Number], right: tuple[Hashable, Number]) -> bool:
        """Unite two unknowns that an equation makes equal, if nothing is solved for either yet."""
        both = left[1] + right[1]
        if not left[1] or (both % self.modulus if self.modulus else both):
            return False
        one, other = self._root(left[0]), self._root(right[0])
        if one == other:
            return True
        if one in self._solved or other in self._solved:
            return False
        self._stands_for[other] = one
        return True

    def _unfinished(self, name: Hashable) -> bool:
        row = self._solved.get(name)
        return row is not None and any(self._is_known(inner) for inner in row)

    def _is_known(self, name: Hashable) -> bool:
        """Whether an unknown is equal to another or solved."""
        return name in self._stands_for or name in self._solved

    def _substituted(self, row: Row) -> Row:
        if not any(self._is_known(name) for name in row):
            return row
        found: Row = {}
        for name, number in row.items():
            root = self._root(name)
            for free, factor in self._solved.get(root, {root: 1}).items():
                self._accumulate(found, free, number * factor)
        return found

    def _accumulate(self, row: Row, name: Hashable, number: Number) -> None:
        added = row.get(name, 0) + number
        added = added % self.modulus if self.modulus else added
        if added:
            row[name] = added
        else:
            row.pop(name, None)

    def _divide(self, number: Number, factor: Number) -> Number:
        if self.modulus:
            return number % self.modulus  # the factor is 1
        found = Fraction(number) / Fraction(factor)
        return int(found) if found.denominator == 1 else found


def independent(rows: list[Row], modulus: int | None = None) -> int:
    """Return the rank of rows."""
    if all(len(row) <= 1 for row in rows):
        return len({name for row in rows for name in row})
    system = Equations(modulus)
    for row in rows:
        system.add(row)
    return len(system._solved)  # pyright: ignore[reportPrivateUsage]
