"""The wires of attention on which whole matrices act: between queries and keys, and between values and read-out.

In: a derived group. What is found is a softmax, the product of two values that it is made from, and the product that
its output enters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.relations import Contract, Relation, Softmax, Term
from nnspec.compiler.symmetry.generators import key_of
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.relate import Related, flow
from nnspec.compiler.symmetry.spaces import Atom

if TYPE_CHECKING:
    from torch import Tensor

_RANK = 1e-9  # of the largest singular value


def gauge_wires(group: SymmetryGroup) -> tuple[str, ...]:
    """Return the names of the wires of attention on which GL, or complex scales, act, and of their heads."""
    d = group.derivation
    spaces = set(_inner(group))
    inner = [
        d.by_space[wire.space]
        for wire in group.wires
        if d.groups[wire.space] in ("linear", "complex")
        and spaces.intersection(d.by_space[wire.space].spaces)
    ]
    covered = {space for strand in inner for space in (*strand.spaces, *map(d.spaces.space, strand.outer))}
    return tuple(wire.name for wire in group.wires if covered.intersection(d.by_space[wire.space].spaces))


def _inner(group: SymmetryGroup) -> Iterator[Atom]:
    """Yield the spaces summed over in the product before a softmax, and those carried through the one behind."""
    d = group.derivation
    made, read = _passages(d.related)
    products = [stated.relation for stated in d.related.stated if _live(d.related, stated.relation) > 1]
    before: set[str] = set()
    behind: set[str] = set()
    for stated in d.related.stated:
        if isinstance(stated.relation, Softmax):
            before |= _reached(made, stated.relation.input)
            behind |= _reached(read, stated.relation.output)
    for product in products:
        if isinstance(product, Contract):
            yield from _carried(group, product, before, behind)


def _carried(group: SymmetryGroup, product: Contract, before: set[str], behind: set[str]) -> Iterator[Atom]:
    """Yield the spaces that a product sums over if it leads to a softmax, those beside its shares if it has such."""
    summed = {label for term in product.terms for label in term.labels} - set(product.output.labels)
    if product.output.tensor in before:
        for term in product.terms:
            yield from _spaces(group, term, summed)
    shares = {label for term in product.terms if term.tensor in behind for label in term.labels}
    for term in product.terms:
        if shares and term.tensor not in behind:
            yield from _spaces(group, term, set(term.labels) - shares)


def _spaces(group: SymmetryGroup, term: Term, labels: set[str]) -> Iterator[Atom]:
    spaces = group.derivation.spaces
    for axis, label in enumerate(term.labels):
        if label in labels:
            yield from (spaces.space(a) for segment in spaces.atoms((term.tensor, axis)) for a in segment)


def _live(related: Related, relation: Relation) -> int:
    return sum(related.carriers[name].live for name in flow(relation)[0])


def _passages(related: Related) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return by tensor what it is made from without a product of values, and what is made from it so."""
    made: dict[str, list[str]] = {}
    read: dict[str, list[str]] = {}
    for stated in related.stated:
        sources, targets = flow(stated.relation)
        if _live(related, stated.relation) == 1 and not isinstance(stated.relation, Softmax):
            (source,) = (name for name in sources if related.carriers[name].live)
            for target in targets:
                made.setdefault(target, []).append(source)
                read.setdefault(source, []).append(target)
    return made, read


def _reached(passages: Mapping[str, list[str]], tensor: str) -> set[str]:
    found, waiting = {tensor}, [tensor]
    while waiting:
        for other in passages.get(waiting.pop(), ()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def short_of_rank(group: SymmetryGroup, wires: tuple[str, ...], state: Mapping[str, Tensor]) -> Iterator[str]:
    """Name weights of more than one axis that are not of full rank along one of these wires."""
    import torch

    d = group.derivation
    for wire in group.wires:
        if wire.name not in wires:
            continue
        for atoms, _ in d.by_space[wire.space].places:
            carrier = d.related.carriers[atoms[0].tensor]
            key = key_of(carrier.name)
            if carrier.kind != "weight" or len(carrier.shape) < 2 or key not in state:
                continue
            own = state[key].detach().cpu().double().movedim(atoms[0].axis, 0)
            linear_algebra: Any = torch.linalg
            values: list[float] = linear_algebra.svdvals(own.reshape(own.shape[0], -1)).tolist()
            if sum(value > _RANK * values[0] for value in values) < min(own.shape[0], own[0].numel()):
                yield f"`{carrier.name}` is not of full rank"
