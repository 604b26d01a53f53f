"""Wires: the strands that weights have, with their names, groups and reasons."""

from __future__ import annotations

from math import log10, prod

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.record import Wire
from nnspec.compiler.symmetry.relate import SEALED
from nnspec.compiler.symmetry.spaces import Atom, Why
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.source import Span

_NONE = 1e-6  # log10 of an order that is 1
_SHOWN = 6  # digits of an order that is written in full


def names(derivation: Derivation) -> dict[Atom, str]:
    """Name each space after the first value that it flows through, else after a weight."""
    found: dict[Atom, str] = {}
    taken: set[str] = set()
    for space in derivation.used:
        carriers = [derivation.related.carriers[a.tensor] for a in derivation.classes[space]]
        values = [c.shown for c in carriers if c.kind == "value"] + [c.shown for c in carriers]
        name = next((shown for shown in values if shown not in taken), values[0])
        taken.add(name)
        found[space] = name
    return found


def wires(derivation: Derivation) -> tuple[Wire, ...]:
    called = names(derivation)
    shown = [space for space in derivation.used if _is_shown(derivation, space)]
    return tuple(_wire(derivation, derivation.by_space[space], called[space]) for space in shown)


def _is_shown(derivation: Derivation, space: Atom) -> bool:
    """Leave out what an operation fixes, such as the places of a kernel; the border, seals and gains are shown."""
    why = derivation.spaces.fixed.get(space)
    behind = {fold.behind for fold in derivation.folds}
    return why is None or why.stated is None or why.text == SEALED or space in behind


def _wire(derivation: Derivation, strand: Strand, name: str) -> Wire:
    space = strand.space
    why = derivation.spaces.fixed.get(space) or strand.kind.why
    span = _place(derivation, space, why)
    return Wire(
        name=name,
        size=strand.size,
        copies=strand.copies,
        group=label(derivation, strand),
        multiplicity=max(_multiplicity(derivation, strand, atom) for atom in derivation.weight_atoms[space]),
        reason=_reason(why) + _kept(derivation, strand),
        line=None if span is None else span.line,
        file=_file(derivation, span),
        is_fixed=strand.is_fixed,
        tensors=tuple(dict.fromkeys(atom.tensor for atom in derivation.classes[space])),
        weights=tuple(dict.fromkeys(atom.tensor for atom in derivation.weight_atoms[space])),
        space=space,
    )


def _multiplicity(derivation: Derivation, strand: Strand, atom: Atom) -> int:
    """Return in how many places of a weight's axis the same thing is done along a strand."""
    segment = derivation.spaces.layouts[atom.tensor, atom.axis][atom.segment]
    own = next((*atoms, *outer) for atoms, outer in strand.places if atoms[0] == atom)
    inside = prod(derivation.spaces.sizes[a] for a in own if (a.axis, a.segment) == (atom.axis, atom.segment))
    return prod(segment) // inside


def label(derivation: Derivation, strand: Strand) -> str:
    """Write the group that acts on a strand."""
    base = _label(derivation, strand)
    if derivation.patterned.intersection(strand.spaces):
        return _with_permutations(derivation, strand, base)
    if strand.copies == 1 or base == "1":
        return base
    return f"({base})^{strand.copies}" if " " in base or "^" in base else f"{base}^{strand.copies}"


def _with_permutations(derivation: Derivation, strand: Strand, base: str) -> str:
    """Write how many permutations patterns leave of a wire, beside those that matrices make: `Z2^6 . 72`."""
    if derivation.masked is None:
        return base
    kept = derivation.incidences.get(strand.space)
    digits = derivation.masked.log10_order(strand) - log10(1 if kept is None else kept.permutations)
    if digits < _NONE:
        return base
    count = f"{round(10**digits):,}" if digits < _SHOWN else f"10^{digits:.1f}"
    return f"{count} permutations" if base == "1" else f"{base} . {count}"


def _label(derivation: Derivation, strand: Strand) -> str:
    size, group = strand.size, derivation.groups[strand.space]
    if strand.space in derivation.incidences:
        return derivation.incidences[strand.space].label
    named = {
        "linear": f"GL({size})",
        "orthogonal": f"O({size})",
        "centred": f"O({size - 1})",
        "complex": "C*",
    }
    if group in named:
        return named[group]
    scale = _scalar_rank(derivation, derivation.own_scales, strand)
    sign = _scalar_rank(derivation, derivation.own_signs, strand)
    scalars = {(1, 1): "R*", (1, 0): "R>0", (0, 1): "Z2"}.get((min(scale, 1), min(sign, 1)))
    if group == "fixed" or size == 1:
        return "1" if scalars is None else scalars if size == 1 else f"{scalars}^{size}"
    return f"S_{size}" if scalars is None else f"{scalars} wr S_{size}"


def _scalar_rank(derivation: Derivation, system: Unknowns, strand: Strand) -> int:
    if strand.size > 1:
        return derivation.strand_rank(system, strand)
    places = derivation.classes[strand.space]
    live = [atom for atom in places if derivation.related.carriers[atom.tensor].live]
    return system.joint.rank([("k", atom.tensor) for atom in live])


def _kept(derivation: Derivation, strand: Strand) -> str:
    """Say what a mask leaves of the permutations of a wire."""
    neurons = derivation.neurons
    if neurons is None or not derivation.patterned.intersection(strand.spaces):
        return ""
    among = "" if len(neurons.spaces) == 1 else f" in all {'patterned' if neurons.shared else 'masked'} wires"
    bound = "" if neurons.exact else "at least "
    return f"; permutations that keep it{among}: {bound}{neurons.label} (by {neurons.how})"


def _reason(why: Why | None) -> str:
    if why is None:
        return "only linear maps see it"
    if why.stated is None:
        return why.text
    use = why.stated.use
    return f"{use.word} is {why.text}" if why.text.startswith("a") else f"{use.path}: {why.text}"


def _place(derivation: Derivation, space: Atom, why: Why | None) -> Span | None:
    """Return where the use stands that decided, else the border or the first value that has the space."""
    if why is not None and why.stated is not None:
        return why.stated.use.span
    carriers = [derivation.related.carriers[atom.tensor] for atom in derivation.classes[space]]
    border = {*derivation.related.inputs, *derivation.related.outputs}
    carriers.sort(key=lambda carrier: carrier.name not in border)
    return next((carrier.span for carrier in carriers if carrier.span is not None), None)


def _file(derivation: Derivation, span: Span | None) -> str | None:
    """Return the file of a place, None for the spec's own."""
    carriers = derivation.related.carriers
    own = next((carriers[name].span for name in derivation.related.inputs), None)
    if span is None or own is None or span.source.name == own.source.name:
        return None
    return span.source.name
