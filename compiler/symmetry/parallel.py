"""Units of parallel branches: wires between the same ends, whose units are one set.

Two branches x -> A -> f -> B that add up, or that are joined before one map reads them, compute what one branch
with the units of both does: a unit of one may change places with a unit of the other. In: the strands of a
derivation. Two strands are parallel if all relations about them are alike, tensor by tensor: equal ends, equal
functions, free weights of their own. What adds up may be multiplied by constants, which the weights take up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import (
    Contract,
    Fixed,
    Move,
    Normalize,
    Part,
    Planes,
    Relation,
    Softmax,
    Sum,
    Term,
)
from nnspec.compiler.symmetry.relate import Related, Stated, terms_of
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.derivation import Derivation

ROUNDS = 4  # of refinement; branches are a few relations long


class Twin(Node):
    """A place of a strand in a weight or buffer, and by what its entries are multiplied downstream."""

    atom: Atom
    factor: float = 1.0


class Parallel(Node):
    """Strands whose units are one set; `places` are matched from strand to strand."""

    strands: tuple[Strand, ...]
    places: tuple[tuple[Twin, ...], ...]  # by strand

    @property
    def size(self) -> int:
        return sum(strand.size for strand in self.strands)

    @property
    def roles(self) -> tuple[tuple[Twin, ...], ...]:
        """The same places by what they are in their branch, each with one twin a strand."""
        return tuple(zip(*self.places, strict=True))

    def crossings(self) -> Iterator[tuple[int, ...]]:
        """Yield orders of all units that, with permutations within strands, make all others."""
        first = 0
        for strand in self.strands[:-1]:
            order = list(range(self.size))
            order[first], order[first + strand.size] = first + strand.size, first
            yield tuple(order)
            first += strand.size


def parallel_strands(derivation: Derivation) -> tuple[Parallel, ...]:
    """Return the sets of parallel strands, in order of appearance."""
    reader = _Branches(derivation.related, derivation.spaces)
    alike: dict[object, list[tuple[Strand, Mapping[object, Twin]]]] = {}
    for strand in derivation.of_group("monomial"):
        if strand.copies > 1 or len(strand.spaces) > 1 or set(strand.spaces) & derivation.patterned:
            continue
        found = reader.branch(strand)
        if found is not None:
            alike.setdefault(found[0], []).append((strand, found[1]))
    return tuple(
        Parallel(
            strands=tuple(strand for strand, _ in group),
            places=tuple(tuple(places[key] for key in sorted(places, key=repr)) for _, places in group),
        )
        for group in alike.values()
        if len(group) > 1
    )


class _Branches:
    """Reads the relations about one strand as a signature, in which its own tensors have no names."""

    def __init__(self, related: Related, spaces: Spaces) -> None:
        self.related = related
        self.spaces = spaces
        self.about: dict[str, list[Stated]] = {}
        self.said: dict[int, set[str]] = {}  # by use, of what its relations speak
        for stated in related.stated:
            self.said.setdefault(id(stated.use), set()).update(_tensors(stated.relation))
            for tensor in dict.fromkeys(_tensors(stated.relation)):
                self.about.setdefault(tensor, []).append(stated)

    def branch(self, strand: Strand) -> tuple[object, Mapping[object, Twin]] | None:
        """Return the signature of a strand, and its places in weights by what they are in it."""
        places: dict[str, Atom] = {}
        for atoms, _ in strand.places:
            if atoms[0].tensor in places:
                return None  # the strand is on two axes of a tensor
            places[atoms[0].tensor] = atoms[0]
        if any(not self._is_plain(atom) for atom in places.values()):
            return None
        about = {id(s): s for tensor in places for s in self.about[tensor]}.values()
        cut = (s.relation for s in about if isinstance(s.relation, Part) and s.relation.part_axis is None)
        if any(r.whole in places and r.axis == places[r.whole].axis for r in cut):
            return None  # single units are taken out
        # Other parts of a tensor are of other strands.
        stated = [s for s in about if not isinstance(s.relation, Part) or s.relation.part in places]
        colours: dict[str, object] = {tensor: self._first(atom) for tensor, atom in places.items()}
        for _ in range(ROUNDS):
            seen: dict[str, Counter[object]] = {tensor: Counter() for tensor in places}
            for item in stated:
                signature = self._signature(item, places, colours)
                for role, tensor in roles_of(item.relation):
                    if tensor in places:
                        seen[tensor][role, signature] += 1
            colours = {
                tensor: hash((colours[tensor], frozenset(seen[tensor].items())))
                if self._is_own(places[tensor])
                else colours[tensor]
                for tensor in places
            }
        whole = frozenset(Counter(self._signature(s, places, colours) for s in stated).items())
        kept: dict[object, Twin] = {}
        for tensor, atom in places.items():
            if self.related.carriers[tensor].kind in ("weight", "buffer"):
                if colours[tensor] in kept:
                    return None  # two weights of the branch look alike: which is which is not known
                kept[colours[tensor]] = Twin(atom=atom, factor=self._factor(tensor, places))
        return whole, kept

    def _is_plain(self, atom: Atom) -> bool:
        carrier = self.related.carriers[atom.tensor]
        layout = self.spaces.layouts[atom.tensor, atom.axis]
        free = carrier.kind != "weight" or carrier.is_free
        return free and len(layout[atom.segment]) == 1

    def _is_own(self, atom: Atom) -> bool:
        """Whether no other strand is on the same axis of the tensor."""
        return len(self.spaces.layouts[atom.tensor, atom.axis]) == 1

    def _first(self, atom: Atom) -> object:
        """Return what a tensor is before its relations are looked at; one that strands share is known by name."""
        if not self._is_own(atom):
            return (atom.tensor, atom.axis)
        carrier = self.related.carriers[atom.tensor]
        others = tuple(str(size) for axis, size in enumerate(carrier.shape) if axis != atom.axis)
        return (carrier.kind, carrier.live, atom.axis, others)

    def _signature(self, stated: Stated, places: Mapping[str, Atom], colours: Mapping[str, object]) -> object:
        relation = stated.relation
        # What a map adds at the end of a branch is not its units'.
        bias = relation.bias.tensor if isinstance(relation, Contract) and relation.bias is not None else None
        made = tuple(
            (role, colours[tensor] if tensor in places else self._end(tensor), labels_of(relation, role))
            for role, tensor in roles_of(relation)
            if tensor in places or tensor != bias
        )
        said = self.said[id(stated.use)]
        others = tuple(  # such as the words that are looked up
            colours.get(name, name) for name in stated.takes if name not in said
        )
        return (type(relation).__name__, function_of(stated), made, others)

    def _end(self, tensor: str) -> str:
        """Return the name of a tensor at an end of a branch, or of the sum that it goes into with others."""
        return self._summed(tensor)[0]

    def _summed(self, tensor: str) -> tuple[str, float]:
        factor = 1.0
        while self.related.carriers[tensor].live and tensor not in self.related.outputs:
            readers = [s.relation for s in self.about[tensor] if tensor not in _made(s.relation)]
            (reader,) = readers if len(readers) == 1 else (None,)
            if not isinstance(reader, Sum) or any(t.labels != reader.output.labels for t in reader.terms):
                break
            factor *= sum(
                c for t, c in zip(reader.terms, reader.coefficients, strict=True) if t.tensor == tensor
            )
            tensor = reader.output.tensor
        return tensor, factor

    def _factor(self, weight: str, places: Mapping[str, Atom]) -> float:
        """Return by what the output of a map is multiplied where it ends the branch, for the map's weight."""
        for stated in self.about[weight]:
            relation = stated.relation
            if isinstance(relation, Contract) and relation.output.tensor not in places:
                return self._summed(relation.output.tensor)[1]
        return 1.0


