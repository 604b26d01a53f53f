"""The relations of a pullback: those of the way there run backwards, step by step, as reverse differentiation does.

In: a pullback and the typed block that it stands in. Out: relations between its inputs, the weights that it passes and
its outputs; None where a step states none, or one that has no backward here. Every value gets a cotangent of its shape;
the slope of a function of entries, and the other factors of a product, are values of the way there.
"""

from __future__ import annotations

from nnspec.compiler.flat import function_primitive
from nnspec.compiler.ir import Apply, Block, Call, Primitive, Pullback, Statement, weight_path
from nnspec.compiler.operations.operation import Operation, Site
from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Middle,
    Move,
    Part,
    Relation,
    Sum,
    Term,
    axes_of,
    renamed,
)
from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node

_SLOPES = {"odd": "even", "even": "odd"}


class NoBackward(Exception):
    """A step has no relations that could be run backwards."""


def pullback_relations(statement: Pullback, block: Block) -> tuple[Relation, ...] | None:
    """Return the relations of a pullback."""
    try:
        return _Backward(statement, block).run()
    except NoBackward:
        return None


class _Made(Node):
    """A relation of a step, and its tensors by what the step does with them."""

    relation: Relation
    reads: tuple[str, ...]
    makes: str


class _Backward:
    def __init__(self, statement: Pullback, block: Block) -> None:
        self.statement = statement
        self.block = block
        self.types = dict(block.types)
        reads = tuple(dict.fromkeys((*statement.at, statement.cotangent, *statement.inputs)))
        self.names = {value: f"in{place}" for place, value in enumerate(reads)}
        self.steps: list[tuple[_Made, ...]] = []
        self.found: list[Relation] = []
        self.shapes: dict[str, tuple[Size, ...]] = {}
        self.bars: dict[str, list[Term]] = {}
        self.cuts: dict[str, str] = {}  # the cotangent of a value that is cut up
        self.count = 0

    def run(self) -> tuple[Relation, ...]:
        for value, name in self.names.items():
            self.shapes[name] = self.types[value].shape
        for own in self.statement.through:
            self.step(own)
        live = {self.names[value] for value in self.statement.at}
        for made in (one for step in self.steps for one in step):
            if live.intersection(made.reads):
                live.add(made.makes)
        end = self.names[self.statement.end]
        self.add(end, self.term(self.names[self.statement.cotangent]))
        needed: set[str] = set()
        for made in (one for step in reversed(self.steps) for one in reversed(step)):
            if live.intersection(made.reads):
                self.back(made, live, needed)
        for place, value in enumerate(self.statement.at):
            bar = self.total(self.names[value])
            if bar is not None:
                output = Term(tensor=f"out{place}", labels=bar.labels)
                self.found.append(Sum(terms=(bar,), output=output, coefficients=(1.0,)))
        return (*self.way_there(needed), *self.found)

    # ---------------------------------------------------------------------------------------- the way there

    def step(self, statement: Statement) -> None:
        """Read the relations of a step, its tensors named throughout the pullback."""
        primitive, prefix = self.primitive(statement)
        rule = _operation(primitive.operation)
        site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
        relations = rule.relate(site.replace(tensors=rule.tensors(site)))
        if relations is None:
            raise NoBackward
        own = {f"in{i}": self.names[value] for i, value in enumerate(statement.inputs)}
        for place, value in enumerate(statement.outputs):
            own[f"out{place}"] = self.names[value] = f"there.{value}"
            self.shapes[self.names[value]] = self.types[value].shape
        for weight in primitive.weights:
            own[weight.name] = weight_path(prefix, weight.name)
        for relation in relations:
            if isinstance(relation, Middle):
                own[relation.tensor] = f"there.{prefix}.{relation.tensor}"
                self.shapes[own[relation.tensor]] = relation.shape
        outputs = {self.names[value] for value in statement.outputs}
        outputs |= {own[r.tensor] for r in relations if isinstance(r, Middle)}
        named = (renamed(r, own) for r in relations if not isinstance(r, Middle))
        self.steps.append(tuple(_made(relation, outputs) for relation in named))

    def primitive(self, statement: Statement) -> tuple[Primitive, str]:
        if isinstance(statement, Apply):
            return statement.operation, statement.name
        if not isinstance(statement, Call):
            raise NoBackward
        child = self.block.child(statement.child)
        instance = child.instances[0]
        if isinstance(instance, Block) and instance.is_pure:
            return function_primitive(instance), child.name
        if not isinstance(instance, Primitive) or child.repeated:
            raise NoBackward
        return instance, child.name

    def way_there(self, needed: set[str]) -> list[Relation]:
        """Return the relations that make the values which the way back reads."""
        found: list[_Made] = []
        for step in reversed(self.steps):
            if any(one.makes in needed for one in step):
                found[:0] = step
                needed.update(name for one in step for name in one.reads)
        made = sorted(
            {name for one in found for name in (one.makes, *one.reads) if name.startswith("there.")}
        )
        middles = [Middle(tensor=name, shape=self.shapes[name]) for name in made]
        return [*middles, *(one.relation for one in found)]

    # ---------------------------------------------------------------------------------------- the way back

    def term(self, tensor: str) -> Term:
        return Term(tensor=tensor, labels=axes_of(len(self.shapes[tensor])))

    def middle(self, tensor: str) -> str:
        """Return a new tensor in the shape of one of the way there."""
        self.count += 1
        name = f"back.{self.count}"
        self.shapes[name] = self.shapes[tensor]
        self.found.append(Middle(tensor=name, shape=self.shapes[name]))
        return name

    def add(self, tensor: str, bar: Term) -> None:
        self.bars.setdefault(tensor, []).append(bar)

    def total(self, tensor: str) -> Term | None:
        """Return the cotangent of a value, all that reads it taken together."""
        bars = self.bars.get(tensor, [])
        if len(bars) > 1:
            whole = self.term(self.middle(tensor))
            terms = tuple(Term(tensor=bar.tensor, labels=whole.labels) for bar in bars)
            self.found.append(Sum(terms=terms, output=whole, coefficients=(1.0,) * len(terms)))
            self.bars[tensor] = [whole]
        return self.bars[tensor][0] if bars else None

    def back(self, made: _Made, live: set[str], needed: set[str]) -> None:
        bar = self.total(made.makes)
        if bar is None:
            return
        match made.relation:
            case Contract() as relation:
                self.product(relation, bar.tensor, live, needed)
            case Sum() as relation:
                for term, factor in zip(relation.terms, relation.coefficients, strict=True):
                    if term.tensor in live:
                        self.sent(Term(tensor=bar.tensor, labels=relation.output.labels), term, factor)
            case Elementwise(terms=(term,)) as relation:
                self.slope(relation, term, bar.tensor, needed)
            case Move() as relation:
                name = self.middle(relation.input)
                groups = tuple((right, left) for left, right in relation.groups)
                self.found.append(Move(input=bar.tensor, output=name, groups=groups))
                self.add(relation.input, self.term(name))
            case Part() as relation:
                self.part(relation, made.makes == relation.whole, bar.tensor)
            case _:
                raise NoBackward

    def sent(self, bar: Term, term: Term, factor: float) -> None:
        """A term of a sum gets the cotangent of the sum; what was stretched is summed up."""
        name = self.middle(term.tensor)
        output = Term(tensor=name, labels=term.labels)
        if set(term.labels) == set(bar.labels):
            self.found.append(Sum(terms=(bar,), output=output, coefficients=(factor,)))
        else:
            self.found.append(Contract(terms=(bar,), output=output, uniform=False))
        self.add(term.tensor, self.term(name))

    def product(self, relation: Contract, bar: str, live: set[str], needed: set[str]) -> None:
        """Each factor gets the cotangent times the others."""
        powers = relation.powers or (1,) * len(relation.terms)
        above = Term(tensor=bar, labels=relation.output.labels)
        for place, term in enumerate(relation.terms):
            if term.tensor not in live:
                continue
            own = powers[place]
            others = [
                (t, p) for at, (t, p) in enumerate(zip(relation.terms, powers, strict=True)) if at != place
            ]
            others += [(term, own - 1)] if own != 1 else []
            needed.update(t.tensor for t, _ in others if t.tensor in self.shapes)
            name = self.middle(term.tensor)
            output = Term(tensor=name, labels=term.labels)
            if others:
                terms, grown = zip(*others, strict=True)
                self.found.append(
                    Contract(terms=(above, *terms), powers=(1, *grown), output=output, uniform=False)
                )
            else:  # of a sum over entries each entry gets the cotangent of the sum
                self.found.append(Sum(terms=(above,), output=output, coefficients=(1.0,)))
            self.add(term.tensor, self.term(name))

    def slope(self, relation: Elementwise, term: Term, bar: str, needed: set[str]) -> None:
        """The cotangent times the slope, which is even where the function is odd, and of one degree less."""
        slope, name = self.middle(term.tensor), self.middle(term.tensor)
        needed.add(term.tensor)
        degree = None if relation.degree is None else relation.degree - 1
        self.found.append(
            Elementwise(
                terms=(term,),
                output=Term(tensor=slope, labels=term.labels),
                parity=_SLOPES.get(relation.parity, "none"),
                degree=degree,
            )
        )
        factors = tuple(Term(tensor=t, labels=term.labels) for t in (bar, slope))
        output = Term(tensor=name, labels=term.labels)
        self.found.append(Contract(terms=factors, output=output, uniform=False))
        self.add(term.tensor, self.term(name))

    def part(self, relation: Part, is_laid: bool, bar: str) -> None:
        """The cotangent of a part is that part of the cotangent of the whole, laid together or cut up."""
        given = relation.part if is_laid else relation.whole
        name = self.cuts.get(given) if not is_laid else None
        if name is None:
            name = self.middle(given)
            self.add(given, self.term(name))
        if is_laid:
            self.found.append(relation.replace(whole=bar, part=name))
        else:
            self.cuts[given] = name
            self.found.append(relation.replace(whole=name, part=bar))


def _made(relation: Relation, outputs: set[str]) -> _Made:
    """Return what a relation of a step with these outputs reads and makes."""
    match relation:
        case Elementwise() | Sum() | Contract():
            reads, makes = tuple(term.tensor for term in relation.terms), relation.output.tensor
        case Move():
            reads, makes = (relation.input,), relation.output
        case Part(whole=whole, part=part):
            reads, makes = ((part,), whole) if whole in outputs else ((whole,), part)
        case _:
            raise NoBackward
    return _Made(relation=relation, reads=reads, makes=makes)


def _operation(name: str) -> Operation:
    from nnspec.compiler.operations.registry import operation

    return operation(name)
