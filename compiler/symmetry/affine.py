"""Affine maps between vectors: what each vector of a network is of some sources, between functions that are not linear.

In: relations in order, the weights as arrays. Out: for each vector its composite, a matrix for each source and one column
for the number 1. Maps, sums, and vectors that are cut apart or laid end to end are followed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from nnspec.compiler.relations import Contract, Move, Part, Relation, Sum
from nnspec.compiler.symmetry.relate import Carrier, Related

Array: TypeAlias = Any
Composite: TypeAlias = dict[str, Array]  # [entries, size of the source], by source; "" is the number 1


class Affine:
    """Composites by the name of the vector. `weights` gives a weight as an array, by the name of its carrier."""

    def __init__(self, related: Related, weights: Callable[[str], Array]) -> None:
        self.related = related
        self.weights = weights
        self.known: dict[str, Composite] = {}
        self.turned: dict[str, str] = {}  # weights read transposed

    def begin(self, name: str) -> None:
        """Make a vector a source."""
        import numpy as np

        self.known[name] = {name: np.eye(self.size(name))}

    def size(self, name: str) -> int:
        (size,) = self.related.carriers[name].shape
        if not isinstance(size, int):
            raise TypeError(f"the size of {name} is not known")
        return size

    def follow(self, relation: Relation) -> bool:
        """Follow a relation from vectors that are known; return whether it is one that can be followed."""
        match relation:
            case Move():
                return self._moved(relation)
            case Sum():
                return self._summed(relation)
            case Contract():
                return self._mapped(relation)
            case Part():
                return self._cut(relation)
            case _:
                return False

    def _carrier(self, name: str) -> Carrier:
        return self.related.carriers[name]

    def _moved(self, relation: Move) -> bool:
        """Inputs may be laid out anew, weights turned over."""
        carrier = self._carrier(relation.input)
        if carrier.kind == "weight" and len(carrier.shape) == 2 and relation.input != relation.output:
            self.turned[relation.output] = relation.input
            return True
        if relation.input in self.related.inputs and is_vector(self._carrier(relation.output)):
            self.begin(relation.output)
            return True
        return relation.input == relation.output

    def _summed(self, relation: Sum) -> bool:
        total: Composite = {}
        for term, factor in zip(relation.terms, relation.coefficients, strict=True):
            if len(term.labels) != 1 or term.labels != relation.output.labels:
                return False
            own = self.known.get(term.tensor)
            if own is None and self._carrier(term.tensor).kind == "weight":
                own = {"": self.weights(term.tensor)[:, None]}
            if own is None:
                return False
            for name, part in own.items():
                total[name] = total.get(name, 0) + factor * part
        self.known[relation.output.tensor] = total
        return True

    def _mapped(self, relation: Contract) -> bool:
        still = [term for term in relation.terms if term.tensor not in self.known]
        given = [term for term in relation.terms if term.tensor in self.known]
        if len(still) != 1 or len(given) != 1 or any(power != 1 for power in relation.powers):
            return False
        (into,), (matrix, out) = given[0].labels, (still[0], relation.output.labels)
        if len(out) != 1 or set(matrix.labels) != {into, out[0]} or len(matrix.labels) != 2:
            return False
        name = matrix.tensor
        turned = name in self.turned
        name = self.turned.get(name, name)
        if self._carrier(name).kind != "weight":
            return False
        weight = self.weights(name)
        weight = weight.T if turned != (matrix.labels == (into, out[0])) else weight
        made = {source: weight @ part for source, part in self.known[given[0].tensor].items()}
        if relation.bias is not None:
            made[""] = made.get("", 0) + self.weights(relation.bias.tensor)[:, None]
        self.known[relation.output.tensor] = made
        return True

    def _cut(self, relation: Part) -> bool:
        import numpy as np

        if relation.axis != 0 or relation.part_axis != 0:
            return False
        start, stop = relation.start, relation.start + self.size(relation.part)
        if relation.whole in self.known and relation.part not in self.known:
            self.known[relation.part] = {
                source: part[start:stop] for source, part in self.known[relation.whole].items()
            }
            return True
        if relation.part not in self.known:
            return False
        whole = self.known.setdefault(relation.whole, {})
        for source, part in self.known[relation.part].items():
            rows = np.zeros((self.size(relation.whole), part.shape[1]))
            rows[start:stop] = part
            whole[source] = whole.get(source, 0) + rows
        return True


def is_vector(carrier: Carrier) -> bool:
    """Whether a tensor is a vector of a known size."""
    return len(carrier.shape) == 1 and isinstance(carrier.shape[0], int)
