"""The signs of single units of a wire: in which ways they may flip, at all places at once.

In: a derivation and one of its strands. Out: patterns of signs, and the moves that flip units by patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

from nnspec.compiler.symmetry.amounts import atoms_of
from nnspec.compiler.symmetry.blocks import along, wide
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.moves import AnyMove, Multiply
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand

Array: TypeAlias = Any


class UnitSigns:
    """The ways in which the signs of one unit of a wire may flip: `signs` at each place, by its first atom."""

    def __init__(self, d: Derivation, strand: Strand) -> None:
        self.d = d
        self.strand = strand
        self.basis = along(d, d.signs, strand) if d.groups[strand.space] in ("monomial", "fixed") else []
        known: dict[tuple[float, ...], tuple[int, ...]] = {}
        for uses in product((0, 1), repeat=len(self.basis)):
            signs = tuple(self.sign(uses, (*outer, *atoms)) for atoms, outer in strand.places)
            own = [
                sign
                for sign, (atoms, _) in zip(signs, strand.places, strict=True)
                if d.related.carriers[atoms[0].tensor].kind == "weight"
            ]
            known.setdefault(tuple(own), uses)
        self.uses = list(known.values())
        self.signs = [
            {atoms[0]: self.sign(uses, (*outer, *atoms)) for atoms, outer in strand.places}
            for uses in self.uses
        ]

    def sign(self, uses: tuple[int, ...], atoms: tuple[Atom, ...]) -> float:
        wanted = frozenset(atom for atom in atoms if self.d.spaces.sizes[atom] > 1)
        flips = sum(
            int(number)
            for use, one in zip(uses, self.basis, strict=True)
            for unknown, number in one.solution.items()
            if use and frozenset(atoms_of(unknown)) == wanted
        )
        return -1.0 if flips % 2 else 1.0

    def flips(self, picked: Array) -> Iterator[AnyMove]:
        """Yield the flips of the patterns picked for the units, [copies, size]."""
        import torch

        shape = [self.d.spaces.sizes[space] for space in wide(self.d, self.strand)]
        for number, one in enumerate(self.basis):
            used = torch.tensor([self.uses[p][number] for p in picked.flatten().tolist()])
            if bool(used.any()):
                yield Multiply(given=one.amounts(self.d, used.double().reshape(shape)), sign=True)
