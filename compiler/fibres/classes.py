"""Which networks that were found are one network under the derived group: normal forms, and their classes.

Wire by wire, in the order of the data flow: scales bring the weights that make each unit to norm one, signs make the
largest of them positive, and permutations sort the units. Matrices of GL and O wires, and wires on which the group acts with
several copies, are left as they are, so that networks which differ by those count as different: a class here
is never too large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart, State
from nnspec.compiler.fibres.units import made_entries
from nnspec.compiler.symmetry.elements import Direction, directions
from nnspec.compiler.symmetry.moves import Amounts, Multiply, Permute
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire

if TYPE_CHECKING:
    from torch import Tensor

_SAME = 1e-5  # largest difference of normal forms, relative to their size
_DIGITS = 6  # to which weights are compared when units are sorted


def classes(group: SymmetryGroup | None, chart: Chart, vectors: Tensor) -> list[int]:
    """Return a class number for each of [K, p] weights, in the order of first appearance."""
    forms = vectors if group is None else normal_forms(group, chart, vectors)
    firsts: list[Tensor] = []
    found: list[int] = []
    for form in forms:
        for number, first in enumerate(firsts):
            if float((form - first).abs().max()) <= _SAME * (1 + float(first.abs().max())):
                found.append(number)
                break
        else:
            firsts.append(form)
            found.append(len(firsts) - 1)
    return found


def normal_forms(group: SymmetryGroup, chart: Chart, vectors: Tensor) -> Tensor:
    """Return one member of the orbit of each of [K, p] weights, the same for all of an orbit."""
    import torch

    return torch.stack([chart.vector(_normal_form(group, chart, chart.state(v))) for v in vectors])


def _normal_form(group: SymmetryGroup, chart: Chart, state: State) -> State:
    d = group.derivation
    for wire in group.wires:
        if wire.is_fixed or wire.copies > 1 or d.groups[wire.space] != "monomial":
            continue
        made = made_entries(group, chart, wire)
        for direction in directions(d, d.scales):
            if direction.spaces == (wire.space,):
                state = _scaled(group, chart, state, wire, direction, made)
        for direction in directions(d, d.signs):
            if direction.spaces == (wire.space,):
                state = _signed(group, chart, state, direction, made)
        if wire.size > 1:
            state = _sorted(group, chart, state, wire, made)
    return state


def _rows(chart: Chart, state: State, made: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the weights that make each unit, [units, n]."""
    import torch

    vector = chart.vector(state)
    return torch.stack([vector[list(entries)] for entries in made])


def _scaled(
    group: SymmetryGroup,
    chart: Chart,
    state: State,
    wire: Wire,
    direction: Direction,
    made: tuple[tuple[int, ...], ...],
) -> State:
    import torch

    before = _rows(chart, state, made)
    once = _rows(
        chart,
        _multiplied(group, state, direction.amounts(group.derivation, torch.ones(wire.size)), False),
        made,
    )
    moved = before.masked_fill(once == before, 0).norm(dim=1)  # of the weights that the direction speaks of
    live = moved > 0
    powers = (once.masked_fill(once == before, 0).norm(dim=1) / moved).log()[live].round()
    if not len(powers) or not bool(powers[0]):
        return state
    numbers = torch.zeros(wire.size, dtype=torch.float64)
    numbers[live] = -moved[live].log() / powers[0]
    return _multiplied(group, state, direction.amounts(group.derivation, numbers), False)


def _signed(
    group: SymmetryGroup,
    chart: Chart,
    state: State,
    direction: Direction,
    made: tuple[tuple[int, ...], ...],
) -> State:
    import torch

    rows = _rows(chart, state, made)
    ones = torch.ones(len(rows), dtype=torch.float64)
    all_flipped = _multiplied(group, state, direction.amounts(group.derivation, ones), True)
    moved = rows.masked_fill(_rows(chart, all_flipped, made) == rows, 0)
    largest = moved.gather(1, moved.abs().argmax(dim=1, keepdim=True)).flatten()
    numbers = (largest < 0).double()
    return _multiplied(group, state, direction.amounts(group.derivation, numbers), True)


def _sorted(
    group: SymmetryGroup, chart: Chart, state: State, wire: Wire, made: tuple[tuple[int, ...], ...]
) -> State:
    rows: list[list[float]] = _rows(chart, state, made).tolist()
    order = sorted(range(wire.size), key=lambda unit: [round(number, _DIGITS) for number in rows[unit]])
    return Permute(space=wire.space, order=tuple(order)).apply(group.derivation, state)


def _multiplied(group: SymmetryGroup, state: State, given: Amounts, sign: bool) -> State:
    return Multiply(given=given, sign=sign).apply(group.derivation, state)
