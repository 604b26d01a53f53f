"""Generators of the group as functions on state dicts.

In: a derived group. Out: generators, each of which takes a state dict of torch tensors (buffers too) and
gives one with the same outputs. Continuous ones take a parameter t, 0 being the identity. torch is imported
by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.derivation import MATRICES, Derivation
from nnspec.compiler.symmetry.elements import directions, unit
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.incidence import Incidence
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
from nnspec.compiler.symmetry.neurons import Rearrange
from nnspec.compiler.symmetry.places import State, key_of
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.strands import Strand
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
        return Generator(family=family, wire=wire, apply=lambda state, t: applied(d, (move(t),), state))

    for name, move in permutations(group):
        yield made("permutation", name, lambda t, move=move: move)
    for wire in group.wires:
        if wire.size > 1 and d.groups[wire.space] in MATRICES:
            family = "linear" if d.groups[wire.space] in ("linear", "complex") else "orthogonal"
            yield made(family, wire.name, _matrices(d, d.by_space[wire.space], seed))
            if d.turns_ones(d.by_space[wire.space]):
                yield made("sign", wire.name, _mirrored_ones(wire))
    for wire in group.wires:
        if wire.space in d.incidences and d.incidences[wire.space].beside:
            item = d.incidences[wire.space]
            yield made("linear" if item.group == "linear" else "orthogonal", wire.name, _mixed(item, seed))
    for name, given in (*_single(d, d.signs), *((None, given) for given in d.graded.signs)):
        yield made("sign", name, lambda t, given=given: Multiply(given=given.times(round(t)), sign=True))
    for name, given in (*_single(d, d.scales), *((None, given) for given in d.graded.scales)):
        yield made("scale", name, lambda t, given=given: Multiply(given=given.times(t), sign=False))
    for name, given in _single(d, d.shifts):
        yield made("shift", name, lambda t, given=given: Shift(given=given.times(t)))
    for item in d.forgotten:
        yield made("shift", item.weight, _forgetting(item, seed))


def permutations(group: SymmetryGroup) -> Iterator[tuple[str | None, AnyMove]]:
    """Yield generators of all permutations of units and of branches, with the names of the wires that have one."""
    d = group.derivation
    for wire in group.wires:
        if wire.size > 1 and d.groups[wire.space] == "monomial":
            for copy in range(wire.copies):
                for order in _cycle_and_swap(wire.size):
                    yield wire.name, Permute(space=wire.space, order=order, copy=copy)
    for item in d.parallel:
        for order in item.crossings():
            yield None, Exchange(item=item, order=order)
    for item in d.branches:
        for move in item.swaps():
            yield None, move
    if d.neurons is not None:
        for shuffle in d.neurons.generators:
            yield None, Rearrange(group=d.neurons, shuffle=shuffle)


def _cycle_and_swap(size: int) -> Iterator[tuple[int, ...]]:
    """Yield a cycle and an exchange of two, of which all permutations are products."""
    yield (*range(1, size), 0)
    if size > 2:
        yield (1, 0, *range(2, size))


def _matrices(d: Derivation, strand: Strand, seed: int) -> Callable[[float], Transform]:
    """exp(t X) for a random X of the Lie algebra of a strand, another one for each copy."""

    def move(t: float) -> Transform:
        import torch

        random = torch.Generator().manual_seed(seed)
        shape = (strand.copies, strand.size, strand.size)
        x = torch.randn(shape, generator=random, dtype=torch.float64) / strand.size
        if d.groups[strand.space] != "linear":
            x = x - x.mT
        if d.groups[strand.space] == "complex":
            scale = torch.randn(strand.copies, generator=random, dtype=torch.float64)
            x = x + scale[:, None, None] * torch.eye(2, dtype=torch.float64)
        if d.groups[strand.space] == "centred":
            keep = torch.eye(strand.size, dtype=torch.float64) - 1.0 / strand.size
            x = keep @ x @ keep
        linear_algebra: Any = torch.linalg
        return Transform(space=strand.space, matrix=linear_algebra.matrix_exp(t * x))

    return move


def _mixed(item: Incidence, seed: int) -> Callable[[float], Mix]:
    """exp(t X) for a random X that keeps masks."""

    def move(t: float) -> Mix:
        import torch

        return Mix(given=item, matrix=item.drawn(torch.Generator().manual_seed(seed), t))

    return move


def _mirrored_ones(wire: Wire) -> Callable[[float], Transform]:
    """The reflection along the vector of ones, at t = 1."""

    def move(t: float) -> Transform:
        import torch

        matrix = torch.eye(wire.size, dtype=torch.float64)
        return Transform(space=wire.space, matrix=matrix - 2.0 / wire.size if round(t) % 2 else matrix)

    return move


def _single(d: Derivation, system: Unknowns) -> Iterator[tuple[str | None, Amounts]]:
    """Yield solutions that move weights: common ones, and one index of one space at a time.

    Of a space on which permutations act, a few indices stand for all.
    """
    for direction in directions(d, system):
        if not direction.spaces:
            yield None, unit(d, direction)
            continue
        ranges = [
            range(size if space in d.spaces.fixed else min(size, 3))
            for space in direction.spaces
            for size in (d.spaces.sizes[space],)
        ]
        for indices in product(*ranges):
            yield direction.spaces[0].tensor, unit(d, direction, indices)


def _forgetting(item: Forgotten, seed: int) -> Callable[[float], Add]:
    def move(t: float) -> Add:
        import torch

        random = torch.Generator().manual_seed(seed)
        added = t * torch.randn(item.shape, generator=random, dtype=torch.float64)
        return Add(item=item, added=added)

    return move
