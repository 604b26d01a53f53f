"""What can reach what through masks: which units depend on an input, and which units an output depends on.

In: a typed graph. Out: for each use of a masked weight, bits of the units on both of its sides. Units are followed
along each axis by itself, as the relations of the operations say; an operation without relations connects
everything. So what is said to be cut off is cut off, whatever the weights are. Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce

from nnspec.compiler.bits import Bits, Rows, bits_of, meeting, merged, split, turned_rows, union
from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.constraints.topology import Topology
from nnspec.compiler.flat import Flat, Use, flatten
from nnspec.compiler.ir import Graph, blocks
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import (
    Contract,
    Elementwise,
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
from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node

EVERY = -1


class Crossing(Node):
    """A use of a masked weight: bits of what comes in, what the mask lets through, what is wanted of it.

    `arriving` inputs depend on an input of the network, `leaving` outputs too; `wanted` outputs matter to an
    output of the network, `read` inputs too. `hidden` says that the inputs are made by learned weights.
    """

    weight: ConstrainedWeight
    path: str
    rows: Rows
    arriving: int
    leaving: int
    wanted: int
    read: int
    hidden: bool


class Reach(Node):
    """All crossings in the order of evaluation, and whether any output depends on an input."""

    crossings: tuple[Crossing, ...]
    connected: bool


def reach(graph: Graph, judged: frozenset[str] = frozenset()) -> Reach | None:
    """Follow what depends on what through a graph; None where no mask is known before weights are drawn.

    `judged` are the names of values that losses and metrics read.
    """
    masked = {found.path: found for found in constrained_weights(graph)}
    rows = {path: known for path, found in masked.items() if (known := mask_rows(found)) is not None}
    if not rows:
        return None
    effects = any(block.updates or block.penalties for block in blocks(graph.root))
    walk = _Walk(flatten(graph), masked, rows)
    walk.forward()
    walk.backward(None if effects else judged)
    return walk.result()


def mask_rows(weight: ConstrainedWeight) -> Rows | None:
    """Return which inputs each unit may read under all masks that are known together; None if none is."""
    found: Rows | None = None
    for laid in weight.rules:
        entries = laid.rule.entries(laid.site) if isinstance(laid.rule, Topology) else None
        if entries is None or len(laid.site.sizes) < 2:
            continue
        width = laid.site.sizes[1]
        own = tuple(bits_of(row, len(row) // width) for row in entries)
        found = own if found is None else tuple(a & b for a, b in zip(found, own, strict=True))
    return found


def _joined(known: dict[str, Bits], name: str, other: str) -> bool:
    """Add what is known of another tensor to a tensor; return whether that was anything new."""
    if other not in known:
        return False
    found = known[other]
    if name in known:
        found = [a | b for a, b in zip(known[name], found, strict=True)]
    if known.get(name) == found:
        return False
    known[name] = found
    return True


class _Step(Node):
    """One relation of a use, its tensors named throughout the network. None: everything is connected."""

    relation: Relation | None
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    use: Use


class _Walk:
    def __init__(self, flat: Flat, masked: Mapping[str, ConstrainedWeight], rows: Mapping[str, Rows]) -> None:
        self.flat = flat
        self.masked = masked
        self.rows: dict[str, Rows] = {}  # by the name of a tensor
        self.weights: dict[str, str] = {}  # its path
        self.shapes: dict[str, tuple[Size, ...]] = {}
        self.known = rows
        self.steps = [step for number, use in enumerate(flat.uses) for step in self._steps(number, use)]
        self.alive: dict[str, Bits] = {}  # depend on an input
        self.wanted: dict[str, Bits] = {}  # an output depends on them
        self.learned: set[str] = set()  # made with learned weights

    # -------------------------------------------------------------------------------------------- relations

    def _steps(self, number: int, use: Use) -> Iterable[_Step]:
        names = {f"in{i}": self._named(value) for i, value in enumerate(use.inputs)}
        names |= {f"out{i}": self._named(value) for i, value in enumerate(use.outputs)}
        ins, outs = ([n for key, n in names.items() if key.startswith(side)] for side in ("in", "out"))
        for name, held in use.weights:
            turned = "^T" if held.transposed else ""
            names[name] = f"{held.key}{turned}"
            self.shapes[names[name]] = held.weight.shape[:: -1 if turned else 1]
            if held.key in self.known:
                own = self.known[held.key]
                self.rows[names[name]] = turned_rows(own, held.weight.shape[1]) if turned else own
                self.weights[names[name]] = held.key
        relations = operation(use.primitive.operation).relate(_site(use))
        if relations is None:
            yield _Step(relation=None, sources=tuple(ins), targets=tuple(outs), use=use)
            return
        for relation in relations:
            if isinstance(relation, Middle):
                names[relation.tensor] = f"%{number}.{relation.tensor}"
                self.shapes[names[relation.tensor]] = relation.shape
        made = {names[n] for n in names if n.startswith("in")} | {names[n] for n, _ in use.weights}
        for relation in relations:
            if isinstance(relation, Middle):
                continue
            named = renamed(relation, names)
            sources, targets = _flow(named, made)
            made |= set(targets)
            if targets:
                yield _Step(relation=named, sources=sources, targets=targets, use=use)

    def _named(self, number: int) -> str:
        name = f"%{number}"
        self.shapes[name] = self.flat.values[number].type.shape
        return name

    # --------------------------------------------------------------------------------------------- forward

    def forward(self) -> None:
        for number in self.flat.inputs:
            name = self._named(number)  # one that nothing reads has no name yet
            self.alive[name] = [EVERY] * len(self.shapes[name])
        self._until_settled(self.alive, self._once_forward, forward=True)

    def _once_forward(self) -> None:
        for step in self.steps:
            if step.use.weights or self.learned.intersection(step.sources):
                self.learned.update(step.targets)
            self._carry(step, self.alive, step.sources, step.targets)

    def backward(self, judged: frozenset[str] | None) -> None:
        """Begin at the outputs and at the values that are judged; with None, at every value."""
        values = enumerate(self.flat.values)
        read = {number for number, value in values if judged is None or value.name in judged}
        for number in read.union(self.flat.outputs):
            self.wanted[f"%{number}"] = [EVERY] * len(self.shapes[f"%{number}"])
        self._until_settled(self.wanted, self._once_backward, forward=False)

    def _once_backward(self) -> None:
        for step in reversed(self.steps):
            self._carry(step, self.wanted, step.targets, step.sources)

    def _until_settled(self, known: dict[str, Bits], once: Callable[[], None], *, forward: bool) -> None:
        """Carry bits once and, round the loops, until nothing is added."""
        once()
        states = [pair for cycle in self.flat.cycles for pair in zip(cycle.before, cycle.after, strict=True)]
        while True:
            grown = False
            for before, after in states:
                left, right = (before, after) if forward else (after, before)
                grown |= _joined(known, f"%{left}", f"%{right}")
            if not grown:
                return
            once()

    def _carry(
        self, step: _Step, known: dict[str, Bits], given: tuple[str, ...], made: tuple[str, ...]
    ) -> None:
        """Carry bits of the tensors given over to those made."""
        relation = step.relation
        live = [name for name in given if name in known]
        if not live:
            return
        for name in made:
            found: Bits | None
            match relation:
                case Elementwise() | Sum() | Contract():
                    found = self._labels(relation, known, live, name)
                case Move():
                    found = self._moved(relation, known[live[0]], name == relation.output)
                case Part():
                    found = self._cut(relation, known[live[0]], name == relation.part)
                case Normalize(axes=axes) if relation.group != "unit":
                    found = [EVERY if a in axes else bits for a, bits in enumerate(known[live[0]])]
                case Softmax(axis=axis):
                    found = [EVERY if a == axis else bits for a, bits in enumerate(known[live[0]])]
                case Planes(plane=plane):
                    found = [EVERY if a == plane else bits for a, bits in enumerate(known[live[0]])]
                case Normalize():
                    found = list(known[live[0]])
                case _:
                    found = [EVERY] * len(self.shapes[name])
            if found is not None and all(found):
                before = known.get(name)
                known[name] = found if before is None else [a | b for a, b in zip(before, found, strict=True)]

    def _labels(
        self, relation: Elementwise | Sum | Contract, known: dict[str, Bits], live: list[str], made: str
    ) -> Bits:
        """An index goes on if it, by its label, is known of something live, and every mask lets it through."""
        terms = [*relation.terms, relation.output]
        if isinstance(relation, Contract) and relation.bias is not None:
            terms.append(relation.bias)
        reached: dict[str, int] = {}
        first = True
        for term in (t for t in terms if t.tensor in live):
            own = dict(zip(term.labels, known[term.tensor], strict=True))
            labels = set(own) | set(reached)
            reached = {
                label: own.get(label, EVERY) | (0 if first else reached.get(label, EVERY)) for label in labels
            }
            first = False
        masks = [t for t in terms if t.tensor in self.rows] if isinstance(relation, Contract) else []
        found = [
            [self._through(label, reached, masks) for label in t.labels] for t in terms if t.tensor == made
        ]
        return [reduce(int.__or__, bits) for bits in zip(*found, strict=True)]

    def _through(self, label: str, reached: Mapping[str, int], masks: list[Term]) -> int:
        bits = reached.get(label, EVERY)
        for term in masks:
            first, second = term.labels[:2]
            if label not in (first, second):
                continue
            rows = self.rows[term.tensor]
            if label == first:
                bits &= meeting(rows, reached.get(second, EVERY))
            else:
                bits &= union(rows, reached.get(first, EVERY))
        return bits

    def _moved(self, relation: Move, given: Bits, forward: bool) -> Bits:
        source, target = (relation.input, relation.output) if forward else (relation.output, relation.input)
        found = [EVERY] * len(self.shapes[target])
        for ins, outs in relation.groups:
            left, right = (ins, outs) if forward else (outs, ins)
            sizes = [[self.shapes[n][a] for a in axes] for n, axes in ((source, left), (target, right))]
            wide = [a for a, size in zip(right, sizes[1], strict=True) if size != 1]
            parts = [given[a] for a, size in zip(left, sizes[0], strict=True) if size != 1]
            if len(parts) == len(wide) == 1:
                found[wide[0]] = parts[0]
            elif any(bits != EVERY for bits in parts) and all(
                isinstance(n, int) for side in sizes for n in side
            ):
                before = [n for n in sizes[0] if isinstance(n, int) and n != 1]
                after = [n for n in sizes[1] if isinstance(n, int) and n != 1]
                for axis, bits in zip(wide, split(merged(parts, before), after), strict=True):
                    found[axis] = bits
        return found

    def _cut(self, relation: Part, given: Bits, forward: bool) -> Bits | None:
        """Take a part out of an axis, or set it in; None where nothing of it is known."""
        size = 1 if relation.part_axis is None else self.shapes[relation.part][relation.part_axis]
        if not isinstance(size, int) or not isinstance(relation.start, int):
            return [EVERY] * len(self.shapes[relation.part if forward else relation.whole])
        window = (1 << size) - 1
        if forward:
            bits = given[relation.axis] >> relation.start & window
            others = [b for a, b in enumerate(given) if a != relation.axis]
            if relation.part_axis is None:
                return others if bits else None
            return [*others[: relation.part_axis], bits, *others[relation.part_axis :]]
        others = [b for a, b in enumerate(given) if a != relation.part_axis]
        bits = 1 if relation.part_axis is None else given[relation.part_axis] & window
        return [*others[: relation.axis], bits << relation.start, *others[relation.axis :]]

    # ---------------------------------------------------------------------------------------------- result

    def result(self) -> Reach:
        crossings = [
            crossing
            for step in self.steps
            if isinstance(step.relation, Contract)
            for term in step.relation.terms
            if term.tensor in self.rows
            for crossing in [self._crossing(step.relation, term, step)]
            if crossing is not None
        ]
        connected = any(f"%{number}" in self.alive for number in self.flat.outputs)
        return Reach(crossings=tuple(crossings), connected=connected)

    def _crossing(self, relation: Contract, weight: Term, step: _Step) -> Crossing | None:
        """Return the use of a weight between one value with its second label and an output with its first."""
        first, second = weight.labels[:2]
        ins = [t for t in relation.terms if second in t.labels and t.tensor not in self.rows]
        out = relation.output
        if len(ins) != 1 or first not in out.labels or second in out.labels:
            return None
        rows = self.rows[weight.tensor]
        every = (1 << len(rows)) - 1
        wanted = _at(self.wanted, out, first) & every
        arriving = _at(self.alive, ins[0], second)
        return Crossing(
            weight=self.masked[self.weights[weight.tensor]],
            path=step.use.path,
            rows=rows,
            arriving=arriving,
            leaving=meeting(rows, arriving),
            wanted=wanted,
            read=union(rows, wanted),
            hidden=ins[0].tensor in self.learned,
        )


def _at(known: Mapping[str, Bits], term: Term, label: str) -> int:
    return known[term.tensor][term.labels.index(label)] if term.tensor in known else 0


def _site(use: Use) -> Site:
    primitive = use.primitive
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    return site.replace(tensors=operation(primitive.operation).tensors(site))


def _flow(relation: Relation, made: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tensors that a relation reads and those it makes, of which `made` are there before it."""
    match relation:
        case Elementwise() | Sum() | Contract():
            terms = [t.tensor for t in relation.terms]
            if isinstance(relation, Contract) and relation.bias is not None:
                terms.append(relation.bias.tensor)
            return tuple(terms), (relation.output.tensor,)
        case Part():
            whole, part = (relation.whole,), (relation.part,)
            return (whole, part) if relation.whole in made and relation.part not in made else (part, whole)
        case Move() | Softmax() | Normalize() | Planes():
            return (relation.input,), (relation.output,)
        case _:
            return (), ()
