"""What kind of group may act on each index space: it shrinks with what the wire passes through.

"linear": only linear maps see it, any invertible matrix may act. "complex": its two indices are the
coordinates of a plane that is turned, and complex numbers act. "orthogonal": a root-mean-square norm sees
it, too. "centred": also a norm that subtracts the mean, so the vector of ones stays. "monomial": functions of
entries see it; permutations, with the scales and signs that the systems of equations leave. Nothing here
knows an operation by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Move,
    Normalize,
    Part,
    Planes,
    Softmax,
    Sum,
)
from nnspec.compiler.symmetry.relate import Stated
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Spaces, Why
from nnspec.dsl.node import Node

LADDER = ("linear", "complex", "orthogonal", "centred", "monomial")


class Kind(Node):
    """The kind of a space, and what decided it (None: nothing lowered it)."""

    name: str
    why: Why | None


def kinds(spaces: Spaces) -> dict[Atom, Kind]:
    """Return the kind of every space."""
    found = {space: Kind(name="linear", why=None) for space in spaces.classes}
    for space in found:
        # GL(1) is a scale with its sign: those have equations of their own, which know of sums to one number.
        if spaces.sizes[space] == 1:
            found[space] = Kind(name="monomial", why=Why(stated=None, text="it is a single number"))

    def lower(axis: AxisOf, name: str, stated: Stated | None, text: str) -> None:
        for segment in spaces.atoms(axis):
            for atom in segment:
                space = spaces.space(atom)
                if LADDER.index(name) > LADDER.index(found[space].name):
                    found[space] = Kind(name=name, why=Why(stated=stated, text=text))

    for carrier in spaces.related.carriers.values():
        if carrier.kind == "weight" and not carrier.is_free:
            names = " & ".join(carrier.action.names) if carrier.action else ""
            matrices = carrier.action.matrices if carrier.action else "none"
            kept = "monomial" if matrices == "none" else matrices
            for axis in range(len(carrier.shape)):
                lower((carrier.name, axis), kept, None, f"the constraint {names}")
    for stated in spaces.related.stated:
        for axis, name, text in _lowered(spaces, stated):
            lower(axis, name, stated, text)
    for stated in spaces.related.stated:
        if isinstance(stated.relation, Planes):
            _turned(spaces, stated, stated.relation, found)
    return found


def _turned(spaces: Spaces, stated: Stated, relation: Planes, found: dict[Atom, Kind]) -> None:
    """Complex numbers act on planes that only linear maps see otherwise, and nothing on others."""
    why = Why(stated=stated, text="planes are turned")
    for segment in spaces.atoms((relation.input, relation.plane)):
        for space in map(spaces.space, segment):
            if found[space].name in ("linear", "complex") and len(segment) == 1 and spaces.sizes[space] == 2:
                found[space] = Kind(name="complex", why=why)
            else:
                spaces.fixed.setdefault(space, why)


def nonlinear_tensors(spaces: Spaces) -> set[str]:
    """Return the live tensors that something other than a linear map reads or makes."""
    found = set(spaces.related.inputs) | set(spaces.related.outputs)
    for stated in spaces.related.stated:
        match stated.relation:
            case Elementwise():
                found.update(t.tensor for t in (*stated.relation.terms, stated.relation.output))
            case Normalize() | Softmax() | Planes():
                found.update((stated.relation.input, stated.relation.output))
            case Contract() if _is_product(spaces, stated.relation):
                found.update(t.tensor for t in (*stated.relation.terms, stated.relation.output))
            case _:
                pass
    return found


def has_products(spaces: Spaces) -> bool:
    """Return whether values that depend on the inputs are multiplied with each other."""
    contracts = (stated.relation for stated in spaces.related.stated)
    return any(isinstance(relation, Contract) and _is_product(spaces, relation) for relation in contracts)


def _is_product(spaces: Spaces, relation: Contract) -> bool:
    carriers = spaces.related.carriers
    return sum(carriers[term.tensor].live for term in relation.terms) > 1 or any(
        power != 1 for power in relation.powers
    )


def _lowered(spaces: Spaces, stated: Stated) -> Iterator[tuple[AxisOf, str, str]]:
    """Yield (axis, kind, why) for what a relation does not let every matrix do."""
    shape = spaces.related.carriers
    relation = stated.relation
    match relation:
        case Elementwise():
            for term in (*relation.terms, relation.output):
                for axis in range(len(term.labels)):
                    yield (term.tensor, axis), "monomial", "a function of entries"
        case Normalize():
            name = {"orthogonal": "orthogonal", "centred": "centred"}.get(relation.group, "monomial")
            for tensor in (relation.input, relation.output):
                for axis in range(len(shape[tensor].shape)):
                    inside = axis in relation.axes
                    yield (tensor, axis), name if inside else "monomial", "a norm"
        case Softmax():
            for tensor in (relation.input, relation.output):
                for axis in range(len(shape[tensor].shape)):
                    yield (tensor, axis), "monomial", "a softmax"
        case Sum():
            for term in (*relation.terms, relation.output):
                for axis, label in enumerate(term.labels):
                    everywhere = all(label in other.labels for other in (*relation.terms, relation.output))
                    if not everywhere:
                        yield (term.tensor, axis), "monomial", "a sum with a constant along it"
        case Contract():
            yield from _contracted(relation, None if stated.gain is None else stated.gain.label)
        case Part() | Move():
            return
        case _:
            return


def _contracted(relation: Contract, folded: str | None) -> Iterator[tuple[AxisOf, str, str]]:
    powers = relation.powers or (1,) * len(relation.terms)
    for term in (*relation.terms, relation.output, *(() if relation.bias is None else (relation.bias,))):
        for axis, label in enumerate(term.labels):
            if label == folded:
                continue
            having = sum(label in other.labels for other in relation.terms)
            summed = label not in relation.output.labels
            if having > 1 and not summed:
                yield (term.tensor, axis), "monomial", "a product of entries"
            elif having == 1 and summed:
                yield (term.tensor, axis), "monomial", "a sum over it"
            elif relation.bias is not None and not summed and label not in relation.bias.labels:
                yield (term.tensor, axis), "monomial", "a bias that is constant along it"
    pairs = zip(relation.terms, powers, strict=True)
    inverted = {label for term, power in pairs if power != 1 for label in term.labels}
    for term in (*relation.terms, relation.output):
        for axis, label in enumerate(term.labels):
            if label in inverted:
                yield (term.tensor, axis), "monomial", "a quotient of entries"
