"""Generators of the group as functions on state dicts.

In: a derived group. Out: generators, each of which takes a state dict of torch tensors (buffers too) and
gives one with the same outputs. Continuous ones take a parameter t, 0 being the identity. torch is imported
by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import MATRIX_GROUPS, AnyMove, directions, unit
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.moves import Add, Amounts, Multiply, Permute, Shift, State, Transform, key_of
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.node import Node

__all__ = ["Generator", "State", "generators", "key_of"]


class Generator(Node):
    """An element of the group, or a one-parameter family of them (t = 0 is the identity)."""

    family: str  # permutation, sign, scale, shift, linear, orthogonal
    wire: str | None
    apply: Callable[[State, float], State]

    def __call__(self, state: State, t: float = 1.0) -> State:
        return self.apply(state, t)


def generators(group: SymmetryGroup, seed: int = 0) -> Iterator[Generator]:
    """Yield generators of every family that was derived, those of GL and O wires drawn from `seed`."""
    d = group.derivation

    def made(family: str, wire: str | None, move: Callable[[float], AnyMove]) -> Generator:
        return Generator(family=family, wire=wire, apply=lambda state, t: move(t).apply(d, state))

    for wire in group.wires:
        if wire.size > 1 and d.groups[wire.space] == "monomial":
            yield made("permutation", wire.name, _permutation(wire))
        elif wire.size > 1 and d.groups[wire.space] in MATRIX_GROUPS:
            family = "linear" if d.groups[wire.space] == "linear" else "orthogonal"
            yield made(family, wire.name, _matrices(d, wire, seed))
    for name, given in _single(d, d.signs):
        yield made("sign", name, lambda t, given=given: Multiply(given=given.times(round(t)), sign=True))
    for name, given in _single(d, d.scales):
        yield made("scale", name, lambda t, given=given: Multiply(given=given.times(t), sign=False))
    for name, given in _single(d, d.shifts):
        yield made("shift", name, lambda t, given=given: Shift(given=given.times(t)))
    for item in d.forgotten:
        yield made("shift", item.weight, _forgetting(d, item, seed))


def _permutation(wire: Wire) -> Callable[[float], Permute]:
    """A cyclic permutation of the indices after two of them are swapped; t counts how often."""

    def move(t: float) -> Permute:
        order = list(range(wire.size))
        for _ in range(round(t)):
            order = [*order[1:2], *order[2:], *order[:1]]
        return Permute(space=wire.space, order=tuple(order))

    return move


def _matrices(d: Derivation, wire: Wire, seed: int) -> Callable[[float], Transform]:
    """exp(t X) for a random X of the Lie algebra of a GL or O wire."""

    def move(t: float) -> Transform:
        import torch

        random = torch.Generator().manual_seed(seed)
        x = torch.randn(wire.size, wire.size, generator=random, dtype=torch.float64) / wire.size
        if d.groups[wire.space] != "linear":
            x = x - x.T
        if d.groups[wire.space] == "centred":
            keep = torch.eye(wire.size, dtype=torch.float64) - 1.0 / wire.size
            x = keep @ x @ keep
        linear_algebra: Any = torch.linalg
        return Transform(space=wire.space, matrix=linear_algebra.matrix_exp(t * x))

    return move


def _single(d: Derivation, system: Unknowns) -> Iterator[tuple[str | None, Amounts]]:
    """Yield solutions that move weights: common ones, and one index of one space at a time.

    Of a space on which permutations act, a few indices stand for all.
    """
    for direction in directions(d, system):
        if direction.space is None:
            yield None, unit(d, direction)
            continue
        size = d.spaces.sizes[direction.space]
        for index in range(size if direction.space in d.spaces.fixed else min(size, 3)):
            yield direction.space.tensor, unit(d, direction, index)


def _forgetting(d: Derivation, item: Forgotten, seed: int) -> Callable[[float], Add]:
    def move(t: float) -> Add:
        import torch

        random = torch.Generator().manual_seed(seed)
        shape = [int(str(size)) for size in d.related.carriers[item.weight].shape]
        shape[item.axis] = 1
        added = t * torch.randn(shape, generator=random, dtype=torch.float64)
        return Add(item=item, added=added)

    return move