def function_of(stated: Stated) -> object:
    """Return what a relation does, apart from the tensors that it does it with and their sizes."""
    relation = stated.relation
    match relation:
        case Contract():
            known = (relation.powers, relation.uniform, relation.ones)
            return known if _is_told(relation) else (known, done_by(stated))
        case Sum():
            return relation.coefficients if _is_told(relation) else (relation.coefficients, done_by(stated))
        case Part():
            return ()
        case _:
            return (stated.use.primitive.operation, repr(stated.use.primitive.arguments))


def done_by(stated: Stated) -> object:
    """Return the operation of a use and its arguments, but for sizes of axes, which shapes tell."""
    primitive = stated.use.primitive
    sizes = {one.name for one in operation(primitive.operation).arguments if one.kind == "size"}
    return (primitive.operation, repr([item for item in primitive.arguments if item[0] not in sizes]))


def _is_told(relation: Sum | Contract) -> bool:
    """Whether labels say all that a relation does: each index of its output is one of its terms."""
    known = {label for term in relation.terms for label in term.labels}
    labels = {label for term in terms_of(relation) for label in term.labels}
    return set(relation.output.labels) <= known and not any(label.startswith("#") for label in labels)


def roles_of(relation: Relation) -> list[tuple[object, str]]:
    """Return the tensors of a relation with their places in it."""
    found: list[tuple[object, str]] = [(("term", i), t.tensor) for i, t in enumerate(terms_of(relation))]
    match relation:
        case Normalize():
            kept = (relation.mean, relation.variance)
            found += [(i, name) for i, name in enumerate((relation.input, relation.output, *kept)) if name]
        case Move() | Softmax() | Planes():
            found += [(0, relation.input), (1, relation.output)]
        case Part():
            found += [(0, relation.whole), (1, relation.part)]
        case Fixed():
            found.append((0, relation.tensor))
        case _:
            pass
    return found


def _tensors(relation: Relation) -> list[str]:
    return [tensor for _, tensor in roles_of(relation)]


def _made(relation: Relation) -> tuple[str, ...]:
    output: Any = getattr(relation, "output", None)
    return (output.tensor,) if isinstance(output, Term) else (str(output),)


def labels_of(relation: Relation, role: object) -> object:
    """Return the labels of a term, numbered as they first appear in the relation."""
    if not isinstance(role, tuple):
        return getattr(relation, "axis", None) or getattr(relation, "axes", None)
    terms = {("term", i): term for i, term in enumerate(terms_of(relation))}
    names = list(dict.fromkeys(label for term in terms.values() for label in term.labels))
    return tuple(names.index(label) for key, term in terms.items() if key == role for label in term.labels)
