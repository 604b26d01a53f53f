"""Directions of single weights that a norm or a softmax forgets.

Where everything that reads a wire forgets a common shift of its entries (a centred norm, a softmax), a map
W that makes the wire may become W + 1 a' for any a: one direction for each number that W reads. A bias that
makes a value alike at all places of an axis along which that is forgotten may be anything: that of the keys of
an attention. And where the entries of a wire always sum to one constant, a map that reads it may become
W + b 1': one for each number that W makes; its bias takes up the constant, which for a centred norm is zero.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from nnspec.compiler.relations import Contract, Move, Normalize, Part, Relation, Softmax, Sum, Term
from nnspec.compiler.symmetry.relate import Related, terms_of
from nnspec.compiler.symmetry.spaces import AxisOf
from nnspec.dsl.node import Node


class Forgotten(Node):
    """Directions of one weight: what is added is the same for every index of `axis`, or (None) is anything.

    `shape` is that of what is added, 1 along the axis; of a part of a bias, which begins at `start`.
    """

    weight: str
    axis: int | None
    shape: tuple[int, ...]
    start: int = 0
    bias: str | None = None  # takes up total * (what is added), None if nothing is to be taken up
    total: float = 0.0

    @property
    def dimension(self) -> int:
        return prod(self.shape)


def forgotten_directions(related: Related) -> tuple[Forgotten, ...]:
    """Return the directions that norms and softmaxes forget, for weights that are used once."""
    search = _Forgetting(related)
    return (*search.run(), *search.added())


def forgotten_dimension(related: Related, found: tuple[Forgotten, ...], alone: frozenset[str]) -> int:
    """Count directions that are certainly not among others.

    `alone` are the weights between nonlinearities without another in their linear region: in a longer region a
    direction could be one of its shifts. One weight between two that forget holds 1 b' and a 1', which share one.
    """
    found = tuple(item for item in found if item.axis is None or item.weight in alone)
    total = sum(item.dimension for item in found)
    axes: dict[str, list[int | None]] = {}
    for item in found:
        axes.setdefault(item.weight, []).append(item.axis)
    for weight, forgotten in axes.items():
        if len(forgotten) > 1:
            shape = related.carriers[weight].shape
            others = [n for axis, n in enumerate(shape) if axis not in forgotten and isinstance(n, int)]
            total -= prod(others)
    return total


class _Forgetting:
    def __init__(self, related: Related) -> None:
        self.related = related
        self.uses: dict[str, int] = {}
        self.readers: dict[str, list[Relation]] = {}
        self.totals: dict[AxisOf, float] = {}
        self.made = set(related.inputs)
        for stated in related.stated:
            self._note(stated.relation)

    def _note(self, relation: Relation) -> None:
        seen = [term.tensor for term in terms_of(relation)]
        seen += [getattr(relation, name) for name in ("input", "whole", "part") if hasattr(relation, name)]
        for tensor in seen:
            self.uses[tensor] = self.uses.get(tensor, 0) + 1
        for tensor in self._read(relation):
            self.readers.setdefault(tensor, []).append(relation)
        if isinstance(relation, Softmax) and relation.total is not None:
            self.totals[relation.output, relation.axis] = relation.total
        elif isinstance(relation, Normalize) and relation.group == "centred":
            self.totals[relation.output, relation.axes[0]] = 0.0

    def _read(self, relation: Relation) -> tuple[str, ...]:
        """Return what a relation reads; of a whole and its part it makes what nothing has made yet."""
        read = _read(relation)
        if isinstance(relation, Part):
            read = (relation.whole,) if relation.whole in self.made else (relation.part,)
            self.made.update((relation.whole, relation.part))
        output = getattr(relation, "output", None)
        self.made.add(output.tensor if isinstance(output, Term) else str(output))
        return read

    def run(self) -> tuple[Forgotten, ...]:
        found: list[Forgotten] = []
        for stated in self.related.stated:
            if isinstance(stated.relation, Contract):
                found += self._before(stated.relation)
                found += self._behind(stated.relation)
                found += self._biases(stated.relation)
        return tuple(found)

    def added(self) -> tuple[Forgotten, ...]:
        """Return what is forgotten of weights that are added to values as they are, or looked up."""
        found: list[Forgotten] = []
        for stated in self.related.stated:
            relation = stated.relation
            if isinstance(relation, Sum):
                for term in relation.terms:
                    found += self._entries(term, relation.output)
        return tuple(found)

    def _entries(self, term: Term, out: Term) -> list[Forgotten]:
        if not self.related.carriers[term.tensor].is_free or self.uses[term.tensor] != 1:
            return []
        axes = {label: axis for axis, label in enumerate(term.labels) if label and not label.startswith("#")}
        for label, axis in axes.items():
            if label in out.labels and self._is_forgotten((out.tensor, out.labels.index(label))):
                return [Forgotten(weight=term.tensor, axis=axis, shape=self._shape(term, label))]
        return []

    def _biases(self, relation: Contract) -> list[Forgotten]:
        bias = relation.bias
        if bias is None or not self._is_own(bias.tensor):
            return []
        out = relation.output
        places = [axis for axis, label in enumerate(out.labels) if label not in bias.labels]
        if any(self._is_forgotten((out.tensor, place)) for place in places):
            return [Forgotten(weight=bias.tensor, axis=None, shape=self._shape(bias, ""))]
        if len(bias.labels) != 1 or bias.labels[0] not in out.labels:
            return []
        return self._parts(bias, out, places)

    def _parts(self, bias: Term, out: Term, places: list[int]) -> list[Forgotten]:
        """Return the parts of a bias that are forgotten, where all that reads its output takes a part of it."""
        cut = out.labels.index(bias.labels[0])
        found: list[Forgotten] = []
        for reader in self.readers.get(out.tensor, []):
            if not isinstance(reader, Part) or reader.whole != out.tensor or reader.axis != cut:
                return []
            if reader.part_axis != cut or not isinstance(reader.start, int):
                return []
            size = self.related.carriers[reader.part].shape[cut]
            if any(self._is_forgotten((reader.part, place)) for place in places) and isinstance(size, int):
                found.append(Forgotten(weight=bias.tensor, axis=None, shape=(size,), start=reader.start))
        spans = sorted((item.start, item.start + item.dimension) for item in found)
        overlap = any(end > start for (_, end), (start, _) in pairwise(spans))
        return [] if overlap or out.tensor in self.related.outputs else found

    def _weight(self, relation: Contract) -> tuple[Term, Term] | None:
        """Return (live term, weight term) of a map whose weight is free and used once."""
        if len(relation.terms) != 2 or relation.powers:
            return None
        weights = [t for t in relation.terms if self.related.carriers[t.tensor].is_free]
        live = [t for t in relation.terms if self.related.carriers[t.tensor].live]
        if len(weights) != 1 or len(live) != 1 or self.uses[weights[0].tensor] != 1:
            return None
        return live[0], weights[0]

    def _shape(self, weight: Term, label: str) -> tuple[int, ...]:
        """Return the sizes of a weight, 1 along a label."""
        shape = self.related.carriers[weight.tensor].shape
        return tuple(
            1 if own == label or not isinstance(size, int) else size
            for size, own in zip(shape, weight.labels, strict=True)
        )

    def _before(self, relation: Contract) -> list[Forgotten]:
        pair = self._weight(relation)
        if pair is None:
            return []
        given, weight = pair
        for axis, label in enumerate(weight.labels):
            if label in relation.output.labels and label not in given.labels:
                place = relation.output.labels.index(label)
                if self._is_forgotten((relation.output.tensor, place)):
                    return [Forgotten(weight=weight.tensor, axis=axis, shape=self._shape(weight, label))]
        return []

    def _behind(self, relation: Contract) -> list[Forgotten]:
        pair = self._weight(relation)
        if pair is None:
            return []
        given, weight = pair
        for place, label in enumerate(given.labels):
            total = self.totals.get((given.tensor, place))
            if total is None or label in relation.output.labels or label not in weight.labels:
                continue
            kept = [own for own in weight.labels if own != label]
            bias = relation.bias
            taken = bias is not None and set(kept) <= set(bias.labels) and self._is_own(bias.tensor)
            if total == 0 or taken:
                return [
                    Forgotten(
                        weight=weight.tensor,
                        axis=weight.labels.index(label),
                        shape=self._shape(weight, label),
                        bias=bias.tensor if bias is not None and total else None,
                        total=total,
                    )
                ]
        return []

    def _is_own(self, bias: str) -> bool:
        return self.related.carriers[bias].is_free and self.uses[bias] == 1

    def _is_forgotten(self, axis: AxisOf) -> bool:
        """Whether all that reads a tensor forgets a common shift along an axis."""
        waiting, seen = [axis], {axis}
        while waiting:
            tensor, place = waiting.pop()
            if tensor in self.related.outputs or not self.readers.get(tensor):
                return False
            for relation in self.readers[tensor]:
                step = _passed_on(relation, tensor, place)
                if step is None:
                    return False
                if step and step[0] not in seen:
                    seen.add(step[0])
                    waiting.append(step[0])
        return True


def _passed_on(relation: Relation, tensor: str, place: int) -> list[AxisOf] | None:
    """Return where a change that is the same along an axis goes: [] if it is forgotten, None if it is seen."""
    match relation:
        case Softmax():
            return [] if relation.axis == place else None
        case Normalize():
            return [] if relation.group == "centred" and relation.axes == (place,) else None
        case Sum() | Contract():
            return _through_terms(relation, tensor, place)
        case Move():
            images = [outs[0] for ins, outs in relation.groups if ins == (place,) and len(outs) == 1]
            return [(relation.output, images[0])] if images else None
        case _:
            return None


def _through_terms(relation: Sum | Contract, tensor: str, place: int) -> list[AxisOf] | None:
    having = [term for term in relation.terms if term.tensor == tensor]
    if len(having) != 1 or not having[0].labels[place]:
        return None
    label = having[0].labels[place]
    products = isinstance(relation, Contract)
    alone = not products or not any(label in t.labels for t in relation.terms if t is not having[0])
    if label not in relation.output.labels or not alone or (products and relation.powers):
        return None
    return [(relation.output.tensor, relation.output.labels.index(label))]


def _read(relation: Relation) -> tuple[str, ...]:
    terms = getattr(relation, "terms", None)
    if terms is not None:
        return tuple(term.tensor for term in terms)
    return tuple(name for field in ("input",) if (name := getattr(relation, field, None)))
