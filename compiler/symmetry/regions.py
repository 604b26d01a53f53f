"""Linear regions: maps along one axis of each tensor, between what is not such a map.

In: the relations of a network. A region is maps that share a tensor or a weight. Regions begin at sources
(what a nonlinearity made, an input) and end at sinks (what a nonlinearity reads, an output). What is linear
in another way is noted, for then a region's weights are not all that acts between its ends.
"""

from __future__ import annotations

from collections import Counter
from math import prod

from nnspec.compiler.relations import Contract, Elementwise, Fixed, Move, Part, Relation, Sum, Term
from nnspec.compiler.symmetry.relate import Related
from nnspec.dsl.node import Node


class Map(Node):
    """out = weight @ given + bias along one axis, or (no weight) a signed sum."""

    output: str
    inputs: tuple[tuple[str, float], ...]  # with coefficients
    weight: str | None = None
    transposed: bool = False  # the weight is stored [in, out]
    diagonal: bool = False  # the weight is a gain for each index
    bias: str | None = None
    part: int | None = None  # the output is the entries of its input from here on
    starts: tuple[int, ...] = ()  # where the inputs begin, of which the output is made by joining them


class Region(Node):
    """Maps that share a tensor or a weight."""

    maps: tuple[Map, ...]
    weights: tuple[str, ...]


class Factors(Node):
    """A weight that is a product of two stored ones, over the label `inner` that they share."""

    rows: Term  # the factor that has the labels of the weight's first axis
    columns: Term
    labels: tuple[str, str]  # of the weight
    inner: str

    def steps(self, transposed: bool) -> tuple[tuple[str, bool], ...]:
        """Return the factors in the order in which they act on a value, and whether each is stored [in, out]."""
        row, column = self.labels
        if transposed:
            first, second, begin, end = self.rows, self.columns, row, column
        else:
            first, second, begin, end = self.columns, self.rows, column, row
        return (
            (first.tensor, first.labels == (begin, self.inner)),
            (second.tensor, second.labels == (self.inner, end)),
        )


