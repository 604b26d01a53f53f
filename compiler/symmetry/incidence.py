"""Matrices that keep masks: what is left of GL(n), or of rotations, on a wire that masked weights have.

In: a derivation. A matrix D acts on the rows of a masked weight W as D W. That has no entry where W may have none,
whatever the others are, just if D[i, a] is zero unless row i may have entries wherever row a has; on columns alike, with
D inverse in its place. So over all masked weights the places of D are a preorder of units, and the matrices with entries
there are closed under products and inverses: the incidence algebra of the preorder (G.-C. Rota, On the foundations
of combinatorial theory I, 1964). Below the diagonal of a triangular mask these are the triangular matrices; units that
every mask treats alike form a class, on which all of GL acts.
"""

from __future__ import annotations

from collections import Counter
from math import factorial, prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.kinds import kinds
from nnspec.compiler.symmetry.neurons import NeuronGroup, own_space
from nnspec.compiler.symmetry.patterns import Array
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nnspec.compiler.symmetry.derivation import Derivation

MOST_WORK = (
    10**10
)  # multiplications to compare the units of a wire with each other; of more, nothing is derived


class Incidence(Node):
    """The matrices of a wire that keep its masks: those with entries at `places` alone, the diagonal among them."""

    space: Atom
    group: str  # "linear", "orthogonal" or "centred": what acts but for masks
    places: Array  # [n, n] of truth values
    classes: tuple[tuple[int, ...], ...]  # units that every mask treats alike
    masks: dict[str, Array]  # of the masked weights on the wire: which entries there are

    @property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """The classes of several units."""
        return tuple(units for units in self.classes if len(units) > 1)

    @property
    def beside(self) -> int:
        """How many dimensions there are beside the diagonal of GL, or of rotations in all."""
        if self.group == "linear":
            return int(self.places.sum()) - len(self.places)
        less = 1 if self.group == "centred" else 0
        return sum((len(own) - less) * (len(own) - less - 1) // 2 for own in self.classes)

    @property
    def permutations(self) -> int:
        """How many permutations of units are among the matrices."""
        return prod(factorial(len(units)) for units in self.classes)

    @property
    def components(self) -> Counter[str]:
        """The groups of the blocks, by name, and how often each stands."""
        less = 1 if self.group == "centred" else 0
        named = "GL" if self.group == "linear" else "O"
        return Counter(f"{named}({len(units) - less})" for units in self.blocks)

    @property
    def label(self) -> str:
        """Write the group: those of the classes, then the matrices between classes, which are a normal subgroup."""
        alone = len(self.classes) - len(self.blocks)
        single = {"linear": "R*", "orthogonal": "Z2", "centred": ""}[self.group]
        parts = [_power(name, count) for name, count in self.components.items()]
        parts += [_power(single, alone)] if alone and single else []
        inside = sum(len(units) * (len(units) - 1) for units in self.classes)
        between = self.beside - inside if self.group == "linear" else 0
        shown = " x ".join(parts) or "1"
        return (
            shown
            if not between
            else f"({shown}) . R^{between}"
            if len(parts) > 1
            else f"{shown} . R^{between}"
        )

    def basis(self) -> list[Tensor]:
        """Return a basis of the Lie algebra, but for the diagonal of GL, whose entries are scales."""
        import torch

        size = len(self.places)
        found: list[Tensor] = []
        for row, column in zip(*self.places.nonzero(), strict=True):
            if row == column or (self.group != "linear" and row > column):
                continue
            unit = torch.zeros(size, size, dtype=torch.float64)
            unit[row, column] = 1.0
            found.append(unit if self.group == "linear" else self._turn(unit - unit.T))
        return found

    def _turn(self, turn: Tensor) -> Tensor:
        """Return an antisymmetric matrix made to forget the ones of each class, where these are held."""
        import torch

        if self.group != "centred":
            return turn
        keep = torch.eye(len(turn), dtype=turn.dtype)
        for units in self.classes:
            index = torch.tensor(units)
            keep[index[:, None], index] -= 1.0 / len(units)
        return keep @ turn @ keep

    def drawn(self, random: torch.Generator, spread: float) -> Tensor:
        """Return the exponential of a random member of the Lie algebra."""
        import torch

        basis = torch.stack(self.basis())
        numbers = torch.randn(len(basis), 1, 1, generator=random, dtype=torch.float64)
        linear_algebra: Any = torch.linalg
        return linear_algebra.matrix_exp(spread * (numbers * basis).sum(dim=0) / len(self.places) ** 0.5)


def incidences(d: Derivation) -> dict[Atom, Incidence]:
    """Return what masks leave of the matrices on each wire, by its space, where that is more than a diagonal."""
    neurons = d.neurons
    if neurons is None or not neurons.masks:
        return {}
    found: dict[Atom, Incidence] = {}
    free = kinds(neurons.all_spaces)
    for every in neurons.spaces:
        space = own_space(neurons, d.spaces, d.by_space, every)
        if space is None:
            continue
        strand = d.by_space[space]
        group = d.matrices_of(strand, free[every].name)
        if strand.copies == 1 and len(strand.spaces) == 1 and group in ("linear", "orthogonal", "centred"):
            made = _incidence(d, neurons, strand, group)
            if made is not None and (made.beside or made.blocks):
                found[space] = made
    return found


def _incidence(d: Derivation, neurons: NeuronGroup, strand: Strand, group: str) -> Incidence | None:
    """Return the matrices that keep all masks of a wire; None where another constraint has a say, or it is too large."""
    import numpy as np

    places = np.ones((strand.size, strand.size), dtype=bool)
    masks: dict[str, Array] = {}
    for atoms, outer in strand.places:
        name = atoms[0].tensor
        if name in neurons.shared:
            return None
        if name not in neurons.masks:
            continue
        if not neurons.all_spaces.related.carriers[name].is_free:
            return None
        kept = neurons.masks[name] != 0
        if strand.size * kept.size > MOST_WORK:
            return None
        masks[name] = kept
        within = _within(_rows(d, strand, kept, atoms, outer))
        places &= within if d.orientations.of(atoms[0]) > 0 or group != "linear" else within.T
    if group != "linear":
        places &= places.T
    return Incidence(space=strand.space, group=group, places=places, classes=_classes(places), masks=masks)


def _rows(
    d: Derivation, strand: Strand, kept: Array, atoms: tuple[Atom, ...], outer: tuple[Atom, ...]
) -> Array:
    import numpy as np
    import torch

    from nnspec.compiler.symmetry.blocks import seen

    values = torch.from_numpy(np.ascontiguousarray(kept).astype(np.float32))
    return seen(d, strand, values, atoms, outer)[0].numpy()


def _within(rows: Array) -> Array:
    """Return for units i and a whether i has entries wherever a has."""
    return (1.0 - rows) @ rows.T < 0.5


def _classes(places: Array) -> tuple[tuple[int, ...], ...]:
    mutual = places & places.T
    found: dict[int, list[int]] = {}
    for unit, first in enumerate(mutual.argmax(axis=1).tolist()):
        found.setdefault(first, []).append(unit)
    return tuple(tuple(units) for units in found.values())


def _power(name: str, count: int) -> str:
    return name if count == 1 else f"{name}^{count}"
