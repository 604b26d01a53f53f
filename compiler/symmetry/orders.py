"""One order of all that a group may exchange: units of a wire, units of parallel branches, and whole branches.

In: weights in force, balanced and turned to principal axes. Each thing is sorted by a number that no permutation and
no sign changes. This is for generic weights: what has the same number is put in an order of its own and said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnspec.compiler.symmetry.blocks import blocks
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import AnyMove, centred_basis
from nnspec.compiler.symmetry.moves import Exchange, Permute, Transform, parallel_rows
from nnspec.compiler.symmetry.places import State, key_of, stored
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.swaps import Swap

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.symmetry.swaps import Branches

SAME = 1e-9  # relative difference below which two units are not told apart
_GOLDEN = 0.6180339887498949


class Orders:
    """The moves that put what a group exchanges in order, and what could not be told apart."""

    def __init__(self, d: Derivation, state: State) -> None:
        self.d = d
        self.state = state
        self.notes: list[str] = []

    def moves(self) -> Iterator[AnyMove]:
        """Yield the moves; those behind see what those before did.

        Those inside of branches and of copies come first: these may be exchanged afterwards.
        """
        for move in (*self.parallel(), *self.branches()):
            self.state = move.apply(self.d, self.state)
            yield move
        yield from self.units()

    # --------------------------------------------------------------------------------------- what is exchanged

    def parallel(self) -> Iterator[Exchange]:
        """Yield an order of the units of each set of parallel branches."""
        import torch

        alike = self.classes()
        state = in_axes(self.d, self.state)
        for item in self.d.parallel:
            numbers = torch.zeros(item.size, dtype=torch.float64)
            for twins in item.roles:
                rows = torch.cat(parallel_rows(self.d, state, twins))
                numbers += alike[twins[0].atom.tensor] * _size(rows)
            yield Exchange(item=item, order=self.sorted_by(numbers, "units of parallel branches"))

    def branches(self) -> Iterator[Swap]:
        """Yield an order of branches that may change places; those within others come first."""
        alike = self.classes()
        for item in sorted(self.d.branches, key=lambda one: len(one.pieces[0])):
            for index in range(item.size):
                numbers = self.of_branches(item, index, alike)
                yield Swap(item=item, order=self.sorted_by(numbers, "branches"), index=index)

    def of_branches(self, item: Branches, index: int, alike: dict[str, float]) -> Tensor:
        import torch

        state = in_axes(self.d, self.state)
        found: list[Tensor] = []
        for pieces in item.pieces:
            total = torch.zeros((), dtype=torch.float64)
            for place, piece in enumerate(pieces):
                own = piece.of(state, None if item.axes is None else item.axes[place], index)
                total = total + alike[piece.tensor] * _size(own.reshape(1, -1))[0]
            found.append(total)
        return torch.stack(found)

    def sorted_by(self, numbers: Tensor, what: str) -> tuple[int, ...]:
        order = numbers.argsort(descending=True, stable=True)
        if bool((numbers[order].diff().abs() <= SAME * numbers.abs().max()).any()):
            self.notes.append(f"{what} are alike, and not told apart")
        return tuple(int(n) for n in order)

    def classes(self) -> dict[str, float]:
        """Return a number for each tensor, which those share that exchanges may put in each other's places."""
        first = {name: name for name in stored(self.d, self.state)}

        def root(name: str) -> str:
            while first[name] != name:
                name = first[name]
            return name

        sets = [
            tuple(piece.tensor for piece in pieces)
            for item in self.d.branches
            for pieces in zip(*item.pieces, strict=True)
        ]
        sets += [
            tuple(twin.atom.tensor for twin in twins) for item in self.d.parallel for twins in item.roles
        ]
        for names in sets:
            for name in names[1:]:
                first[root(name)] = root(names[0])
        numbers: dict[str, float] = {}
        for name in first:
            numbers.setdefault(root(name), 1.0 + _frac((len(numbers) + 1) * _GOLDEN))
        return {name: numbers[root(name)] for name in first}

    # --------------------------------------------------------------------------------------------- units of wires

    def units(self) -> list[AnyMove]:
        """Return an order of the units of each copy of each wire.

        Of the permutations that masks leave it is the one that makes the numbers largest.
        """
        import torch

        masked = self.d.masked
        wires = [strand for strand in self.d.of_group("monomial") if strand.size > 1]
        state = in_axes(self.d, self.state)
        parts = [
            (block.atoms, block.values.abs())
            for name in stored(self.d, state)
            for block in blocks(self.d, name, state[key_of(name)])
        ]
        marks = {
            strand.space: torch.zeros(strand.copies, strand.size, dtype=torch.float64) for strand in wires
        }
        if masked is not None:
            marks |= masked.begun()
        while True:
            keys = self.refined(parts, marks)
            tied = next(((s, tie) for s in wires if (tie := _tie(keys[s.space])) is not None), None)
            if tied is None and masked is not None:
                tied = masked.tie(masked.unit_keys(keys))
            if tied is None:
                break
            strand, tie = tied
            shown = self.d.related.carriers[strand.space.tensor].shown
            self.notes.append(f"units of {shown} are alike, and not told apart")
            marks[strand.space] += tie * (1.0 + float(marks[strand.space].max()))
        wires.sort(key=lambda strand: -len(strand.outer))
        moves: list[AnyMove] = []
        for strand in wires:
            for copy, own in enumerate(torch.argsort(keys[strand.space], descending=True, stable=True)):
                order = tuple(int(n) for n in own)
                moves.append(Permute(space=strand.space, order=order, copy=copy))
        if masked is not None:
            moves.append(masked.move(masked.group.best(masked.unit_keys(keys))))
        return moves

    def refined(
        self, parts: list[tuple[tuple[Atom, ...], Tensor]], marks: dict[Atom, Tensor]
    ) -> dict[Atom, Tensor]:
        """Return a number for each unit, from the magnitudes of its weights and the numbers of its neighbours."""
        keys = {
            strand.space: 1.0 + marks[strand.space]
            if strand.space in marks
            else _spread(strand.size).expand(strand.copies, -1)
            for strand in self.d.strands
        }
        for _ in range(len(marks) + 1):
            new = {space: keys[space] * 0 for space in marks}
            for number, (atoms, values) in enumerate(parts):
                self.collect(new, keys, number, atoms, values)
            for space, found in new.items():
                keys[space] = found / (float(found.abs().max()) or 1.0) + marks[space] + 0.1
        return keys

    def collect(
        self,
        new: dict[Atom, Tensor],
        keys: dict[Atom, Tensor],
        number: int,
        atoms: tuple[Atom, ...],
        values: Tensor,
    ) -> None:
        """Add to the number of each unit the sum of its magnitudes times the numbers of the other units there."""
        inside = [
            (strand, list(map(atoms.index, (*outer, *own))))
            for strand in self.d.strands
            for own, outer in strand.places
            if own[0] in atoms
        ]
        spread: list[Tensor] = []
        for strand, axes in inside:
            shape = [values.shape[axis] for axis in axes]
            array = keys[strand.space].reshape(shape)
            order = sorted(range(len(axes)), key=axes.__getitem__)
            view = [1] * values.dim()
            for axis in axes:
                view[axis] = values.shape[axis]
            spread.append(array.permute(order).reshape(view))
        full = values
        for array in spread:
            full = full * array
        for place, ((strand, axes), array) in enumerate(zip(inside, spread, strict=True)):
            if strand.space in new:
                rest = [axis for axis in range(values.dim()) if axis not in axes]
                summed = (full / array).sum(dim=rest) if rest else full / array
                kept = sorted(axes)
                summed = summed.permute([kept.index(axis) for axis in axes])
                weight = 1 + _frac((number * 7 + place + 1) * _GOLDEN)
                new[strand.space] += weight * summed.reshape(strand.copies, strand.size)


def in_axes(d: Derivation, state: State) -> State:
    """Return weights in force with centred wires in their principal axes, whose flips are flips of entries."""
    for strand in d.of_group("centred"):
        if strand.size > 1:
            state = Transform(space=strand.space, matrix=centred_basis(strand.size).T).apply(d, state)
    return state


def _size(rows: Tensor) -> Tensor:
    """Return a number for each row that permutations and signs of its entries leave alone.

    Sums of squares would not do: balanced weights have equal ones.
    """
    return (rows.abs() ** 3).sum(dim=1)


def _spread(size: int) -> Tensor:
    """Return different numbers for the places of a wire on which nothing acts."""
    import torch

    return 1 + torch.frac(torch.arange(1, size + 1, dtype=torch.float64) * _GOLDEN)


def _frac(number: float) -> float:
    return number - int(number)


def _tie(keys: Tensor) -> Tensor | None:
    """Return a mark for one of the units whose numbers are the same as another's; None where all differ."""
    for copy, own in enumerate(keys):
        values, order = own.sort(descending=True)
        same = (values.diff().abs() <= SAME * values.abs().max()).nonzero()
        if len(same):
            mark = keys * 0
            mark[copy, order[int(same[0])]] = 1.0
            return mark
    return None
