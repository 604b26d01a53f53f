"""Teleportation: moving along the orbit of some weights to where the gradient is steeper.

All members of an orbit compute the same, but gradient descent is not the same from each. The scales of the group
and the stretches of its GL wires are chosen by ascent on the squared norm of the gradient (Zhao, Dehmamy, Walters
and Yu 2022, "Symmetry teleportation for accelerated optimization"), as far as logarithms of `reach`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.blocks import Coordinates
from nnspec.compiler.symmetry.canonical import exact
from nnspec.compiler.symmetry.elements import Element, act, scale_directions
from nnspec.compiler.symmetry.moves import Multiply, Transform, in_force, lowered
from nnspec.compiler.symmetry.places import State, key_of, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_DIFFERENCE = 1e-5  # of a number
_SHRINK = 0.5  # of the rate after a step that did not climb


class Teleported(Node):
    """The weights, the element that leads there, and the norms of the gradient on the way, the first that at the start."""

    state: State
    element: Element
    norms: tuple[float, ...]


def teleport(
    group: SymmetryGroup,
    state: State,
    loss: Callable[[State], Tensor],
    learned: tuple[str, ...],
    steps: int = 20,
    rate: float = 0.1,
    reach: float = 1.0,
) -> Teleported:
    """Return the weights moved along their orbit, in double precision.

    `loss` is a function of a state that can be differentiated twice; `learned` are the keys that its gradient is
    taken of. Each step changes the numbers of the element by `rate`, and is undone and made smaller where the
    gradient does not get steeper. No number gets larger than `reach`.
    """
    import torch

    orbit = _Orbit(group, exact(state))
    numbers = torch.zeros(orbit.count, dtype=torch.float64)
    norm, slope = orbit.climb(numbers, loss, learned)
    norms = [norm]
    for _ in range(steps if orbit.count else 0):
        length = float(slope.norm())
        if length == 0.0:
            break
        tried = (numbers + rate * slope / length).clamp(-reach, reach)
        higher, steeper = orbit.climb(tried, loss, learned)
        if higher > norms[-1]:
            numbers, slope = tried, steeper
            norms.append(higher)
        else:
            rate *= _SHRINK
    element = orbit.element(numbers)
    return Teleported(state=act(group.derivation, element, orbit.state), element=element, norms=tuple(norms))


class _Orbit:
    """The members of an orbit by the logarithms of scales and the symmetric generators of GL wires."""

    def __init__(self, group: SymmetryGroup, state: State) -> None:
        import torch

        d = self.d = group.derivation
        self.state = state
        self.given = in_force(d, state)
        self.is_remade = any(
            carrier.action.is_lifted and carrier.weight.maps[0].start is not None
            for carrier in d.related.carriers.values()
            if carrier.weight is not None and carrier.action is not None and carrier.weight.maps
        )
        self.scales = Coordinates(d, scale_directions(d))
        self.wires = [strand for strand in d.of_group("linear") if strand.size > 1]
        sizes = [strand.copies * strand.size**2 for strand in self.wires]
        self.count = self.scales.count + sum(sizes)
        self.sizes = [self.scales.count, *sizes]
        self.rows: dict[str, Tensor] = {}
        for name in stored(d, self.given):
            rows = self.scales.rows(name).tocoo()
            if rows.nnz:
                places = torch.stack([torch.from_numpy(rows.row).long(), torch.from_numpy(rows.col).long()])
                values = torch.from_numpy(rows.data)
                self.rows[name] = torch.sparse_coo_tensor(places, values, rows.shape, check_invariants=True)

    def matrices(self, parts: tuple[Tensor, ...]) -> list[Tensor]:
        import torch

        linear_algebra: Any = torch.linalg
        shaped = [part.view(s.copies, s.size, s.size) for part, s in zip(parts, self.wires, strict=True)]
        return [linear_algebra.matrix_exp((one + one.mT) / 2) for one in shaped]

    def element(self, numbers: Tensor) -> Element:
        import torch

        first, *parts = torch.split(numbers, self.sizes)
        stretches = [
            Transform(space=strand.space, matrix=matrix)
            for strand, matrix in zip(self.wires, self.matrices(tuple(parts)), strict=True)
        ]
        scales = [Multiply(given=self.scales.amounts(first), sign=False)] if self.scales.count else []
        return Element(moves=(*scales, *stretches))

    def member(self, numbers: Tensor) -> State:
        """Return a member as a function of its numbers that can be differentiated."""
        import torch

        first, *parts = torch.split(numbers, self.sizes)
        moved = dict(self.given)
        for name, rows in self.rows.items():
            own = moved[key_of(name)]
            field: Tensor = torch.sparse.mm(rows, first[:, None])
            moved[key_of(name)] = own * field.view(own.shape).exp()
        for strand, matrix in zip(self.wires, self.matrices(tuple(parts)), strict=True):
            moved = Transform(space=strand.space, matrix=matrix).apply(self.d, moved)
        return lowered(self.d, self.state, moved, self.given)

    def climb(
        self, numbers: Tensor, loss: Callable[[State], Tensor], learned: tuple[str, ...]
    ) -> tuple[float, Tensor]:
        """Return the norm of the gradient at a member, and how its logarithm changes with the numbers.

        That is by central differences where constraints make what is stored anew, of which nothing is known but values.
        """
        import torch

        if self.is_remade:
            height = self.height(numbers, loss, learned)
            ends = [
                [self.height(numbers + sign * one, loss, learned).log() for sign in (1, -1)]
                for one in _DIFFERENCE * torch.eye(self.count, dtype=torch.float64)
            ]
            slopes = [(above - below) / (2 * _DIFFERENCE) for above, below in ends]
            return float(height.detach()), torch.stack(slopes).detach()
        gradient: Any = torch.autograd.grad
        given = numbers.clone().requires_grad_()
        height = self.height(given, loss, learned)
        (steeper,) = gradient(height.log(), (given,), allow_unused=True)
        return float(height.detach()), torch.zeros_like(numbers) if steeper is None else steeper

    def height(self, given: Tensor, loss: Callable[[State], Tensor], learned: tuple[str, ...]) -> Tensor:
        """Return the norm of the gradient at a member."""
        import torch

        gradient: Any = torch.autograd.grad
        state = self.member(given)
        weights = [
            state[key] if state[key].requires_grad else state[key].clone().requires_grad_() for key in learned
        ]
        value = loss({**state, **dict(zip(learned, weights, strict=True))})
        slopes = gradient(value, weights, create_graph=True, allow_unused=True)
        return torch.stack([(slope**2).sum() for slope in slopes if slope is not None]).sum().sqrt()