class Maps:
    """Reads relations as maps along one axis of each tensor, and notes what is not one."""

    def __init__(self, related: Related) -> None:
        self.related = related
        self.carriers = related.carriers
        self.views: dict[str, tuple[str, bool]] = {}
        self.factors: dict[str, Factors] = {}  # of weights that are made of others
        self.sizes: dict[str, int] = {}  # of values between two factors
        self.maps: list[Map] = []
        self.read_as_maps: set[int] = set()  # ids of relations
        self.axis: dict[str, int] = {}  # the axis along which maps act
        self.sinks: set[str] = set(related.outputs)
        self.note: str | None = None
        self.border: set[str] = {*related.inputs, *related.outputs}
        self.taken: set[str] = set()  # weights that appear outside of maps
        self.parts: dict[str, list[Part]] = {}  # by the whole
        for stated in related.stated:
            if isinstance(stated.relation, Part):
                self.parts.setdefault(stated.relation.whole, []).append(stated.relation)
        self.readers = Counter(name for item in related.stated for name in reads(item.relation))
        # The next value of a state that steps read is seen whole by the step that follows; one reader ties it to its result.
        pairs = [pair for loop in related.loops for pair in zip(loop.before, loop.after, strict=True)]
        self.carried = {after for before, after in pairs if self.readers[before] > 1}
        self.sinks |= self.carried

    def size(self, tensor: str) -> int:
        """Return the size of a tensor along its axis."""
        if tensor in self.sizes:
            return self.sizes[tensor]
        shape = self.carriers[tensor].shape
        size = shape[self.axis.get(tensor, len(shape) - 1)] if shape else 1
        assert isinstance(size, int)
        return size

    def columns(self, weight: str) -> int:
        """Return how many numbers of a weight may move; of one under a constraint at most."""
        carrier = self.carriers[weight]
        if carrier.kind != "weight" or carrier.action is None or not carrier.action.moves:
            return 0
        sizes = [size for size in carrier.shape if isinstance(size, int)]
        return prod(sizes)

    def read(self) -> None:
        made: set[str] = set()
        known = set(self.related.inputs)
        for stated in self.related.stated:
            relation = stated.relation
            if self._is_view(relation) or self._is_product(relation):
                continue
            if id(relation) in self.read_as_maps:
                continue  # another part of what was joined
            found = self._part(relation, known) if isinstance(relation, Part) else self._map(relation)
            known.update(_makes(relation))
            if found is None:
                self._cut(relation, made)
                continue
            self.maps += self._unfolded(found)
            self.read_as_maps.add(id(relation))
            made.add(found.output)
        for name in self.taken & self.factors.keys():
            self.taken |= {self.factors[name].rows.tensor, self.factors[name].columns.tensor}
        self._repeats()
        self._check_states()
        inside = {name for item in self.maps for name, _ in item.inputs}
        self.sinks |= {m.output for m in self.maps if m.output not in inside and not self.readers[m.output]}
        for item in self.maps:
            for weight in (item.weight, item.bias):
                if weight is not None:
                    self._check_weight(weight)

    def _check_states(self) -> None:
        """A state that maps make and maps of the next step read is seen through more of them than one region holds."""
        made = {item.output for item in self.maps}
        for loop in self.related.loops:
            steps = [item for item in self.maps if item.output not in loop.results]
            read = {name for item in steps for name, _ in item.inputs}
            for before, after in zip(loop.before, loop.after, strict=True):
                if before in read and after in made:
                    self._say("states that are linear in each other may hide more than one step shows")

    def plain_weights(self) -> frozenset[str]:
        """Return the weights of maps from a source that reach a sink through sums alone."""
        made = {item.output for item in self.maps}
        reaching = set(self.sinks)
        for item in reversed(self.maps):
            if item.output in reaching and item.weight is None:
                reaching.update(name for name, _ in item.inputs)
        return frozenset(
            item.weight
            for item in self.maps
            if item.weight is not None and item.output in reaching and item.inputs[0][0] not in made
        )

    def _check_weight(self, weight: str) -> None:
        carrier = self.carriers[weight]
        if weight in self.taken:
            self._say(f"{weight} is used in two ways")
        if carrier.action is not None and carrier.action.is_held:
            self._say(f"{weight} takes few values, so units may coincide")
        elif not carrier.is_free and carrier.action is not None and carrier.action.moves:
            self._say(f"the constraint on {weight} may hide directions")

    def _is_product(self, relation: Relation) -> bool:
        """Remember weights that are the product of two others over one label."""
        if not isinstance(relation, Contract) or len(relation.terms) != 2 or relation.powers:
            return False
        out = relation.output
        if relation.bias is not None or len(out.labels) != 2:
            return False
        if any(self.carriers[t.tensor].kind != "weight" or len(t.labels) != 2 for t in relation.terms):
            return False
        inner = {label for term in relation.terms for label in term.labels} - set(out.labels)
        rows = [term for term in relation.terms if out.labels[0] in term.labels]
        columns = [term for term in relation.terms if out.labels[1] in term.labels]
        if len(inner) != 1 or len(rows) != 1 or len(columns) != 1 or rows == columns:
            return False
        (label,) = inner
        first, last = out.labels
        self.factors[out.tensor] = Factors(
            rows=rows[0], columns=columns[0], labels=(first, last), inner=label
        )
        return True

    def _unfolded(self, item: Map) -> tuple[Map, ...]:
        """Return a map; of one whose weight is a product, the maps of its factors."""
        factors = None if item.weight is None else self.factors.get(item.weight)
        if factors is None:
            return (item,)
        (first, one), (second, other) = factors.steps(item.transposed)
        between = f"{item.output} inside {item.weight}"
        size = self.carriers[factors.rows.tensor].shape[factors.rows.labels.index(factors.inner)]
        assert isinstance(size, int)
        self.sizes[between] = size
        return (
            Map(output=between, inputs=item.inputs, weight=first, transposed=one),
            item.replace(inputs=((between, 1.0),), weight=second, transposed=other),
        )

    def _is_view(self, relation: Relation) -> bool:
        """Remember transposed weights."""
        if not isinstance(relation, Move):
            return False
        if self.carriers[relation.input].kind != "weight" and relation.input not in self.factors:
            return False
        if relation.output == relation.input:
            return True  # a weight that is its own mirror image
        turned = relation.groups == (((0,), (1,)), ((1,), (0,)))
        if turned:
            self.views[relation.output] = (relation.input, True)
        return turned

    def _cut(self, relation: Relation, made: set[str]) -> None:
        """Treat a relation as the end of some regions and the start of others."""
        read, is_linear = _reads(relation)
        self.border.update(read, _makes(relation))
        for tensor in read:
            carrier = self.carriers[tensor]
            if carrier.live:
                self.sinks.add(tensor)
            else:
                self.taken.add(self.views.get(tensor, (tensor, False))[0])
            if not is_linear:
                continue
            if not carrier.live or tensor in made:
                self._say("a linear map of another kind than along one axis stands between weights")
            elif not isinstance(relation, Move) or self.readers[tensor] > 1:
                self._say("values that are rearranged may repeat each other")

    def _say(self, note: str) -> None:
        self.note = self.note or note

    def _repeats(self) -> None:
        """Sources that reach a function without a weight between may make it repeat another."""
        made = {item.output for item in self.maps}
        for item in self.maps:
            bare = item.weight is None and not any(name in made for name, _ in item.inputs)
            if bare and item.output in self.sinks and item.output not in self.related.outputs:
                self._say("functions of values without a weight between may repeat each other")

    def _map(self, relation: Relation) -> Map | None:
        if isinstance(relation, Sum):
            return self._sum(relation)
        if not isinstance(relation, Contract) or len(relation.terms) != 2:
            return None
        live = [term for term in relation.terms if self.carriers[term.tensor].live]
        weights = [term for term in relation.terms if not self.carriers[term.tensor].live]
        if len(live) != 1 or relation.powers:
            return None
        return self._linear(relation, live[0], weights[0])

    def _linear(self, relation: Contract, given: Term, weight: Term) -> Map | None:
        name, turned = self.views.get(weight.tensor, (weight.tensor, False))
        if self.carriers[name].kind != "weight" and name not in self.factors:
            return None
        if len(weight.labels) == 1:
            return self._gain(relation, given, weight)
        out = relation.output
        summed = [label for label in given.labels if label not in out.labels]
        new = [label for label in out.labels if label not in given.labels]
        if (
            len(weight.labels) != 2
            or len(summed) != 1
            or len(new) != 1
            or set(weight.labels) != {summed[0], new[0]}
        ):
            return None
        if any(not label or label.startswith("#") for label in (summed[0], new[0])):
            return None
        if relation.bias is not None and relation.bias.labels != (new[0],):
            return None
        places = ((given.tensor, given.labels.index(summed[0])), (out.tensor, out.labels.index(new[0])))
        if not all(self._along(tensor, axis) for tensor, axis in places):
            return None
        return Map(
            output=out.tensor,
            inputs=((given.tensor, 1.0),),
            weight=name,
            transposed=(weight.labels == (summed[0], new[0])) != turned,
            bias=None if relation.bias is None else relation.bias.tensor,
        )

    def _gain(self, relation: Contract, given: Term, weight: Term) -> Map | None:
        (label,) = weight.labels
        out = relation.output
        if given.labels != out.labels or label not in out.labels:
            return None
        if relation.bias is not None and relation.bias.labels != (label,):
            return None
        axis = out.labels.index(label)
        if not all(self._along(tensor, axis) for tensor in (given.tensor, out.tensor)):
            return None
        return Map(
            output=out.tensor,
            inputs=((given.tensor, 1.0),),
            weight=weight.tensor,
            diagonal=True,
            bias=None if relation.bias is None else relation.bias.tensor,
        )

    def _sum(self, relation: Sum) -> Map | None:
        labels = relation.output.labels
        pairs = list(zip(relation.terms, relation.coefficients, strict=True))
        live = [(term, factor) for term, factor in pairs if self.carriers[term.tensor].live]
        added = [(term, factor) for term, factor in pairs if not self.carriers[term.tensor].live]
        if not live or any(term.labels != labels for term, _ in live):
            return None
        along = [term.tensor for term, _ in live] + [relation.output.tensor]
        axes = {self.axis[name] for name in along if name in self.axis}
        axis = axes.pop() if len(axes) == 1 else len(labels) - 1
        if axes or not all(self._along(name, axis) for name in along):
            return None
        biases = [t.tensor for t, factor in added if factor == 1 and t.labels == (labels[axis],)]
        if (
            len(biases) < len(added)
            or len(added) > 1
            or any(self.carriers[b].kind != "weight" for b in biases)
        ):
            return None
        return Map(
            output=relation.output.tensor,
            inputs=tuple((term.tensor, factor) for term, factor in live),
            bias=next(iter(biases), None),
        )

    def _part(self, relation: Part, known: set[str]) -> Map | None:
        """Read a cut along the axis of maps, or all the parts that are joined along it."""
        is_cut = relation.part not in known
        own = [relation] if is_cut else self.parts[relation.whole]
        starts = tuple(one.start for one in own if isinstance(one.start, int))
        names = [name for one in own for name in (one.whole, one.part)]
        if len(starts) < len(own) or any(one.part_axis != one.axis for one in own):
            return None
        if not all(self.carriers[name].live and self._along(name, relation.axis) for name in names):
            return None
        self.read_as_maps.update(map(id, own))
        if is_cut:
            return Map(output=relation.part, inputs=((relation.whole, 1.0),), part=starts[0])
        return Map(output=relation.whole, inputs=tuple((one.part, 1.0) for one in own), starts=starts)

    def _along(self, tensor: str, axis: int) -> bool:
        """Say that maps act along this axis of a tensor; False if others act along another."""
        return self.axis.setdefault(tensor, axis) == axis

    def regions(self) -> list[Region]:
        """Return the regions: maps joined by tensors that a map makes, and by weights."""
        made = {item.output for item in self.maps}
        parents = list(range(len(self.maps)))

        def root(index: int) -> int:
            while parents[index] != index:
                parents[index] = parents[parents[index]]
                index = parents[index]
            return index

        owner: dict[str, int] = {}
        for index, item in enumerate(self.maps):
            names = [item.output, *(name for name, _ in item.inputs if name in made)]
            names += [name for name in (item.weight, item.bias) if name is not None]
            for name in names:
                first = owner.setdefault(name, index)
                parents[root(index)] = root(first)
        groups: dict[int, list[Map]] = {}
        for index, item in enumerate(self.maps):
            groups.setdefault(root(index), []).append(item)
        return [_region(tuple(maps)) for maps in groups.values()]


def _region(maps: tuple[Map, ...]) -> Region:
    weights = [name for item in maps for name in (item.weight, item.bias) if name is not None]
    return Region(maps=maps, weights=tuple(weights) if len(maps) == 1 else tuple(dict.fromkeys(weights)))


def reads(relation: Relation) -> tuple[str, ...]:
    """Return what a relation reads."""
    return _reads(relation)[0]


def _reads(relation: Relation) -> tuple[tuple[str, ...], bool]:
    """Return what a relation reads, and whether it is linear in it."""
    match relation:
        case Elementwise():
            return tuple(t.tensor for t in relation.terms), False
        case Sum() | Contract():
            return tuple(t.tensor for t in relation.terms), True
        case Fixed():
            return (), True
        case _:
            fields = ("input", "whole", "part")
            found = tuple(name for field in fields if (name := getattr(relation, field, None)))
            return found, hasattr(relation, "groups") or hasattr(relation, "whole")


def _makes(relation: Relation) -> tuple[str, ...]:
    """Return what a relation makes."""
    output = getattr(relation, "output", None)
    if isinstance(output, Term):
        return (output.tensor,)
    found = (output, getattr(relation, "whole", None), getattr(relation, "part", None))
    return tuple(name for name in found if name is not None)
