"""The matcher: moves one network's weights towards another's, a wire at a time.

Linear assignment for permutations, with signs where they may flip, quadratic assignment where a wire stands on two
sides of a tensor, rotations by Procrustes, GL also by least squares; masks leave classes to assign. Wires
take turns until none gains.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from typing import TYPE_CHECKING, NamedTuple

from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.blocks import blocks, places
from nnspec.compiler.symmetry.derivation import MATRICES, Derivation
from nnspec.compiler.symmetry.elements import AnyMove, Direction, Element, centred_basis, directions, unit
from nnspec.compiler.symmetry.flows import NOTHING, Flows, nearest
from nnspec.compiler.symmetry.intertwiners import Intertwiners
from nnspec.compiler.symmetry.masked import Masked
from nnspec.compiler.symmetry.matching import (
    Array,
    Quadratic,
    assigned,
    plane_rotation,
    quadratically_assigned,
    rotation,
    two_sided_map,
)
from nnspec.compiler.symmetry.moves import Multiply, Permute, Transform
from nnspec.compiler.symmetry.places import State, key_of
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.unit_signs import UnitSigns

if TYPE_CHECKING:
    from torch import Tensor

_SWEEPS = 100
GAIN = 1e-12  # of the squared distance, that counts as nearer
COARSE = 1e-2  # of what is left of it, as long as other starts and turns are to come
_TRIED = 300  # permutations that masks leave, of those that move several units at once, in a sweep
_CONDITION = 1e8  # beyond it a map by least squares is not tried


class Reached(NamedTuple):
    """An element, where it leads, and the squared distance that is left."""

    element: Element
    state: State
    gap: float


class Matcher:
    """Moves one state towards a balanced target, a wire at a time."""

    def __init__(
        self, flows: Flows, target: State, restarts: int, seed: int, mapped: Intertwiners | None = None
    ) -> None:
        self.flows = flows
        self.d = d = flows.d
        self.names = flows.names
        self.target = target
        self.restarts = restarts
        self.seed = seed
        self.mapped = mapped
        self.size = sum(float((target[key_of(name)] ** 2).sum()) for name in self.names)
        self.strands = [s for s in d.of_group("monomial", *MATRICES) if s.size > 1]
        self.flips = [
            (Multiply(given=amounts, sign=True),)
            for one in directions(d, d.signs)
            if all(d.by_space[space].is_fixed for space in one.spaces)
            for amounts in _each(d, one)
        ] + [(Multiply(given=given, sign=True),) for given in d.graded.signs]
        self.masked = None if d.masked is None else d.masked.strands()
        self.patterns = {
            strand.space: UnitSigns(d, strand) for strand in (*self.strands, *(self.masked or ()))
        }
        self.solvers: dict[Atom, str] = {}

    def run(self, start: Element, given: State, flowing: bool = False) -> Reached:
        """Return what is reached from a start; `flowing`: by all continuous families at once, too."""
        reached = self.turned(Reached(start, state := start.moved(self.d, given), self.gap(state)))
        while flowing and reached.gap > NOTHING * self.size:
            found = self.flowed(reached)
            if found.gap >= (1 - COARSE) * reached.gap:
                break
            reached = self.turned(found)
        return reached

    def turned(self, reached: Reached) -> Reached:
        """Let wires take turns until none gains."""
        for _ in range(_SWEEPS):
            before = reached.gap
            for turn in (*self.strands, None):
                for move in self.common(reached.state) if turn is None else self.wire(turn, reached.state):
                    found = self.after(reached, Element(moves=move))
                    if found.gap < reached.gap - GAIN * self.size:
                        reached = found
                        if turn is not None:
                            break
            if before - reached.gap <= GAIN * self.size:
                break
        return reached

    def flowed(self, reached: Reached) -> Reached:
        """Return the nearest member that small steps reach: from where intertwiners lead, if they do, and from here."""
        moves = None if self.mapped is None else self.mapped.moves(reached.state)
        if moves is not None:
            begun = self.after(reached, Element(moves=moves))
            found = self.flown(begun, COARSE)
            if found.gap < (1 - COARSE) * reached.gap:
                return found
        return self.flown(reached, COARSE)

    def flown(self, reached: Reached, gain: float) -> Reached:
        return self.after(reached, nearest(self.flows, self.target, reached.state, gain))

    def after(self, reached: Reached, element: Element) -> Reached:
        state = element.moved(self.d, reached.state)
        return Reached(reached.element.then(element), state, self.gap(state))

    def common(self, state: State) -> Iterator[tuple[AnyMove, ...]]:
        """Yield moves of several wires at once."""
        if self.masked:
            yield from self.masks(state)
        yield from self.flips

    def masks(self, state: State) -> Iterator[tuple[AnyMove, ...]]:
        """Yield permutations that masks leave: classes assigned, wire by wire, and the best one of few units."""
        masked = self.d.masked
        assert masked is not None and self.masked is not None
        for strand in self.masked:
            member, picked = self.in_classes(masked, strand, state)
            self.solvers[strand.space] = "assignment within masks"
            yield (masked.move(member), *self.patterns[strand.space].flips(picked))
        found = [self.signed(move, state) for move in islice(masked.apart(), _TRIED)]
        if found:
            yield min(found, key=lambda moves: self.gap(Element(moves=moves).moved(self.d, state)))

    def signed(self, move: AnyMove, state: State) -> tuple[AnyMove, ...]:
        """Return a permutation that masks leave, followed by the flips of single units that are nearest."""
        moves = [move]
        for strand in self.masked or ():
            scores = self.scores(strand, Element(moves=tuple(moves)).moved(self.d, state))
            picked = scores.diagonal(axis1=2, axis2=3).argmax(axis=0)
            moves += self.patterns[strand.space].flips(picked)
        return tuple(moves)

    def in_classes(self, masked: Masked, strand: Strand, state: State) -> tuple[Array, Array]:
        """Assign the units of a strand that masks do not tell apart; return a permutation, and a pattern for each."""
        import numpy as np

        scores = self.scores(strand, state)
        picked = scores.diagonal(axis1=2, axis2=3).argmax(axis=0)
        member = np.arange(masked.group.size)
        if strand.copies > 1 or len(strand.spaces) > 1:
            return member, picked
        start = masked.starts[masked.own.index(strand.space)]
        for points in masked.group.classes:
            own = points - start
            if len(own) > 1 and own[0] >= 0 and own[-1] < strand.size:
                order = own[assigned(scores[:, 0][:, own][:, :, own].max(axis=0)).order]
                member[points] = start + order
                picked[0, own] = scores[:, 0, own, order].argmax(axis=0)
        return member, picked

    def scores(self, strand: Strand, state: State) -> Array:
        """Return by pattern of signs and copy what each pair of units has in common, [patterns, copies, size, size]."""
        import numpy as np

        products = [(atom, a @ b.swapaxes(1, 2)) for atom, a, b in self.sides(strand, state)]
        return np.stack(
            [sum(signs[atom] * c for atom, c in products) for signs in self.patterns[strand.space].signs]
        )

    def gap(self, state: State) -> float:
        return sum(float(((self.target[key] - state[key]) ** 2).sum()) for key in map(key_of, self.names))

    def wire(self, strand: Strand, state: State) -> Iterator[tuple[AnyMove, ...]]:
        """Yield moves of one wire that may bring a state nearer, the most promising first."""
        if self.d.groups[strand.space] in MATRICES:
            yield from self.matrices(strand, state)
        elif len(pairs := list(self.pairs(strand, state))):
            yield self.quadratic(strand, state, pairs)
        else:
            yield self.linear(strand, state)

    def sides(self, strand: Strand, state: State) -> list[tuple[Atom, Array, Array]]:
        """Return what both networks hold at each place of a wire, [copies, size, others]."""
        ours = places(self.d, strand, self.target, self.names)
        theirs = places(self.d, strand, state, self.names)
        return [(atom, a.numpy(), b.numpy()) for (atom, a), (_, b) in zip(ours, theirs, strict=True)]

    def pairs(self, strand: Strand, state: State) -> Iterator[tuple[frozenset[Atom], Array, Array]]:
        """Yield [others, size, size] of both where a wire stands on two sides of a tensor."""
        if strand.copies > 1 or len(strand.spaces) > 1:
            return
        for name in self.names:
            ours = blocks(self.d, name, self.target[key_of(name)])
            theirs = blocks(self.d, name, state[key_of(name)])
            for mine, other in zip(ours, theirs, strict=True):
                own = [i for i, atom in enumerate(mine.atoms) if self.d.spaces.space(atom) == strand.space]
                if len(own) == 2:
                    atoms = frozenset(mine.atoms[i] for i in own)
                    yield atoms, _squares(mine.values, own), _squares(other.values, own)

    def linear(self, strand: Strand, state: State) -> tuple[AnyMove, ...]:
        """Assign the units of each copy; each pair with the signs under which it is nearest."""
        import numpy as np

        patterns = self.patterns[strand.space]
        scores = self.scores(strand, state)
        orders = [assigned(own).order for own in scores.max(axis=0)]
        picked = [
            scores[:, copy].argmax(axis=0)[np.arange(strand.size), order] for copy, order in enumerate(orders)
        ]
        self.solvers[strand.space] = "signed assignment" if len(patterns.signs) > 1 else "linear assignment"
        return self.ordered(strand, orders, np.stack(picked))

    def ordered(self, strand: Strand, orders: list[Array], picked: Array) -> tuple[AnyMove, ...]:
        """Return a permutation of each copy, followed by the flips of the pattern picked for each unit."""
        moves: list[AnyMove] = [
            Permute(space=strand.space, order=tuple(order.tolist()), copy=copy)
            for copy, order in enumerate(orders)
        ]
        return (*moves, *self.patterns[strand.space].flips(picked))

    def quadratic(
        self, strand: Strand, state: State, pairs: list[tuple[frozenset[Atom], Array, Array]]
    ) -> tuple[AnyMove, ...]:
        import numpy as np

        twice = frozenset[Atom]().union(*(atoms for atoms, _, _ in pairs))
        linear = np.zeros((strand.size, strand.size))
        for atom, a, b in self.sides(strand, state):
            if atom not in twice:
                linear = linear + (a @ b.swapaxes(1, 2))[0]
        patterns = self.patterns[strand.space].signs
        signed = len(patterns) == 2
        ours, theirs = (np.concatenate(side) for side in list(zip(*pairs, strict=True))[1:])
        problem = Quadratic(linear, ours, theirs, signed)
        best = quadratically_assigned(problem, self.restarts, self.seed)
        self.solvers[strand.space] = "quadratic assignment" + (" with signs" if signed else "")
        return self.ordered(strand, [best.order], (best.signs < 0).astype(int)[None])

    def matrices(self, strand: Strand, state: State) -> Iterator[tuple[AnyMove, ...]]:
        """Yield a rotation by Procrustes; where GL acts, also the map of least squares on both sides."""
        import numpy as np
        import torch

        group, size = self.d.groups[strand.space], strand.size
        sides = self.sides(strand, state)
        for fold in self.d.folds:
            if fold.before == strand.space:  # gains are 1 in a balanced state
                behind = self.sides(self.d.by_space[fold.behind], state)
                sides += [side for side in behind if side[0].tensor != fold.gain]
        held = int(group == "centred")
        basis = centred_basis(size).numpy() if held else np.eye(size)
        turned = np.stack([np.eye(size)] * strand.copies)
        for copy in range(strand.copies):
            products = basis.T @ sum(a[copy] @ b[copy].T for _, a, b in sides) @ basis
            solved = plane_rotation(products) if group == "complex" else rotation(products[held:, held:])
            turned[copy, held:, held:] = solved
        self.solvers.setdefault(strand.space, "rotation")
        yield (Transform(space=strand.space, matrix=torch.from_numpy(basis @ turned @ basis.T)),)
        if group == "linear":
            sense = self.d.orientations.of
            mapped = np.stack(
                [
                    two_sided_map(
                        [(a[copy], b[copy]) for atom, a, b in sides if sense(atom) > 0],
                        [(a[copy], b[copy]) for atom, a, b in sides if sense(atom) < 0],
                    )
                    for copy in range(strand.copies)
                ]
            )
            if np.linalg.cond(mapped).max() < _CONDITION:
                self.solvers[strand.space] = "rotation, least squares"
                yield (Transform(space=strand.space, matrix=torch.from_numpy(mapped)),)


def _squares(values: Tensor, axes: list[int]) -> Array:
    """Return an array as [others, n, n], its two axes of one wire last."""
    moved = values.movedim(axes, (0, 1))
    return moved.reshape(*moved.shape[:2], -1).permute(2, 0, 1).numpy()


def _each(d: Derivation, direction: Direction) -> Iterator[Amounts]:
    """Yield a direction at each combination of its indices."""
    for indices in product(*(range(d.spaces.sizes[space]) for space in direction.spaces)):
        yield unit(d, direction, indices)
