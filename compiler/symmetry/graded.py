"""Signs and scales that differ from unit to unit so that a weight of shared numbers keeps its pattern.

Where W[i, j] is the stored number of the class k(i, j), rows times a_i and columns times b_j are of that form again
if a_i b_j depends on the class alone: geometric progressions on a Toeplitz weight, alternating signs on one or on a
circulant of even size. In: a derivation. The equations of the other relations are solved first, with the weight let
through as if it had no constraint; what is left are numbers, and the classes are linear equations between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.actions import scales, signs
from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.blocks import Coordinates
from nnspec.compiler.symmetry.elements import directions, every_unit
from nnspec.compiler.symmetry.linear import Equations, Number
from nnspec.compiler.symmetry.patterns import Array
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.derivation import Derivation


class Graded(Node):
    """Elements that grade units: none is a product of others, and of those of single units and whole weights."""

    signs: tuple[Amounts, ...] = ()
    scales: tuple[Amounts, ...] = ()


def graded(d: Derivation) -> Graded:
    """Return the signs and scales that keep the patterns of weights of shared numbers."""
    known = {} if d.neurons is None else d.neurons.shared
    if not known:
        return Graded()
    spaces = copy(d.spaces)
    carriers = dict(d.related.carriers)
    for name in known:
        action = carriers[name].action
        assert action is not None
        carriers[name] = carriers[name].replace(action=action.replace(parity="odd", degree=1.0))
    spaces.related = d.related.replace(carriers=carriers)
    flipped = frozenset(item.tensor for item in d.centred)
    flips = _kept(d, signs(spaces, flipped), known, 2)
    return Graded(
        signs=tuple(_beyond(d, d.signs, flips, 2)),
        scales=tuple(_beyond(d, d.scales, _kept(d, scales(spaces), known, None), None)),
    )


def _kept(d: Derivation, loose: Unknowns, known: dict[str, Array], modulus: int | None) -> Iterator[Amounts]:
    """Yield a basis of the solutions under which the entries of each class act alike."""
    import torch

    numbers = Coordinates(d, list(directions(d, loose)))
    if not numbers.count:
        return
    equations = Equations(modulus)
    for name, classes in known.items():
        rows = numbers.rows(name).tocsr()
        equations.unknown(*map(int, rows.indices))
        first: dict[int, int] = {}
        for entry, number in enumerate(classes.reshape(-1).tolist()):
            if first.setdefault(number, entry) != entry:
                equations.add(_difference(rows, entry, first[number], modulus))
    for solution in equations.basis():
        given = torch.zeros(numbers.count, dtype=torch.float64)
        for place, number in solution.items():
            assert isinstance(place, int)
            given[place] = float(number)
        yield numbers.amounts(given)


def _difference(rows: Any, one: int, other: int, modulus: int | None) -> dict[Any, Number]:
    from fractions import Fraction

    found: dict[Any, Number] = {}
    for entry, sign in ((one, 1), (other, -1)):
        begin, end = rows.indptr[entry], rows.indptr[entry + 1]
        own = zip(rows.indices[begin:end].tolist(), rows.data[begin:end].tolist(), strict=True)
        for place, number in own:
            exact = Fraction(number).limit_denominator(1 << 20)
            found[place] = found.get(place, 0) + sign * exact
    whole = {place: int(n) % modulus if modulus else n for place, n in found.items()}
    return {place: number for place, number in whole.items() if number}


def _beyond(
    d: Derivation, system: Unknowns, given: Iterable[Amounts], modulus: int | None
) -> Iterator[Amounts]:
    """Yield what is independent of the solutions of a system, and of what was yielded before."""
    seen = Equations(modulus)  # a row is independent if, as an equation, it leaves one unknown less
    for direction in directions(d, system):
        for unit in every_unit(d, direction):
            seen.add(_row(d, unit, modulus))
    for one in given:
        row = _row(d, one, modulus)
        if seen.value(row):
            seen.add(row)
            yield one


def _row(d: Derivation, given: Amounts, modulus: int | None) -> dict[Any, Number]:
    """Return what is done to every number of every weight."""
    from fractions import Fraction

    found: dict[Any, Number] = {}
    for name in d.weights:
        field = given.field(d, name)
        for place, number in enumerate([] if field is None else field.flatten().tolist()):
            exact = int(number) % modulus if modulus else Fraction(number).limit_denominator(1 << 20)
            if exact:
                found[name, place] = exact
    return found
