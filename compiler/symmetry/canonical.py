"""The canonical member of an orbit: one and the same for all weights that the group makes of each other.

Balanced weights (`balance`) are turned to the principal axes of each GL and O wire, the units of each other wire
are sorted by numbers that no permutation or sign changes, and signs are chosen so that the largest entries that
they can flip are positive. This is for generic weights: what cannot be told apart (equal units, equal axes) is
put in an order of its own and said.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.balance import balance
from nnspec.compiler.symmetry.blocks import Coordinates, along, blocks, places, wide
from nnspec.compiler.symmetry.derivation import MATRICES, Derivation
from nnspec.compiler.symmetry.elements import (
    AnyMove,
    Direction,
    Element,
    act,
    centred_basis,
    directions,
    left_out,
)
from nnspec.compiler.symmetry.moves import Multiply, Permute, Transform, centring
from nnspec.compiler.symmetry.parity import carried, chosen, masks_of
from nnspec.compiler.symmetry.places import State, key_of, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_SAME = 1e-9  # relative difference below which two units, or two axes, are not told apart
_DIGITS = 5  # of the largest entry of a tensor, that a hash keeps
_GOLDEN = 0.6180339887498949


class Canonical(Node):
    """The canonical member, the element that leads to it, what was left, and a hash that orbits share."""

    state: State
    element: Element
    notes: tuple[str, ...]
    hash: str


def canonical(group: SymmetryGroup, state: State) -> Canonical:
    """Return the canonical member of the orbit of some weights, in double precision."""
    sorter = _Sorter(group.derivation, exact(state))
    sorter.run()
    notes = (*left_out(group), *sorter.notes)
    return Canonical(
        state=sorter.state,
        element=Element(moves=tuple(sorter.moves)),
        notes=tuple(dict.fromkeys(notes)),
        hash=hash_of(sorter.state),
    )


def exact(state: State) -> State:
    """Return a state in double precision on the CPU, apart from the one that is given."""
    return {
        key: tensor.detach().cpu().double() if tensor.dtype.is_floating_point else tensor.detach().cpu()
        for key, tensor in state.items()
    }


def hash_of(state: State) -> str:
    """Return a hash of rounded numbers; names and shapes count."""
    import torch

    digest = hashlib.sha256()
    for key in sorted(state):
        own = state[key]
        digest.update(f"{key} {tuple(own.shape)}".encode())
        if own.dtype.is_floating_point:
            largest = float(own.abs().max()) if own.numel() else 0.0
            own = torch.round(own / (largest or 1.0) * 10**_DIGITS).long()
            digest.update(f"{largest:.{_DIGITS - 1}e}".encode())
        digest.update(own.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Sorter:
    def __init__(self, d: Derivation, state: State) -> None:
        self.d = d
        self.state = state
        self.moves: list[AnyMove] = []
        self.notes: list[str] = []

    def run(self) -> None:
        self.move(centring(self.d, -1.0))
        found = balance(self.d, self.state)
        self.notes += found.notes
        self.moves += found.element.moves
        self.state = act(self.d, found.element, self.state)
        for item in self.d.related.unused:
            if (key := key_of(item.key)) in self.state:  # no output depends on it
                self.state[key] = self.state[key].new_zeros(self.state[key].shape)
        for strand in self.d.of_group(*MATRICES):
            if strand.size > 1:
                self.move(Transform(space=strand.space, matrix=self.axes(strand)))
        for move in self.orders():
            self.move(move)
        self.choose_signs()
        self.move(centring(self.d, 1.0))
        self.state = {key: _positive_zero(tensor) for key, tensor in self.state.items()}

    def move(self, move: AnyMove) -> None:
        self.moves.append(move)
        self.state = act(self.d, Element(moves=(move,)), self.state)

    def shown(self, strand: Strand) -> str:
        return self.d.related.carriers[strand.space.tensor].shown

    # --------------------------------------------------------------------------------------------- axes

    def axes(self, strand: Strand) -> Tensor:
        """Return the rotation of each copy of a wire to its principal axes, the largest first."""
        import torch

        group = self.d.groups[strand.space]
        found = [rows for _, rows in places(self.d, strand, self.state, stored(self.d, self.state))]
        if group == "complex":
            return _phases(found)
        gram = sum((rows @ rows.mT for rows in found), torch.zeros(()).double())
        basis = _basis(strand.size, group)
        held = int(group == "centred")
        linear_algebra: Any = torch.linalg
        values, vectors = linear_algebra.eigh((basis.T @ gram @ basis)[:, held:, held:])
        if bool((values.diff(dim=-1) < _SAME * values[:, -1:]).any()):
            self.notes.append(f"axes of {self.shown(strand)} are equally large, and not told apart")
        inner = torch.eye(strand.size).double().repeat(strand.copies, 1, 1)
        inner[:, held:, held:] = vectors.mT.flip(1)
        return basis @ inner @ basis.T

    # ------------------------------------------------------------------------------------------- orders

    def orders(self) -> list[AnyMove]:
        """Return an order of the units of each copy of each wire, by numbers that permutations and signs leave alone.

        Those inside of copies come first: their copies may be permuted afterwards. Of the permutations that masks
        leave it is the one that makes the numbers largest.
        """
        import torch

        masked = self.d.masked
        wires = [strand for strand in self.d.of_group("monomial") if strand.size > 1]
        state = self.in_axes()
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
            self.notes.append(f"units of {self.shown(strand)} are alike, and not told apart")
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

    # -------------------------------------------------------------------------------------------- signs

    def choose_signs(self) -> None:
        """Flip so that the largest entries are positive whose signs are free of each other (over GF(2))."""
        import torch

        # Axes that are no axes of the tensors, and those that pass a gain: flipped by matrices.
        passing = {fold.before for fold in self.d.folds}
        matrices = [
            strand
            for strand in self.d.of_group("centred", "orthogonal")
            if strand.size > 1 and (self.d.groups[strand.space] == "centred" or strand.space in passing)
        ]
        plain = [*directions(self.d, self.d.signs), *self.reflections(matrices)]
        behind = [self.d.by_space[f.behind] for f in self.d.folds]
        flips = Coordinates(self.d, [*plain, *map(self.every_place, [*matrices, *behind])])
        if not flips.count:
            return
        starts = flips.starts[len(plain) :][: len(matrices)]
        copied = self.behind_gains(dict(zip((m.space for m in matrices), starts, strict=True)), flips, plain)
        still = 0  # the axis of equal entries stays, in every copy
        state = self.in_axes()
        for strand, start in zip(matrices, starts, strict=True):
            if self.d.groups[strand.space] == "centred":
                still |= sum(1 << (start + copy * strand.size) for copy in range(strand.copies))
        names = stored(self.d, state)
        entries = torch.cat([state[key_of(name)].flatten() for name in names])
        gains = {fold.gain for fold in self.d.folds}
        masks = [
            carried(mask, () if name in gains else copied, flips.starts[len(plain) + len(matrices)]) & ~still
            for name in names
            for mask in masks_of(flips.rows(name))
        ]
        first = torch.cat([torch.full_like(state[key_of(n)].flatten(), n in gains) for n in names]).bool()
        numbers = torch.tensor(chosen(entries, first, masks, flips.count), dtype=torch.float64)
        common = Coordinates(self.d, plain)
        self.move(Multiply(given=common.amounts(numbers[: common.count]), sign=True, is_centred=True))
        for strand, start in zip(matrices, starts, strict=True):
            basis = _basis(strand.size, self.d.groups[strand.space])
            signs = 1 - 2 * numbers[start : start + strand.copies * strand.size]
            signs = signs.reshape(strand.copies, 1, strand.size)
            self.move(Transform(space=strand.space, matrix=(basis * signs) @ basis.T))

    def in_axes(self) -> State:
        """Return the state with centred wires in their principal axes, whose flips are flips of entries."""
        turns = [
            Transform(space=strand.space, matrix=centred_basis(strand.size).T)
            for strand in self.d.of_group("centred")
            if strand.size > 1
        ]
        return act(self.d, Element(moves=tuple(turns)), self.state)

    def behind_gains(
        self, starts: dict[Atom, int], flips: Coordinates, plain: list[Direction]
    ) -> tuple[tuple[int, int, int], ...]:
        """Return (where the flips behind a gain are, where those before it are, how many) for gains that fold."""
        first = len(plain) + len(starts)
        own = zip(flips.starts[first:], self.d.folds, strict=False)
        return tuple((start, starts[f.before], self.d.by_space[f.behind].size) for start, f in own)

    def every_place(self, strand: Strand) -> Direction:
        """Return what is free at each entry of a strand, at all of its places alike."""
        solution = {
            (atoms[0] if len((*atoms, *outer)) == 1 else frozenset((*atoms, *outer))): 1
            for atoms, outer in strand.places
        }
        return Direction(solution=solution, spaces=wide(self.d, strand))

    def reflections(self, besides: list[Strand]) -> list[Direction]:
        """Return the flips of single axes of other GL and O wires."""
        found: list[Direction] = []
        for strand in self.d.of_group("linear", "orthogonal"):
            if strand.size > 1 and strand not in besides:
                found += along(self.d, self.d.signs, strand)
        return found


def _basis(size: int, group: str) -> Tensor:
    import torch

    return centred_basis(size) if group == "centred" else torch.eye(size, dtype=torch.float64)


def _phases(found: list[Tensor]) -> Tensor:
    """Return the rotations of planes after which the sum of squares of the complex entries is positive."""
    import torch

    squares = sum((torch.complex(rows[:, 0], rows[:, 1]) ** 2).sum(dim=-1) for rows in found)
    angle = -torch.angle(torch.as_tensor(squares)) / 2
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


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
        same = (values.diff().abs() <= _SAME * values.abs().max()).nonzero()
        if len(same):
            mark = keys * 0
            mark[copy, order[int(same[0])]] = 1.0
            return mark
    return None


def _positive_zero(tensor: Tensor) -> Tensor:
    return tensor + 0.0 if tensor.dtype.is_floating_point else tensor
