"""How many flat directions there are, by family.

Families: linear (GL, and complex numbers on planes), orthogonal, scale, shift, kernel (seen by narrow readers
only) and unused (no output depends on it). What a constraint stores beyond the numbers that say which weight it
is belongs to none of them, and is counted apart. Directions are counted on the weights: one that moves none does not
count. Of a small network the tangents at random weights are counted one by one, which is exact whatever
overlaps; of a large one the families are counted by their equations, and only what certainly moves weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.forgetting import forgotten_dimension
from nnspec.compiler.symmetry.freedom import orthogonal_dimension, pinned_strands

FAMILIES = ("linear", "orthogonal", "scale", "shift", "kernel", "unused")


def dimensions(derivation: Derivation) -> dict[str, int]:
    """Count the continuous directions by family."""
    if derivation.is_small:
        from nnspec.compiler.symmetry.tangents import tangent_dimensions

        found = tangent_dimensions(derivation)
    else:
        found = by_equations(derivation)
    unused = sum(
        prod(size for size in held.weight.shape if isinstance(size, int))
        for held in derivation.related.unused
    )
    found["unused"] = unused
    return {name: found.get(name, 0) for name in FAMILIES}


def redundant_numbers(derivation: Derivation) -> int:
    """Count the stored numbers of constrained weights beyond those that say which weight it is."""
    return sum(weight.stored - weight.free for weight in redundant_weights(derivation))


def redundant_weights(derivation: Derivation) -> Iterator[ConstrainedWeight]:
    """Yield the weights that small steps move and that a map of a constraint makes of what is stored."""
    for weight in constrained_weights(derivation.graph):
        carrier = derivation.related.carriers.get(weight.path)
        if carrier is None or carrier.weight is None or carrier.action is None:
            continue
        if carrier.weight.maps and carrier.action.moves:
            yield weight


def shiftable(derivation: Derivation) -> list[str]:
    """Return the tensors on which shifts act."""
    carriers = derivation.related.carriers.values()
    return [carrier.name for carrier in carriers if carrier.live or carrier.kind == "weight"]


def by_equations(derivation: Derivation) -> dict[str, int]:
    pinned = pinned_strands(derivation)
    linear = orthogonal = 0
    for strand in derivation.of_group("linear"):
        linear += strand.copies * (strand.size**2 if strand.space in pinned else strand.size)
    for strand in derivation.of_group("complex"):
        linear += strand.copies * (2 if strand.space in pinned else 1)
    for strand in derivation.of_group("orthogonal", "centred"):
        acting = strand.size - (derivation.groups[strand.space] == "centred")
        orthogonal += strand.copies * orthogonal_dimension(derivation, strand, acting, pinned)
    for space, item in derivation.incidences.items():
        acting = item.beside if space in pinned else 0
        linear, orthogonal = (
            (linear + acting, orthogonal) if item.group == "linear" else (linear, orthogonal + acting)
        )
    system = derivation.own_scales
    shift = derivation.shifts.total_rank(shiftable(derivation))
    return {
        "linear": linear,
        "orthogonal": orthogonal,
        "scale": system.total_rank(derivation.weights),
        "shift": shift
        + forgotten_dimension(derivation.related, derivation.forgotten, derivation.unseen.alone),
    }
