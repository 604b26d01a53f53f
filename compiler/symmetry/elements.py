"""Elements of the derived group: products of moves, to apply, to compose, to invert, and to draw at random.

In: a derived group. An `Element` acts on state dicts of torch tensors, buffers included, and changes no output
of the network. What depends on the weights at hand (kernel directions, hidden symmetries) is in no element.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.moves import (
    Add,
    Amounts,
    Multiply,
    Permute,
    Shift,
    State,
    Transform,
    amounts,
    key_of,
)
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    import torch
    from torch import Tensor

AnyMove: TypeAlias = "Permute | Multiply | Transform | Shift | Add"
MATRIX_GROUPS = ("linear", "orthogonal", "centred")


class Element(Node):
    """Moves, the first of which acts first."""

    moves: tuple[AnyMove, ...] = ()

    def then(self, other: Element) -> Element:
        """Return this element followed by another."""
        return Element(moves=(*self.moves, *other.moves))

    def inverse(self) -> Element:
        return Element(moves=tuple(move.inverse() for move in reversed(self.moves)))

    def permutation(self, space: Atom, size: int) -> tuple[int, ...]:
        """Return what the element does to the indices of a space: new index i is the old one at place i."""
        order = tuple(range(size))
        for move in self.moves:
            if isinstance(move, Permute) and move.space == space:
                order = tuple(order[place] for place in move.order)
        return order


def act(derivation: Derivation, element: Element, state: State) -> State:
    """Return the state that an element makes of a state; the network computes the same with both."""
    for move in element.moves:
        state = move.apply(derivation, state)
    return state


# ------------------------------------------------------------------------------------------- one-parameter


class Direction(Node):
    """A solution of one of the systems: common to whole tensors, or (`space`) free at each index of a space."""

    solution: Mapping[Any, Any]
    space: Atom | None = None

    def amounts(self, d: Derivation, numbers: Tensor) -> Amounts:
        """Return the solution times a number, or for a space times one number for each index."""
        if self.space is None:
            return amounts(self.solution, d.spaces.sizes).times(float(numbers))
        vectors = {atom: float(number) * numbers for atom, number in self.solution.items()}
        return Amounts(joint={}, vectors=vectors)


def directions(d: Derivation, system: Unknowns) -> Iterator[Direction]:
    """Yield a basis of the solutions that move weights.

    Scales and signs at single indices of a GL or O wire are left out: they are in its matrices, or break them.
    """
    buffers = {c.name for c in d.related.carriers.values() if c.kind == "buffer"}
    alone = {name for buffer in buffers for name in system.joint_unknowns(buffer)}
    for solution in system.joint.basis():
        if not alone.issuperset(solution):
            yield Direction(solution=solution)
    for space, equations in system.vectors.items():
        if system is not d.shifts and d.groups.get(space) in MATRIX_GROUPS:
            continue
        for solution in equations.basis():
            yield Direction(solution=solution, space=space)


def unit(d: Derivation, direction: Direction, index: int = 1) -> Amounts:
    """Return the amounts of a direction alone; of one that is free at each index, at one index."""
    return amounts(direction.solution, d.spaces.sizes, index)


# ---------------------------------------------------------------------------------------------- at random


def random_element(group: SymmetryGroup, seed: int, spread: float = 0.3) -> Element:
    """Return a random element: uniform permutations, signs and rotations; the rest of size `spread`."""
    import torch

    d = group.derivation
    random = torch.Generator().manual_seed(seed)
    moves: list[AnyMove] = []
    for wire in group.wires:
        if wire.size > 1 and d.groups[wire.space] == "monomial":
            order: list[int] = torch.randperm(wire.size, generator=random).tolist()
            moves.append(Permute(space=wire.space, order=tuple(order)))
        elif wire.size > 1 and d.groups[wire.space] in MATRIX_GROUPS:
            moves.append(Transform(space=wire.space, matrix=random_matrix(d, wire.space, random, spread)))
    for system, sign in ((d.signs, True), (d.scales, False)):
        for direction in directions(d, system):
            given = direction.amounts(d, _numbers(d, direction, random, sign, spread))
            moves.append(Multiply(given=given, sign=sign))
    for direction in directions(d, d.shifts):
        moves.append(Shift(given=direction.amounts(d, _numbers(d, direction, random, False, spread))))
    return Element(moves=(*moves, *_forgotten(d, random, spread)))


def random_matrix(d: Derivation, space: Atom, random: torch.Generator, spread: float) -> Tensor:
    """Return a uniform rotation or reflection of a space; where GL acts, times a symmetric exponential."""
    import torch

    size, kind = d.spaces.sizes[space], d.groups[space]
    linear_algebra: Any = torch.linalg

    def normal(count: int) -> Tensor:
        return torch.randn(count, count, generator=random, dtype=torch.float64)

    inner = size - 1 if kind == "centred" else size
    turned, corner = linear_algebra.qr(normal(inner))
    turned = turned * corner.diagonal().sign()
    if kind == "centred":
        basis = centred_basis(size)
        return basis @ torch.block_diag(torch.ones(1, 1, dtype=torch.float64), turned) @ basis.T
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


def _numbers(
    d: Derivation, direction: Direction, random: torch.Generator, sign: bool, spread: float
) -> Tensor:
    import torch

    shape = () if direction.space is None else (d.spaces.sizes[direction.space],)
    if sign:
        return torch.randint(0, 2, shape, generator=random).double()
    return spread * torch.randn(shape, generator=random, dtype=torch.float64)


def _forgotten(d: Derivation, random: torch.Generator, spread: float) -> Iterator[Add]:
    import torch

    for item in d.forgotten:
        shape = [int(str(size)) for size in d.related.carriers[item.weight].shape]
        shape[item.axis] = 1
        drawn = torch.randn(shape, generator=random, dtype=torch.float64)
        yield Add(item=item, added=spread * drawn)


__all__ = ["Direction", "Element", "act", "directions", "key_of", "random_element", "unit"]
