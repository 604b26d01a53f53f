"""Pieces of stored tensors: what branches hold, of tensors of their own or of one that is packed for several.

In: relations. A layer whose output is cut makes several values with one weight: each holds the rows that make it. And where
branches are stacked, what tells their places apart is whatever else has the axis along which they are: indices of a router.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.ir import state_key
from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Fixed,
    Move,
    Normalize,
    Part,
    Relation,
    Softmax,
    Sum,
)
from nnspec.compiler.symmetry.relate import Related, flow, terms_of
from nnspec.compiler.symmetry.spaces import AxisOf
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


class Piece(Node):
    """A stored tensor, or of it the entries of one axis from `start` on."""

    tensor: str
    axis: int | None = None
    start: int = 0
    size: int = 0

    def of(self, state: Mapping[str, Tensor], axis: int | None = None, index: int = 0) -> Tensor:
        """Return a view of the piece in a state, or of what it holds at one index of an axis."""
        found = state[state_key(self.tensor, "")]
        if self.axis is not None:
            found = found.narrow(self.axis, self.start, self.size)
        return found if axis is None else found.select(axis, index)


def cut_pieces(related: Related, made: Mapping[str, Relation], cut: Part) -> dict[Piece, int] | None:
    """Return the pieces of weights that make a part of a value, with the axis along which the part's indices are.

    None if it is not a layer of its own weights that makes the whole, and functions of entries.
    """
    axis = cut.axis
    if cut.part_axis != axis or not isinstance(cut.start, int):
        return None
    size = related.carriers[cut.part].shape[axis]
    if not isinstance(size, int):
        return None
    if not _is_cut_apart(related, cut, cut.start, size):
        return None
    tensor = cut.whole
    while True:
        relation = made.get(tensor)
        if isinstance(relation, Elementwise) and len(relation.terms) == 1:
            (term,) = relation.terms
            if term.labels != relation.output.labels or _readers(related, term.tensor) > 1:
                return None
            tensor = term.tensor
        elif isinstance(relation, Contract):
            return _of_layer(related, relation, axis, cut.start, size)
        else:
            return None


def _of_layer(
    related: Related, relation: Contract, axis: int, start: int, size: int
) -> dict[Piece, int] | None:
    label = relation.output.labels[axis]
    having = [term for term in relation.terms if label in term.labels]
    having += [relation.bias] if relation.bias is not None else []
    if not label or label.startswith("#") or relation.powers:
        return None
    found: dict[Piece, int] = {}
    for term in having:
        own = related.carriers[term.tensor]
        if not own.is_free or _readers(related, term.tensor) > 1 or label not in term.labels:
            return None
        place = term.labels.index(label)
        found[Piece(tensor=term.tensor, axis=place, start=start, size=size)] = place
    return found if len(having) > (relation.bias is not None) else None


def _is_cut_apart(related: Related, cut: Part, start: int, size: int) -> bool:
    """Whether all that reads a whole takes parts of it, none of which overlaps with this one."""
    if cut.whole in related.outputs:
        return False
    for stated in related.stated:
        other = stated.relation
        if other is cut or cut.whole not in _seen(other) or cut.whole in flow_made(other):
            continue
        if not isinstance(other, Part) or other.whole != cut.whole or other.axis != cut.axis:
            return False
        length = related.carriers[other.part].shape[cut.axis] if other.part_axis == cut.axis else None
        if not isinstance(length, int) or not isinstance(other.start, int):
            return False
        if other.start < start + size and start < other.start + length:
            return False
    return True


def flow_made(relation: Relation) -> tuple[str, ...]:
    """Return what a relation makes; of a part and its whole, neither."""
    return () if isinstance(relation, Part) else flow(relation)[1]


def _seen(relation: Relation) -> set[str]:
    names = {term.tensor for term in terms_of(relation)}
    return names | {
        getattr(relation, name) for name in ("input", "output", "whole", "part") if _named(relation, name)
    }


def _named(relation: Relation, name: str) -> bool:
    return isinstance(getattr(relation, name, None), str)


def _readers(related: Related, tensor: str) -> int:
    return sum(tensor in _seen(s.relation) and tensor not in flow_made(s.relation) for s in related.stated)


def stacked_axes(related: Related, stack: str, axis: int) -> list[AxisOf] | None:
    """Return the axes of stored tensors on which the indices of a stack's axis are, too; None if any is told apart.

    Indices are told apart at inputs and outputs, where an operation fixes them or regroups them, and where parts are taken
    of a tensor other than the stack itself.
    """
    found: set[AxisOf] = set()
    waiting = [(stack, axis)]
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found.add(node)
        if node[0] in (*related.inputs, *related.outputs):
            return None
        for stated in related.stated:
            if node[0] in _seen(stated.relation):
                beside = _beside(related, stated.relation, node, stack)
                if beside is None:
                    return None
                waiting += beside
    stored = [node for node in found if related.carriers[node[0]].kind in ("weight", "buffer")]
    if any(sum(other[0] == node[0] for other in stored) > 1 for node in stored):
        return None
    free = (related.carriers[tensor] for tensor, _ in stored)
    return sorted(stored) if all(own.kind == "buffer" or own.is_free for own in free) else None


def _beside(related: Related, relation: Relation, node: AxisOf, stack: str) -> list[AxisOf] | None:
    """Return the axes on which a relation puts the indices of an axis, too; None if it tells them apart."""
    tensor, axis = node
    match relation:
        case Elementwise() | Sum() | Contract():
            return _labelled(relation, node)
        case Softmax():
            return [(relation.input, axis), (relation.output, axis)]
        case Normalize():
            kept = [name for name in (relation.mean, relation.variance) if name is not None]
            inside = relation.axes == (axis,)
            more = [(name, 0) for name in kept] if inside else []
            return [(relation.input, axis), (relation.output, axis), *more]
        case Move():
            for ins, outs in relation.groups:
                if ins == (axis,) and tensor == relation.input and len(outs) == 1:
                    return [(relation.output, outs[0])]
                if outs == (axis,) and tensor == relation.output and len(ins) == 1:
                    return [(relation.input, ins[0])]
            return None
        case Part():
            if tensor != stack and relation.axis != axis:
                return None
            return [] if tensor == stack and relation.whole == stack and relation.part_axis is None else None
        case Fixed():
            return None if tensor == relation.tensor and axis in relation.axes else []
        case _:
            return None


def _labelled(relation: Relation, node: AxisOf) -> list[AxisOf] | None:
    found: list[AxisOf] = []
    for term in terms_of(relation):
        if term.tensor == node[0]:
            label = term.labels[node[1]]
            if not label or label.startswith("#"):
                return None
            found += [
                (other.tensor, place)
                for other in terms_of(relation)
                for place, own in enumerate(other.labels)
                if own == label
            ]
    return found
