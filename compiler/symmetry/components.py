"""The component group: permutations, sign flips, and the two components of GL and O.

Orders are kept as logarithms; exact integers are given while they are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial, lgamma, log, log10, prod

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.neurons import NeuronGroup
from nnspec.compiler.symmetry.parallel import Parallel
from nnspec.compiler.symmetry.record import Factor
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.swaps import Branches
from nnspec.compiler.symmetry.wires import label, names

EXACT_BELOW = 300  # orders of fewer digits are given exactly


def factors(derivation: Derivation) -> tuple[Factor, ...]:
    """List the factors; a flip of a whole wire is counted with a wire that has flips, while there are."""
    found: list[Factor] = []
    called = names(derivation)
    flips = _Flips(derivation)
    sets = {item.strands[0].space: item for item in derivation.parallel}
    joined = {strand.space for item in sets.values() for strand in item.strands[1:]}
    for space in derivation.used:
        strand, group = derivation.by_space[space], derivation.groups[space]
        if group in ("linear", "orthogonal", "centred"):
            text = f"components of {label(derivation, strand)}"
            found.append(_factor(0, 1, strand.copies, text, called[space]))
            if derivation.turns_ones(strand):
                text = "sign of the vector of ones"
                found.append(_factor(0, 1, strand.copies, text, called[space]))
            continue
        if space in joined:
            continue
        if space in sets:
            found.append(_of_parallel(sets[space], flips, called))
            continue
        bits = flips.of(strand)
        kept = derivation.incidences.get(space)
        if kept is not None:
            bits -= 0 if kept.group == "centred" else sum(map(len, kept.blocks))
            for name, count in kept.components.items():
                text = f"components of {name}" + ("" if count == 1 else f"^{count}")
                found.append(_factor(0, 1, count, text, called[space]))
        permuted = strand.size if group == "monomial" and not derivation.patterned & {*strand.spaces} else 0
        if permuted > 1 or bits:
            text = _finite_label(permuted, strand.copies, bits)
            found.append(_factor(permuted, strand.copies, bits, text, called[space]))
    found += [_of_branches(item) for item in derivation.branches]
    neurons = derivation.neurons
    if neurons is not None and neurons.log10_lower:
        found += _of_neurons(neurons, prod(one.permutations for one in derivation.incidences.values()))
    left = flips.left + len(derivation.graded.signs)
    if left:
        found.append(_factor(0, 1, left, _finite_label(0, 1, left), None))
    return tuple(found)


def _of_parallel(item: Parallel, flips: _Flips, called: dict[Atom, str]) -> Factor:
    bits = sum(flips.of(strand) for strand in item.strands)
    wires = " and ".join(called[strand.space] for strand in item.strands)
    return _factor(item.size, 1, bits, _finite_label(item.size, 1, bits), wires)


def _of_neurons(neurons: NeuronGroup, inside: int) -> Iterator[Factor]:
    """Yield the permutations that keep patterns, but for those of which matrices make so many."""
    text = f"keeping {'patterns' if neurons.shared else 'masks'}: {neurons.label}"
    order = None if neurons.order is None else neurons.order // inside
    if inside > 1:
        text += f", of which {inside} are among the matrices"
    if order != 1:
        yield Factor(group=text, wire=None, order=order, log10_order=neurons.log10_lower - log10(inside))


def _of_branches(item: Branches) -> Factor:
    count = len(item.pieces)
    value = item.size * lgamma(count + 1) / log(10)
    each = f"S_{count}" if item.size == 1 else f"S_{count}^{item.size}"
    return Factor(
        group=f"branches that change places: {each}",
        wire=None,
        order=item.order if value < EXACT_BELOW else None,
        log10_order=value,
    )


class _Flips:
    """The sign flips, shared out among strands; those of GL and O are in their determinants."""

    def __init__(self, derivation: Derivation) -> None:
        system = derivation.own_signs
        self.common = derivation.joint_rank(system)
        self.counts: dict[frozenset[Atom], int] = {}
        sizes = derivation.spaces.sizes
        for space, atoms in derivation.weight_atoms.items():
            if atoms and sizes[space] > 1:
                self.counts[frozenset((space,))] = (sizes[space] - 1) * derivation.rank(system, (space,))
        for combination in system.compounds:
            self.counts[combination] = system.copies(combination) * derivation.rank(system, combination)

    def of(self, strand: Strand) -> int:
        """Return the flips along a strand and its copies, each counted once; a common one goes with them."""
        around = frozenset((*strand.spaces, *strand.outer))
        own = [c for c in self.counts if c <= around and c.intersection(strand.spaces)]
        bits = sum(self.counts.pop(combination) for combination in own)
        if bits and self.common:
            self.common -= 1
            bits += 1
        return bits

    @property
    def left(self) -> int:
        return self.common + sum(self.counts.values())


def _finite_label(permuted: int, copies: int, bits: int) -> str:
    flips = {0: "", 1: "Z2"}.get(bits, f"Z2^{bits}")
    if permuted <= 1:
        return flips
    if bits == permuted * copies:
        base = f"Z2 wr S_{permuted}"
        return base if copies == 1 else f"({base})^{copies}"
    moved = f"S_{permuted}" if copies == 1 else f"S_{permuted}^{copies}"
    return f"{flips} x {moved}" if flips else moved


def _factor(permuted: int, copies: int, bits: int, group: str, wire: str | None) -> Factor:
    """Return a factor of `copies` symmetric groups and `bits` flips."""
    value = copies * lgamma(permuted + 1) / log(10) + bits * log10(2)
    order = factorial(permuted) ** copies * 2**bits if value < EXACT_BELOW else None
    return Factor(group=group, wire=wire, order=order, log10_order=value)
