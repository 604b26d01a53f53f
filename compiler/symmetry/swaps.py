"""Exchanges of branches: what branches hold that may change places, and the moves that do it.

In: what branches store, found by `branches`. A branch holds pieces of tensors, in one order for all of a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import factorial
from typing import TYPE_CHECKING

from nnspec.compiler.ir import state_key
from nnspec.compiler.symmetry.pieces import Piece
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.symmetry.derivation import Derivation
    from nnspec.compiler.symmetry.elements import Direction


class Branches(Node):
    """Branches in the place of each other: by branch, the pieces of tensors that it stores, in one order.

    `axes` are those along which an index may be exchanged by itself, one for each piece; None: whole branches are.
    """

    pieces: tuple[tuple[Piece, ...], ...]
    leaves: tuple[str, ...]  # the values at their ends
    axes: tuple[int, ...] | None
    size: int  # indices that are exchanged apart
    behind: Direction | None = None  # flips of single indices that an exchange asks for

    @property
    def order(self) -> int:
        return factorial(len(self.pieces)) ** self.size

    def swaps(self) -> Iterator[Swap]:
        """Yield moves that, with permutations of the axis, make all others."""
        count = len(self.pieces)
        for other in range(1, count):
            order = tuple({0: other, other: 0}.get(place, place) for place in range(count))
            for index in range(self.size):
                yield Swap(item=self, order=order, index=index)


class Swap(Node):
    """A move: branch i takes what branch `order[i]` held, all of it or what it held at one index of the axes."""

    item: Branches
    order: tuple[int, ...]
    index: int = 0

    def apply(self, d: Derivation, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        changed = dict(state)
        for key in {state_key(piece.tensor, "") for pieces in self.item.pieces for piece in pieces}:
            changed[key] = state[key].clone()
        for place, pieces in enumerate(zip(*self.item.pieces, strict=True)):
            axis = None if self.item.axes is None else self.item.axes[place]
            for piece, other in zip(pieces, self.order, strict=True):
                piece.of(changed, axis, self.index).copy_(pieces[other].of(state, axis, self.index))
        if self.item.behind is None or self.order == (0, 1):  # a difference has two terms
            return changed
        from nnspec.compiler.symmetry.elements import unit
        from nnspec.compiler.symmetry.moves import Multiply

        given = unit(d, self.item.behind, (self.index,))
        return Multiply(given=given, sign=True, is_centred=True).apply(d, changed)

    def inverse(self) -> Swap:
        return self.replace(order=inverted(self.order))


def inverted(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the inverse of a permutation."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))
