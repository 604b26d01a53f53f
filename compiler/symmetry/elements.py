"""Elements of the derived group: products of moves, to apply, to compose, to invert, and to draw at random.

In: a derived group. An `Element` acts on state dicts of torch tensors, buffers included, and changes no output
of the network. What depends on the weights at hand (kernel directions, hidden symmetries) is in no element; `left_out` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.amounts import Amounts, amounts, amounts_of
from nnspec.compiler.symmetry.derivation import MATRICES, Derivation
from nnspec.compiler.symmetry.moves import (
    Add,
    AnyMove,
    Exchange,
    Mix,
    Multiply,
    Permute,
    Shift,
    Transform,
    applied,
)
from nnspec.compiler.symmetry.places import State, key_of
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.swaps import Swap
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Element(Node):
    """Moves, the first of which acts first."""

    moves: tuple[AnyMove, ...] = ()

    def then(self, other: Element) -> Element:
        """Return this element followed by another."""
        return Element(moves=(*self.moves, *other.moves))

    def moved(self, d: Derivation, state: State) -> State:
        """Return weights in force moved."""
        for move in self.moves:
            state = move.apply(d, state)
        return state

    def inverse(self) -> Element:
        return Element(moves=tuple(move.inverse() for move in reversed(self.moves)))

    def permutation(self, space: Atom, size: int) -> tuple[int, ...]:
        """Return how permutations of a wire alone move a space: new index i is the old one at place i.

        What masks leave, and exchanges with parallel branches, are other moves.
        """
        order = tuple(range(size))
        for move in self.moves:
            if isinstance(move, Permute) and move.space == space:
                order = tuple(order[place] for place in move.order)
        return order


def act(derivation: Derivation, element: Element, state: State) -> State:
    """Return the state that an element makes of a state; the network computes the same with both."""
    return applied(derivation, element.moves, state)


# ------------------------------------------------------------------------------------------- one-parameter


class Direction(Node):
    """A solution of one of the systems: common to whole tensors, or free at each combination of indices of spaces."""

    solution: Mapping[Any, Any]
    spaces: tuple[Atom, ...] = ()

    def amounts(self, d: Derivation, numbers: Tensor) -> Amounts:
        """Return the solution times a number, or times one number for each combination of indices."""
        if not self.spaces:
            return amounts(d, self.solution).times(float(numbers))

        def array(atoms: tuple[Atom, ...], number: Any) -> Tensor:
            order = [self.spaces.index(d.spaces.space(atom)) for atom in atoms]
            return float(number) * numbers.permute(order)

        return amounts_of(d, self.solution, array)


def directions(d: Derivation, system: Unknowns) -> Iterator[Direction]:
    """Yield a basis of the solutions that move weights.

    Scales and signs at single indices of a GL or O wire are left out: they are in its matrices, or break them.
    """
    buffers = {c.name for c in d.related.carriers.values() if c.kind == "buffer"}
    alone = {name for buffer in buffers for name in system.joint_unknowns(buffer)}
    for solution in system.joint.basis():
        if not alone.issuperset(solution):
            yield Direction(solution=solution)
    alone_ = {(space,): equations for space, equations in system.vectors.items()}
    combined = {tuple(sorted(spaces)): equations for spaces, equations in system.compounds.items()}
    for spaces, equations in (*alone_.items(), *combined.items()):
        if system is not d.shifts and any(_is_of_matrices(d, space) for space in spaces):
            continue
        for solution in equations.basis():
            yield Direction(solution=solution, spaces=spaces)


class Grade(Node):
    """A direction that grades units: each moves by an amount of its own, all by one number."""

    given: Amounts
    spaces: tuple[Atom, ...] = ()

    def amounts(self, d: Derivation, numbers: Tensor) -> Amounts:
        return self.given.times(float(numbers))


def sign_directions(d: Derivation) -> list[Direction | Grade]:
    """Return all directions along which signs are free, those that grade units too."""
    return [*directions(d, d.signs), *graded_signs(d)]


def graded_signs(d: Derivation) -> list[Grade]:
    return [Grade(given=given) for given in d.graded.signs]


def scale_directions(d: Derivation) -> list[Direction | Grade]:
    """Return all directions along which scales are free, those that grade units too."""
    return [*directions(d, d.scales), *(Grade(given=given) for given in d.graded.scales)]


def _is_of_matrices(d: Derivation, space: Atom) -> bool:
    strand = d.by_space[space]
    return d.groups.get(strand.space) in MATRICES


def unit(d: Derivation, direction: Direction, indices: tuple[int, ...] = ()) -> Amounts:
    """Return the amounts of a direction alone; of one that is free at each index, at one index of each space."""
    return amounts(d, direction.solution, dict(zip(direction.spaces, indices, strict=True)))


def every_unit(d: Derivation, direction: Direction | Grade, first: int = 1) -> Iterator[Amounts]:
    """Yield the amounts of a direction at every combination of indices from `first`; 0 follows from the others."""
    if isinstance(direction, Grade):
        yield direction.given
        return
    if not direction.spaces:
        yield unit(d, direction)
        return
    for indices in product(*(range(first, d.spaces.sizes[space]) for space in direction.spaces)):
        yield unit(d, direction, indices)


# ---------------------------------------------------------------------------------------------- at random


def random_element(group: SymmetryGroup, seed: int, spread: float = 0.3) -> Element:
    """Return a random element: uniform permutations, signs and rotations; the rest of size `spread`."""
    import torch

    d = group.derivation
    random = torch.Generator().manual_seed(seed)
    moves: list[AnyMove] = []
    for wire in group.wires:
        if wire.size > 1 and d.groups[wire.space] == "monomial":
            for copy in range(wire.copies):
                shuffled: Any = torch.randperm(wire.size, generator=random)
                moves.append(Permute(space=wire.space, order=tuple(shuffled.tolist()), copy=copy))
        elif wire.size > 1 and d.groups[wire.space] in MATRICES:
            drawn = [random_matrix(d, d.by_space[wire.space], random, spread) for _ in range(wire.copies)]
            moves.append(Transform(space=wire.space, matrix=torch.stack(drawn)))
        if wire.size > 1 and d.turns_ones(d.by_space[wire.space]):
            moves += _turned_ones(wire, random)
    moves += _exchanged(d, random)
    for item in d.incidences.values():
        if item.beside:
            moves.append(Mix(given=item, matrix=item.drawn(random, spread)))
    if d.masked is not None:
        moves.append(d.masked.drawn(seed))
    for found, sign in ((sign_directions(d), True), (scale_directions(d), False)):
        for direction in found:
            given = direction.amounts(d, _numbers(d, direction, random, sign, spread))
            moves.append(Multiply(given=given, sign=sign))
    for direction in directions(d, d.shifts):
        moves.append(Shift(given=direction.amounts(d, _numbers(d, direction, random, False, spread))))
    return Element(moves=(*moves, *_forgotten(d, random, spread)))


def left_out(group: SymmetryGroup) -> tuple[str, ...]:
    """Say what of the group no element does: what depends on the weights, and what is not searched."""
    found: list[str] = []
    if group.families["kernel"]:
        count = group.families["kernel"]
        found.append(f"{count} kernel directions depend on the weights, and are left as they are")
    if group.derivation.masked is not None:
        found += group.derivation.masked.notes
    return tuple(found)


def random_matrix(d: Derivation, strand: Strand, random: torch.Generator, spread: float) -> Tensor:
    """Return a uniform rotation or reflection of a strand; where GL acts, times a symmetric exponential."""
    import torch

    size, kind = strand.size, d.groups[strand.space]
    linear_algebra: Any = torch.linalg

    def normal(count: int) -> Tensor:
        return torch.randn(count, count, generator=random, dtype=torch.float64)

    if kind == "complex":
        real, imaginary = torch.randn(2, generator=random, dtype=torch.float64)
        return torch.stack([torch.stack([real, -imaginary]), torch.stack([imaginary, real])])
    inner = size - 1 if kind == "centred" else size
    turned, corner = linear_algebra.qr(normal(inner))
    turned = turned * corner.diagonal().sign()
    if kind == "centred":
        basis = centred_basis(size)
        whole = torch.eye(size, dtype=torch.float64)
        whole[1:, 1:] = turned
        return basis @ whole @ basis.T
    if kind == "orthogonal":
        return turned
    stretch = spread * normal(size) / size**0.5
    return turned @ linear_algebra.matrix_exp(stretch + stretch.T)


def centred_basis(size: int) -> Tensor:
    """Return an orthogonal matrix whose first column is constant (Helmert's)."""
    import torch

    basis = torch.zeros(size, size, dtype=torch.float64)
    basis[:, 0] = size**-0.5
    for column in range(1, size):
        basis[:column, column] = (column * (column + 1)) ** -0.5
        basis[column, column] = -column * (column * (column + 1)) ** -0.5
    return basis


def _exchanged(d: Derivation, random: torch.Generator) -> Iterator[AnyMove]:
    """Yield random orders of the units of parallel branches, and of branches that may change places."""
    import torch

    def shuffled(count: int) -> tuple[int, ...]:
        drawn: Any = torch.randperm(count, generator=random)
        return tuple(drawn.tolist())

    for item in d.parallel:
        yield Exchange(item=item, order=shuffled(item.size))
    for item in d.branches:
        for index in range(item.size):
            yield Swap(item=item, order=shuffled(len(item.pieces)), index=index)


def _turned_ones(wire: Wire, random: torch.Generator) -> Iterator[Transform]:
    """Yield a reflection along the vector of ones, or (as often) nothing."""
    import torch

    turns = torch.randint(0, 2, (wire.copies, 1, 1), generator=random).double()
    matrix = torch.eye(wire.size, dtype=torch.float64) - turns * 2.0 / wire.size
    if bool(turns.any()):
        yield Transform(space=wire.space, matrix=matrix)


def _numbers(
    d: Derivation, direction: Direction | Grade, random: torch.Generator, sign: bool, spread: float
) -> Tensor:
    import torch

    shape = [d.spaces.sizes[space] for space in direction.spaces]
    if sign:
        return torch.randint(0, 2, shape, generator=random).double()
    return spread * torch.randn(shape, generator=random, dtype=torch.float64)


def _forgotten(d: Derivation, random: torch.Generator, spread: float) -> Iterator[Add]:
    import torch

    for item in d.forgotten:
        drawn = torch.randn(item.shape, generator=random, dtype=torch.float64)
        yield Add(item=item, added=spread * drawn)


__all__ = ["Direction", "Element", "act", "directions", "every_unit", "key_of", "random_element", "unit"]
