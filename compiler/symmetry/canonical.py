"""The canonical member of an orbit: one and the same for all weights that the group makes of each other.

Balanced weights (`balance`) are turned to the principal axes of each GL and O wire, the units of each other wire
are sorted by numbers that no permutation or sign changes, and signs are chosen so that the largest entries that
they can flip are positive. This is for generic weights: what cannot be told apart (equal units, equal axes) is
put in an order of its own and said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import log, tau
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.balance import balance
from nnspec.compiler.symmetry.blocks import Coordinates, along, places, wide
from nnspec.compiler.symmetry.derivation import MATRICES, Derivation
from nnspec.compiler.symmetry.elements import (
    AnyMove,
    Direction,
    Element,
    Grade,
    act,
    centred_basis,
    left_out,
    random_element,
    sign_directions,
)
from nnspec.compiler.symmetry.moves import Multiply, Transform, centring, in_force, lowered
from nnspec.compiler.symmetry.orders import SAME, Orders, in_axes
from nnspec.compiler.symmetry.parity import carried, chosen, masks_of
from nnspec.compiler.symmetry.places import State, key_of, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING = 1e-12  # of the largest principal axis
_DIGITS = 5  # of a tensor, that a hash keeps
_ALIKE = 1e-6  # of the largest tensor: two forms that are one
_TRIED = 1  # the seed of the element that leads to another member
_UNSEEN = 1e-9  # of the largest tensor: numbers that are zero but for rounding
_FREQUENCIES = (2**0.5, 3**0.5)


class Canonical(Node):
    """The canonical member, the element that leads to it, what was left, and a hash that orbits share.

    Where `is_limit`, the element leads as near to it as elements do: to its units in their order and gauge.
    """

    state: State
    element: Element
    is_limit: bool
    notes: tuple[str, ...]
    hash: str


def canonical(group: SymmetryGroup, state: State, is_tried: bool = True) -> Canonical:
    """Return the canonical member of the orbit of some weights, in double precision.

    Where it `is_tried`, another member of the orbit is brought to its form, and a note says if that is another one.
    """
    d, state = group.derivation, exact(state)
    sorter = sorted_weights(group, in_force(d, state))
    found = {key: _positive_zero(own) for key, own in lowered(d, state, sorter.state).items()}
    notes = [*left_out(group), *unsorted_matrices(d), *sorter.notes]
    if is_tried:
        notes += _disagreement(group, state, sorter.state)
    return Canonical(
        state=found,
        element=sorter.element,
        is_limit=sorter.is_limit,
        notes=tuple(dict.fromkeys(notes)),
        hash=hash_of(found),
    )


def unsorted_matrices(d: Derivation) -> tuple[str, ...]:
    """Say which matrices of the group no canonical form is known of."""
    beside = any(item.beside for item in d.incidences.values())
    return ("matrices that keep masks are left as they are",) if beside else ()


def _disagreement(group: SymmetryGroup, state: State, form: State) -> Iterator[str]:
    """Say where the form of another member of an orbit differs from one that was found, both in force."""
    d = group.derivation
    moved = in_force(d, act(d, random_element(group, _TRIED), state))
    other = sorted_weights(group, moved).state
    size = max((_norm(form[key_of(name)]) for name in stored(d, form)), default=0.0)
    gaps = {name: _norm(form[key_of(name)] - other[key_of(name)]) for name in stored(d, form)}
    worst = max(gaps, key=gaps.__getitem__, default="")
    if worst and gaps[worst] > _ALIKE * size:
        yield (
            f"another member of the orbit has another form, {gaps[worst] / size:.1e} apart in "
            f"{d.related.carriers[worst].shown}: there it is not decided by the function alone"
        )


def sorted_weights(group: SymmetryGroup, state: State) -> Sorter:
    """Return what is known of weights in force once they are in canonical form."""
    sorter = Sorter(group.derivation, state)
    sorter.run()
    return sorter


def exact(state: State) -> State:
    """Return a state in double precision on the CPU, apart from the one that is given."""
    return {
        key: tensor.detach().cpu().double() if tensor.dtype.is_floating_point else tensor.detach().cpu()
        for key, tensor in state.items()
    }


def hash_of(state: State) -> str:
    """Return a hash of rounded numbers; names and shapes count.

    They are the size of each tensor and its parts along a few waves, over that size: sums over all entries, so few that
    none is likely to lie at the border between two roundings. Single entries are many, and one of them always does.
    """
    import torch

    digest = hashlib.sha256()
    sizes = {key: _norm(own) for key, own in state.items() if own.dtype.is_floating_point}
    nothing = _UNSEEN * max(sizes.values(), default=0.0)
    for key in sorted(state):
        own = state[key]
        digest.update(f"{key} {tuple(own.shape)}".encode())
        if own.dtype.is_floating_point:
            size = sizes[key]
            own = torch.zeros(0) if size <= nothing else torch.tensor([log(size), *_waves(own / size)])
            own = torch.round(own.double() * 10**_DIGITS).long()
        digest.update(own.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _norm(tensor: Tensor) -> float:
    return float(tensor.double().square().sum().sqrt())


def _waves(tensor: Tensor) -> list[float]:
    """Return the sums of the entries times sines and cosines of their places, with frequencies of no common measure."""
    import torch

    places = torch.arange(1, tensor.numel() + 1, dtype=torch.float64)
    angles = [tau * torch.frac(places * frequency) for frequency in _FREQUENCIES]
    flat = tensor.double().flatten()
    return [float(flat @ wave) for angle in angles for wave in (angle.sin(), angle.cos())]


class Sorter:
    """Brings weights in force into canonical form, and keeps the moves that do."""

    def __init__(self, d: Derivation, state: State) -> None:
        self.d = d
        self.state = state  # in force
        self.moves: list[AnyMove] = []
        self.notes: list[str] = []

    def run(self) -> None:
        self.move(centring(self.d, -1.0))
        found = balance(self.d, self.state, limits=True)
        self.notes += found.notes
        self.moves += found.element.moves
        self.state, self.is_limit = found.state, found.is_limit
        for item in self.d.related.unused:
            if (key := key_of(item.key)) in self.state:  # no output depends on it
                self.state[key] = self.state[key].new_zeros(self.state[key].shape)
        for strand in self.d.of_group(*MATRICES):
            if strand.size > 1:
                self.move(Transform(space=strand.space, matrix=self.axes(strand)))
        orders = Orders(self.d, self.state)
        for move in orders.moves():
            self.move(move)
        self.notes += orders.notes
        self.choose_signs()
        self.move(centring(self.d, 1.0))

    @property
    def element(self) -> Element:
        return Element(moves=tuple(self.moves))

    def move(self, move: AnyMove) -> None:
        self.moves.append(move)
        self.state = move.apply(self.d, self.state)

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
        seen = values[:, 1:] > _NOTHING * values[:, -1:]  # on axes along which nothing is, nothing acts
        if bool((seen & (values.diff(dim=-1) < SAME * values[:, -1:])).any()):
            self.notes.append(f"axes of {self.shown(strand)} are equally large, and not told apart")
        inner = torch.eye(strand.size).double().repeat(strand.copies, 1, 1)
        inner[:, held:, held:] = vectors.mT.flip(1)
        return basis @ inner @ basis.T

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
        plain = [*sign_directions(self.d), *self.reflections(matrices)]
        behind = [self.d.by_space[f.behind] for f in self.d.folds]
        flips = Coordinates(self.d, [*plain, *map(self.every_place, [*matrices, *behind])])
        if not flips.count:
            return
        starts = flips.starts[len(plain) :][: len(matrices)]
        copied = self.behind_gains(dict(zip((m.space for m in matrices), starts, strict=True)), flips, plain)
        still = 0  # the axis of equal entries stays, in every copy
        state = in_axes(self.d, self.state)
        for strand, start in zip(matrices, starts, strict=True):
            if self.d.groups[strand.space] == "centred" and not self.d.turns_ones(strand):
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

    def behind_gains(
        self, starts: dict[Atom, int], flips: Coordinates, plain: list[Direction | Grade]
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


def _positive_zero(tensor: Tensor) -> Tensor:
    return tensor + 0.0 if tensor.dtype.is_floating_point else tensor
