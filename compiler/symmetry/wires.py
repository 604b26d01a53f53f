"""Wires: the index spaces that weights have, with their names, groups and reasons."""

from __future__ import annotations

from math import prod

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.record import Wire
from nnspec.compiler.symmetry.spaces import Atom, Why
from nnspec.compiler.symmetry.unknowns import Unknowns


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
    return tuple(
        _wire(derivation, space, called[space]) for space in derivation.used if _is_shown(derivation, space)
    )


def _is_shown(derivation: Derivation, space: Atom) -> bool:
    """Leave out what an operation fixes, such as the places of a kernel; the border is shown."""
    why = derivation.spaces.fixed.get(space)
    return why is None or why.stated is None


def _wire(derivation: Derivation, space: Atom, name: str) -> Wire:
    size = derivation.spaces.sizes[space]
    why = derivation.spaces.fixed.get(space) or derivation.kinds[space].why
    atoms = derivation.classes[space]
    return Wire(
        name=name,
        size=size,
        group=label(derivation, space),
        multiplicity=max(_multiplicity(derivation, atom) for atom in derivation.weight_atoms[space]),
        reason=_reason(why),
        line=_line(derivation, space, why),
        is_fixed=space in derivation.spaces.fixed,
        tensors=tuple(dict.fromkeys(atom.tensor for atom in atoms)),
        weights=tuple(dict.fromkeys(atom.tensor for atom in derivation.weight_atoms[space])),
        space=space,
    )


def _multiplicity(derivation: Derivation, atom: Atom) -> int:
    """Return in how many places of a weight's axis the space stands."""
    segment = derivation.spaces.layouts[atom.tensor, atom.axis][atom.segment]
    return prod(segment) // segment[atom.factor]


def label(derivation: Derivation, space: Atom) -> str:
    """Write the group that acts on a space."""
    size, group = derivation.spaces.sizes[space], derivation.groups[space]
    named = {"linear": f"GL({size})", "orthogonal": f"O({size})", "centred": f"O({size - 1})"}
    if group in named:
        return named[group]
    scale = _scalar_rank(derivation, derivation.scales, space)
    sign = _scalar_rank(derivation, derivation.signs, space)
    scalars = {(1, 1): "R*", (1, 0): "R>0", (0, 1): "Z2"}.get((min(scale, 1), min(sign, 1)))
    if group == "fixed" or size == 1:
        return "1" if scalars is None else scalars if size == 1 else f"{scalars}^{size}"
    return f"S_{size}" if scalars is None else f"{scalars} wr S_{size}"


def _scalar_rank(derivation: Derivation, system: Unknowns, space: Atom) -> int:
    if derivation.spaces.sizes[space] > 1:
        return derivation.rank(system, space)
    live = [a for a in derivation.classes[space] if derivation.related.carriers[a.tensor].live]
    return system.joint.rank([("k", atom.tensor) for atom in live])


def _reason(why: Why | None) -> str:
    if why is None:
        return "only linear maps see it"
    if why.stated is None:
        return why.text
    use = why.stated.use
    return f"{use.word} is {why.text}" if why.text.startswith("a") else f"{use.path}: {why.text}"


def _line(derivation: Derivation, space: Atom, why: Why | None) -> int | None:
    """Return the line of the use that decided, else that of the border or of the first value that has the space."""
    if why is not None and why.stated is not None:
        span = why.stated.use.span
        return None if span is None else span.line
    carriers = [derivation.related.carriers[atom.tensor] for atom in derivation.classes[space]]
    border = {*derivation.related.inputs, *derivation.related.outputs}
    carriers.sort(key=lambda carrier: carrier.name not in border)
    return next((carrier.span.line for carrier in carriers if carrier.span is not None), None)
