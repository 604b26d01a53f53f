"""Permutations of units that masks leave, as the uses of a group need them: drawn, searched, and chosen by keys.

In: a derivation. The points are the units of all wires that masks touch, wire after wire; `PermutationGroup` is
what the graph of neurons leaves of their permutations.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.symmetry.neurons import NeuronGroup, Rearrange, Shuffle, own_space
from nnspec.compiler.symmetry.permutations import PermutationGroup
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.symmetry.derivation import Derivation

Array: TypeAlias = Any

_SAME = 1e-9  # relative difference below which two units are not told apart


def masked_of(d: Derivation) -> Masked | None:
    """Return the permutations that masks leave; None where they leave none."""
    return Masked(d, d.neurons) if d.neurons is not None and d.neurons.generators else None


class Masked:
    """The permutations that masks leave of the units of the wires that they touch."""

    def __init__(self, d: Derivation, neurons: NeuronGroup) -> None:
        import numpy as np

        self.d = d
        self.neurons = neurons
        sizes = [neurons.all_spaces.sizes[space] for space in neurons.spaces]
        self.starts = [0, *accumulate(sizes)]
        arrays: list[Array] = []
        for shuffle in neurons.generators:
            own = np.arange(self.starts[-1])
            for space, start in zip(neurons.spaces, self.starts, strict=False):
                if space in shuffle.orders:
                    own[start : start + len(shuffle.orders[space])] = start + np.array(shuffle.orders[space])
            arrays.append(own)
        self.group = PermutationGroup(arrays, self.starts[-1])
        self.own = [
            own_space(neurons, d.spaces, d.by_space, space) for space in neurons.spaces
        ]  # the derivation's space for each, if it has one

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what is not known, or not searched."""
        found: list[str] = []
        if self.group.left:
            found.append(
                f"permutations of {self.group.left} units that masks leave are too many, and not moved"
            )
        if not self.neurons.exact:
            found.append("permutations that masks leave are known in part alone")
        return tuple(found)

    def strands(self) -> list[Strand]:
        """Return the strands whose units are permuted."""
        found = [self.d.by_space[space] for space in self.own if space is not None]
        return [strand for place, strand in enumerate(found) if strand not in found[:place]]

    def log10_order(self, strand: Strand) -> float:
        """Return log10 of how many ways there are in which the units of a strand of one space are permuted."""
        return max((self._log10_order(space) for space in strand.spaces), default=0.0)

    def _log10_order(self, space: Atom) -> float:
        for own, start, end in zip(self.own, self.starts, self.starts[1:], strict=False):
            if own == space:
                moved = [one[start:end] - start for one in self.group.generators]
                return PermutationGroup(moved, end - start).log10_order
        return 0.0

    def move(self, member: Array) -> Rearrange:
        """Return a member of the group as a move of an element."""
        orders: dict[Atom, tuple[int, ...]] = {}
        for space, start, end in zip(self.neurons.spaces, self.starts, self.starts[1:], strict=False):
            own = tuple((member[start:end] - start).tolist())
            if own != tuple(range(len(own))):
                orders[space] = own
        return Rearrange(group=self.neurons, shuffle=Shuffle(orders=orders, flips={}))

    def drawn(self, seed: int) -> Rearrange:
        import numpy as np

        return self.move(self.group.drawn(np.random.default_rng(seed)))

    def apart(self) -> Iterator[Rearrange]:
        """Yield moves of which, with exchanges within classes, all others are products."""
        yield from map(self.move, self.group.apart())

    # ------------------------------------------------------------------------------------------------ keys

    def begun(self) -> dict[Atom, Tensor]:
        """Return numbers for the units of each strand, [copies, size], that orbits share."""
        import torch

        found = {s.space: torch.zeros(s.copies, s.size, dtype=torch.float64) for s in self.strands()}
        orbits = torch.from_numpy(self.group.orbits()).double()
        for space, start, end in zip(self.own, self.starts, self.starts[1:], strict=False):
            if space is not None:
                self._along(found, space).add_(_row(torch.frac(orbits[start:end] * 0.7548776662466927)))
        return found

    def unit_keys(self, keys: dict[Atom, Tensor]) -> Array:
        """Return one number for each point, of the numbers [copies, size] of strands."""
        import numpy as np

        found = np.zeros(self.starts[-1])
        for space, start, end in zip(self.own, self.starts, self.starts[1:], strict=False):
            if space is not None:
                found[start:end] = self._along(keys, space).sum(dim=(0, 2)).numpy()
        return found

    def tie(self, keys: Array) -> tuple[Strand, Tensor] | None:
        """Return marks for one of two units of an orbit that have the same number; None where all differ."""
        import numpy as np
        import torch

        orbits = self.group.orbits()
        order = np.lexsort((keys, orbits))
        same = (np.diff(keys[order]) <= _SAME * np.abs(keys).max()) & (np.diff(orbits[order]) == 0)
        for point in order[1:][same].tolist():
            number = next(n for n, end in enumerate(self.starts[1:]) if point < end)
            space = self.own[number]
            if space is not None:
                strand = self.d.by_space[space]
                marks = {strand.space: torch.zeros(strand.copies, strand.size, dtype=torch.float64)}
                self._along(marks, space)[:, point - self.starts[number]] = 1.0
                return strand, marks[strand.space]
        return None

    def _along(self, arrays: dict[Atom, Tensor], space: Atom) -> Tensor:
        """Return a view [before, units, behind] of a strand's numbers along one of its spaces."""
        strand = self.d.by_space[space]
        sizes = [self.d.spaces.sizes[one] for one in strand.spaces]
        place = strand.spaces.index(space)
        before = strand.copies
        for size in sizes[:place]:
            before *= size
        return arrays[strand.space].view(before, sizes[place], -1)


def _row(numbers: Tensor) -> Tensor:
    return numbers[None, :, None]
