"""How many flat directions there are, by family.

Families: scale, shift, linear (GL), orthogonal, kernel (seen by narrow readers only) and unused (no output
depends on it). Directions are counted on the weights: one that moves none does not count.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import cached_property
from math import prod

from nnspec.compiler.symmetry.actions import scales
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.forgetting import forgotten_dimension
from nnspec.compiler.symmetry.freedom import free_spaces, orthogonal_dimension
from nnspec.compiler.symmetry.kinds import has_products, nonlinear_tensors
from nnspec.compiler.symmetry.shifts import shifts
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.unknowns import Unknowns

FAMILIES = ("scale", "shift", "linear", "orthogonal", "kernel", "unused")


def dimensions(derivation: Derivation) -> dict[str, int]:
    """Count the continuous directions by family."""
    counted = _Dimensions(derivation)
    found = counted.families()
    if derivation.unseen.complete:
        counted.correct(found, derivation.unseen.dimension)
    return found


class _Dimensions:
    def __init__(self, derivation: Derivation) -> None:
        self.derivation = derivation

    @cached_property
    def free(self) -> set[Atom]:
        """The GL spaces on which every matrix moves some weight."""
        return free_spaces(self.derivation.related, self.derivation.spaces, self.derivation.groups)

    def families(self) -> dict[str, int]:
        """Count dimensions by family, as far as they follow from the equations."""
        found: dict[str, int] = dict.fromkeys(FAMILIES, 0)
        found["scale"], found["linear"] = self.scale_and_linear()
        for space in self.derivation.used:
            if self.derivation.groups[space] in ("orthogonal", "centred"):
                acting = self.derivation.spaces.sizes[space] - (self.derivation.groups[space] == "centred")
                found["orthogonal"] += self.orthogonal(space, acting)
        found["shift"] = self.derivation.total_rank(self.derivation.shifts, self.shiftable())
        found["shift"] += forgotten_dimension(self.derivation.related, self.derivation.forgotten)
        found["unused"] = sum(
            prod(size for size in held.weight.shape if isinstance(size, int))
            for held in self.derivation.related.unused
        )
        return found

    def scale_and_linear(self) -> tuple[int, int]:
        """Count scales and GL; where it is not certain that GL moves weights freely, its diagonal only."""
        linear = 0
        for space in self.derivation.of_group("linear"):
            size = self.derivation.spaces.sizes[space]
            linear += size * size if space in self.free else size
        # A scalar of GL may also move what a product makes; then it is not alone, and may be any of the scales.
        multiplied = has_products(self.derivation.spaces)
        still: set[str] = set() if multiplied else nonlinear_tensors(self.derivation.spaces)
        lonely = self.linear_scales(still)
        return self.diagonal(self.derivation.scales) - self.scalars_of_linear(lonely), linear

    def scalars_of_linear(self, system: Unknowns) -> int:
        """Count the scales of whole GL wires, which are counted with GL."""
        return min(len(self.derivation.of_group("linear")), self.derivation.joint_rank(system))

    def orthogonal(self, space: Atom, acting: int) -> int:
        still = {s for s in self.derivation.used if self.derivation.groups[s] in ("fixed", "monomial")}
        trusted = self.derivation.unseen.plain
        return orthogonal_dimension(
            self.derivation.related, self.derivation.spaces, space, acting, trusted, still | self.free
        )

    def correct(self, families: dict[str, int], unseen: int) -> None:
        """Make the families that act within linear regions add up to what those leave unseen.

        Where a wire is wider than all it is made from and read by, part of GL(n) moves no weight.
        """
        dual = [
            s for s in self.derivation.of_group("orthogonal") if self.derivation.kinds[s].name == "linear"
        ]
        sizes = [self.derivation.spaces.sizes[space] for space in dual]
        families["orthogonal"] -= sum(self.orthogonal(space, n) for space, n in zip(dual, sizes, strict=True))
        shift = self.derivation.total_rank(
            shifts(self.derivation.spaces, self.derivation.unseen.border), self.shiftable()
        )
        inside = self.linear_scales(nonlinear_tensors(self.derivation.spaces) | self.derivation.unseen.border)
        scale = self.diagonal(inside) - self.scalars_of_linear(inside)
        rest = unseen - shift - scale
        turned = min(rest, sum(size * (size - 1) // 2 for size in sizes))
        full = sum(self.derivation.spaces.sizes[space] ** 2 for space in self.derivation.of_group("linear"))
        families["orthogonal"] += turned
        families["linear"] = min(full, rest - turned)
        families["kernel"] = rest - turned - families["linear"]

    def shiftable(self) -> list[str]:
        carriers = self.derivation.related.carriers.values()
        return [carrier.name for carrier in carriers if carrier.live or carrier.kind == "weight"]

    def diagonal(self, system: Unknowns) -> int:
        """Count scales of weights, but of GL wires only those of the whole wire."""
        return self.derivation.joint_rank(system) + sum(
            (self.derivation.spaces.sizes[space] - 1) * self.derivation.rank(system, space)
            for space in self.derivation.used
            if self.derivation.groups[space] != "linear"
        )

    def linear_scales(self, still: AbstractSet[str]) -> Unknowns:
        """Return the scales that leave some tensors where they are."""
        system = scales(self.derivation.spaces)
        for tensor in still:
            system.still(tensor)
        return system
