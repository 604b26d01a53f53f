"""The component group: permutations, sign flips, and the two components of GL and O.

Orders are kept as logarithms; exact integers are given while they are small.
"""

from __future__ import annotations

from math import factorial, lgamma, log, log10

from nnspec.compiler.symmetry.actions import signs
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.record import Factor
from nnspec.compiler.symmetry.wires import label, names

EXACT_BELOW = 300  # orders of fewer digits are given exactly


def factors(derivation: Derivation) -> tuple[Factor, ...]:
    """List the factors; a flip of a whole wire is counted with a wire that has flips, while there are."""
    found: list[Factor] = []
    called = names(derivation)
    common = _common_signs(derivation)
    for space in derivation.used:
        size, group = derivation.spaces.sizes[space], derivation.groups[space]
        if group in ("linear", "orthogonal", "centred"):
            found.append(_factor(0, 1, f"components of {label(derivation, space)}", called[space]))
            continue
        bits = (size - 1) * derivation.rank(derivation.signs, space)
        if common and bits:
            bits, common = bits + 1, common - 1
        permuted = size if group == "monomial" else 0
        if permuted > 1 or bits:
            found.append(_factor(permuted, bits, _finite_label(permuted, bits), called[space]))
    if common:
        found.append(_factor(0, common, _finite_label(0, common), None))
    return tuple(found)


def _common_signs(derivation: Derivation) -> int:
    """Count the sign flips of whole wires; those of GL and O wires are in their determinant."""
    system = signs(derivation.spaces)
    for space in derivation.used:
        if derivation.groups[space] in ("linear", "orthogonal", "centred"):
            for atom in derivation.classes[space]:
                carrier = derivation.related.carriers[atom.tensor]
                if carrier.live:
                    for name in system.joint_unknowns(atom.tensor):
                        system.joint.zero(name)
    return derivation.joint_rank(system)


def _finite_label(permuted: int, bits: int) -> str:
    flips = {0: "", 1: "Z2"}.get(bits, f"Z2^{bits}")
    if permuted <= 1:
        return flips
    if bits == permuted:
        return f"Z2 wr S_{permuted}"
    return f"{flips} x S_{permuted}" if flips else f"S_{permuted}"


def _factor(permuted: int, bits: int, group: str, wire: str | None) -> Factor:
    value = lgamma(permuted + 1) / log(10) + bits * log10(2)
    order = factorial(permuted) * 2**bits if value < EXACT_BELOW else None
    return Factor(group=group, wire=wire, order=order, log10_order=value)
