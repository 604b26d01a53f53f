"""A typed graph -> the relations at every use, with one name for one tensor throughout.

Shared weights keep one name, so that each use states its own relations about them. Values that are
certainly equal (the same operation on the same values with the same weights) are one tensor; what no
output depends on is left out and listed. A weight's constraint is read from the relations of its own map.
An operation that states no relations is `sealed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nnspec.compiler.flat import Cycle, Flat, Held, Use, flatten
from nnspec.compiler.ir import Graph, Primitive, Weight, weight_path
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Fixed,
    Middle,
    Move,
    Normalize,
    Part,
    Planes,
    Relation,
    Softmax,
    Sum,
    Term,
    renamed,
)
from nnspec.compiler.symmetry.heard import equal_values, wanted_values, without_unheard_states
from nnspec.compiler.symmetry.maps import FREE, STILL, Action, action_of
from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span


class Carrier(Node):
    """A tensor on which the group may act. `kind` is "value", "middle", "weight" or "buffer"."""

    name: str
    shape: tuple[Size, ...]
    kind: str
    shown: str  # what people know it by
    live: bool  # depends on the network's inputs
    action: Action | None = None  # of a weight: what its constraint lets through
    weight: Weight | None = None  # what is stored, and its constraints
    span: Span | None = None

    @property
    def is_free(self) -> bool:
        """Whether it is a learned weight without a constraint."""
        return self.kind == "weight" and self.action is not None and self.action.is_free


class Gain(Node):
    """What a product with a gain multiplies, and the label along which."""

    given: Term
    weight: Term
    label: str


class Stated(Node):
    """A relation, the use that states it, and the values that this use takes.

    With `gain`, the relation is a product with a gain that folds into the maps behind it: the entries before
    and behind it are two index spaces (see `folding`).
    """

    relation: Relation
    use: Use
    gain: Gain | None = None
    takes: tuple[str, ...] = ()


class Settling(Node):
    """A loop: each state before a step, what a step makes of it (its next value, or its rate of change), and at rest.

    `steps` is how many its solver takes at most; `is_clipped` says that states are kept between two numbers.
    """

    path: str
    form: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    results: tuple[str, ...]
    shown: tuple[str, ...]
    steps: int
    is_clipped: bool


SEALED = "an operation that states no relations"


class Related(Node):
    """All that a network says about its own symmetries.

    An operation that states no relations could mean anything, so that nothing may move what it takes and gives: `sealed`.
    That stands among the outputs and inputs, as if the network ended there and began anew.
    """

    carriers: dict[str, Carrier]
    stated: tuple[Stated, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    unused: tuple[Held, ...]  # learned weights that no output depends on
    loops: tuple[Settling, ...] = ()  # where states settle
    sealed: Mapping[str, Stated] = {}  # carriers that an operation without relations takes, holds or gives


def relate_graph(graph: Graph) -> Related:
    """Collect the relations of a typed graph."""
    flat = flatten(graph)
    return _Collector(flat, equal_values(flat)).run()


class _Collector:
    def __init__(self, flat: Flat, same: list[int]) -> None:
        self.wanted = wanted_values(flat, same)
        self.flat = without_unheard_states(flat, self.wanted)
        self.same = same
        self.carriers: dict[str, Carrier] = {}
        self.stated: list[Stated] = []
        self.copied: dict[int, str] = {}  # values that are weights as they are
        self.ends: dict[str, Stated] = {}  # what uses without relations read
        self.starts: dict[str, Stated] = {}  # what they make

    def run(self) -> Related:
        needed = [i for i, use in enumerate(self.flat.uses) if self.wanted.intersection(use.outputs)]
        inputs = tuple(self.value(number) for number in self.flat.inputs)
        for index in needed:
            self.use(index, self.flat.uses[index])
        outputs = tuple(self.value(self.same[number]) for number in self.flat.outputs)
        inputs = (*inputs, *self.starts)
        outputs = tuple(dict.fromkeys((*outputs, *self.ends)))
        self.sum_products(outputs)
        self.sum_stacks(outputs)
        return Related(
            carriers=self.carriers,
            stated=tuple(self.stated),
            inputs=inputs,
            outputs=outputs,
            unused=self.unused(set(needed)),
            loops=tuple(self.settling(cycle) for cycle in self.flat.cycles),
            sealed=self.ends | self.starts,
        )

    def settling(self, cycle: Cycle) -> Settling:
        def named(numbers: tuple[int, ...]) -> tuple[str, ...]:
            return tuple(self.copied.get(number, f"%{number}") for number in numbers)

        return Settling(
            path=cycle.path,
            form=cycle.loop.form,
            before=named(cycle.before),
            after=named(tuple(self.same[number] for number in cycle.after)),
            results=named(cycle.results),
            shown=tuple(state.name for state in cycle.loop.carried),
            steps=int(cycle.loop.solver.options["steps"]),
            is_clipped=cycle.loop.clip is not None,
        )

    def unused(self, needed: set[int]) -> tuple[Held, ...]:
        found: dict[str, Held] = {}
        for index, use in enumerate(self.flat.uses):
            for _, held in use.weights:
                moves = _is_weight(held) and action_of(held.weight).moves
                if index not in needed and held.key not in self.carriers and moves:
                    found[held.key] = held
        return tuple(found.values())

    def sum_products(self, outputs: tuple[str, ...]) -> None:
        """State a product of values that is then summed over as one relation: what is between has no say.

        Matrices that the sum does not see pass then, as in the product of two vectors.
        """
        readers: dict[str, list[int]] = {}
        for index, stated in enumerate(self.stated):
            for name in flow(stated.relation)[0]:
                readers.setdefault(name, []).append(index)
        gone: set[int] = set()
        for index, stated in enumerate(self.stated):
            made = flow(stated.relation)[1]
            behind = readers.get(made[0], []) if len(made) == 1 and made[0] not in outputs else []
            if len(behind) == 1:
                joined = _summed_product(stated.relation, self.stated[behind[0]].relation, self.carriers)
                if joined is not None:
                    self.stated[behind[0]] = self.stated[behind[0]].replace(
                        relation=joined, takes=stated.takes
                    )
                    gone.add(index)
                    del self.carriers[made[0]]
        self.stated = [stated for index, stated in enumerate(self.stated) if index not in gone]

    def sum_stacks(self, outputs: tuple[str, ...]) -> None:
        """State a sum or mean over the axis along which values were stacked as the sum of these values."""
        about: dict[str, list[int]] = {}
        for index, stated in enumerate(self.stated):
            for name in {name for side in flow(stated.relation) for name in side}:
                about.setdefault(name, []).append(index)
        gone: set[int] = set()
        for stack, places in about.items():
            *parts, last = (self.stated[place] for place in places)
            total = _stacked_sum(stack, [one.relation for one in parts], last.relation)
            if total is not None and stack not in outputs:
                takes = tuple(term.tensor for term in total.terms)
                self.stated[places[-1]] = last.replace(relation=total, takes=takes)
                gone.update(places[:-1])
                del self.carriers[stack]
        self.stated = [stated for index, stated in enumerate(self.stated) if index not in gone]

    def value(self, number: int) -> str:
        name = self.copied.get(number, f"%{number}")
        if name not in self.carriers:
            value = self.flat.values[number]
            self.carriers[name] = Carrier(
                name=name, shape=value.type.shape, kind="value", shown=value.name, live=True, span=value.span
            )
        return name

    def use(self, index: int, use: Use) -> None:
        rule = operation(use.primitive.operation)
        takes = tuple(self.value(self.same[number]) for number in use.inputs)
        names = {f"in{i}": name for i, name in enumerate(takes)}
        names |= {f"out{i}": self.value(number) for i, number in enumerate(use.outputs)}
        for name, held in use.weights:
            names[name] = self.weight(use, held)
        relations = rule.relate(site_of(use.primitive))
        if relations is None:
            return self.seal(use, takes, names)
        if len(relations) == 1 == len(use.outputs) and self.copies(use, relations[0], names):
            return
        for relation in relations:
            if isinstance(relation, Middle):
                names[relation.tensor] = self.middle(f"%{index}.{relation.tensor}", relation.shape, use)
        for relation in relations:
            if not isinstance(relation, Middle):
                named = renamed(relation, names)
                self.stated.append(Stated(relation=named, use=use, takes=takes))
                self.carry_life(named)

    def seal(self, use: Use, takes: tuple[str, ...], names: Mapping[str, str]) -> None:
        """Keep all that a use without relations reads and makes as it is."""
        for role, name in names.items():
            axes = tuple(range(len(self.carriers[name].shape)))
            stated = Stated(relation=Fixed(tensor=name, axes=axes, why=SEALED), use=use, takes=takes)
            ends = self.starts if role.startswith("out") else self.ends
            ends.setdefault(name, stated)
            self.stated.append(stated)

    def copies(self, use: Use, relation: Relation, names: Mapping[str, str]) -> bool:
        """Note a value that is a weight as it is, such as a parameter of a layer: it has that name, then."""
        if not isinstance(relation, Sum) or len(relation.terms) != 1 or relation.coefficients != (1.0,):
            return False
        (term,) = relation.terms
        own = self.carriers[names[term.tensor]]
        if (
            own.kind != "weight"
            or term.labels != relation.output.labels
            or len(set(term.labels)) < len(term.labels)
        ):
            return False
        if any(not label or label.startswith("#") for label in term.labels):
            return False
        (number,) = use.outputs
        self.copied[number] = own.name
        self.carriers.pop(f"%{number}", None)
        return True

    def middle(self, name: str, shape: tuple[Size, ...], use: Use) -> str:
        self.carriers[name] = Carrier(
            name=name, shape=shape, kind="middle", shown=use.path, live=False, span=use.span
        )
        return name

    def carry_life(self, relation: Relation) -> None:
        """Mark middles that depend on the inputs as live."""
        sources, targets = flow(relation)
        if any(self.carriers[name].live for name in sources):
            for name in targets:
                if not self.carriers[name].live and self.carriers[name].kind not in ("weight", "buffer"):
                    self.carriers[name] = self.carriers[name].replace(live=True)

    def weight(self, use: Use, held: Held) -> str:
        name = held.key
        weight = held.weight
        if name not in self.carriers and len(weight.maps) == 1 and weight.maps[0].relations:
            self.composed(use, held)
        elif name not in self.carriers:
            is_weight = _is_weight(held)
            self.carriers[name] = Carrier(
                name=name,
                shape=weight.shape,
                kind="weight" if is_weight else "buffer",
                shown=name,
                live=False,
                action=action_of(weight),
                weight=weight,
                span=use.span,
            )
            if action_of(weight).mirrored:
                mirror = Move(input=name, output=name, groups=(((0,), (1,)), ((1,), (0,))))
                self.stated.append(Stated(relation=mirror, use=use))
        if not held.transposed:
            return name
        turned = self.middle(f"{name}^T", held.weight.shape[::-1], use)
        move = Move(input=name, output=turned, groups=(((0,), (1,)), ((1,), (0,))))
        self.stated.append(Stated(relation=move, use=use))
        return turned

    def composed(self, use: Use, held: Held) -> None:
        """State how stored tensors make a weight; then they are the weights, and it is between them."""
        names = {"weight": self.middle(held.key, held.weight.shape, use)}
        for tensor in held.weight.stored:
            key = weight_path(held.path, tensor.name)
            names[tensor.name] = key
            self.carriers[key] = Carrier(
                name=key,
                shape=tensor.shape,
                kind="weight" if tensor.kind == "learned" else "buffer",
                shown=key,
                live=False,
                action=FREE if tensor.kind == "learned" else STILL,
                span=use.span,
            )
        for relation in held.weight.maps[0].relations:
            self.stated.append(Stated(relation=renamed(relation, names), use=use))


def _summed_product(product: Relation, total: Relation, carriers: Mapping[str, Carrier]) -> Contract | None:
    """Return the product of values and the sum over some of its labels as one; None if they are not that."""
    if isinstance(product, Elementwise) and (product.parity, product.degree) == ("even", 2.0):
        squared = product.terms * 2  # f(x) = f(1) x^2: there is no other such function
        product = Contract(terms=squared, output=product.output) if len(squared) == 2 else product
    if not isinstance(product, Contract) or not isinstance(total, Contract):
        return None
    if product.powers or product.bias is not None or total.bias is not None or len(total.terms) != 1:
        return None
    if sum(carriers[term.tensor].live for term in product.terms) < 2 or total.powers:
        return None
    (given,) = total.terms
    if len(given.labels) == len(total.output.labels) or not set(total.output.labels) <= set(given.labels):
        return None
    names = dict(zip(given.labels, product.output.labels, strict=True))
    labels = tuple(names[label] for label in total.output.labels)
    return product.replace(output=total.output.replace(labels=labels), uniform=False, ones=None)


def _stacked_sum(stack: str, parts: list[Relation], total: Relation) -> Sum | None:
    """Return the sum of the values of a stack, where nothing but a sum or mean over them reads it."""
    if (
        not isinstance(total, Contract)
        or [term.tensor for term in total.terms] != [stack]
        or total.ones is None
    ):
        return None
    cuts = [
        part for part in parts if isinstance(part, Part) and part.whole == stack and part.part_axis is None
    ]
    if len(cuts) < len(parts) or not cuts or len({part.axis for part in cuts}) > 1:
        return None
    (given,) = total.terms
    kept = tuple(label for axis, label in enumerate(given.labels) if axis != cuts[0].axis)
    if kept != total.output.labels or total.powers or total.bias is not None:
        return None
    return Sum(
        terms=tuple(Term(tensor=part.part, labels=kept) for part in cuts),
        output=total.output,
        coefficients=(total.ones / len(cuts),) * len(cuts),
    )


def _is_weight(held: Held) -> bool:
    return any(tensor.kind != "buffer" for tensor in held.weight.stored)


def site_of(primitive: Primitive) -> Site:
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    return site.replace(tensors=operation(primitive.operation).tensors(site))


def flow(relation: Relation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tensors that a relation reads and those it makes."""
    match relation:
        case Elementwise() | Sum() | Contract():
            return tuple(t.tensor for t in relation.terms), (relation.output.tensor,)
        case Move() | Softmax() | Planes() | Normalize():
            return (relation.input,), (relation.output,)
        case Part():
            return (relation.whole, relation.part), (relation.whole, relation.part)
        case _:
            return (), ()


def terms_of(relation: Relation) -> Iterator[Term]:
    """Yield the labelled tensors of a relation, the output last."""
    if isinstance(relation, (Elementwise, Sum, Contract)):
        yield from relation.terms
        if isinstance(relation, Contract) and relation.bias is not None:
            yield relation.bias
        yield relation.output
