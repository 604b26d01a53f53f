"""Factors of an update as expressions of torch: one junction's, by the names of what its function is given.

In: atoms and sums of the normal form. Out: `Text`, code of one value for every sample and unit. What is more than
arithmetic gets a line and a name of its own. Values have the batch first; one number a sample meets those that have one a
unit by axes of size 1. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from nnspec.compiler.emit.form import site_of
from nnspec.compiler.ir import Apply, Call, Graph, Primitive
from nnspec.compiler.operations.operation import Around
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rules.written.reading import kind, site
from nnspec.compiler.rules.written.routes import Route
from nnspec.compiler.rules.written.scheme import Junction
from nnspec.compiler.rules.written.terms import Atom, Sum, Term, constant, side, union
from nnspec.dsl.rule_words import INTO

COMPARE, SUM, PRODUCT, POWER, NAME = range(5)  # how strongly the outermost operator of a text binds
_TURNED = {"pre": "post", "post": "pre", "post.change": "pre.change"}


class Text(NamedTuple):
    """An expression, and how strongly it binds."""

    code: str
    strength: int = NAME

    def at(self, strength: int) -> str:
        """Return it so that it can stand where an operator of this strength is."""
        return self.code if self.strength >= strength else f"({self.code})"


class Feed(NamedTuple):
    """A way of feedback: where it begins, and its route to this junction."""

    source: str
    route: Route


class Expressions:
    """What the function of one junction computes before its last lines. `given` names what it is given."""

    turned = False

    def __init__(self, junction: Junction, feeds: dict[str, Feed], ranks: dict[str, int]) -> None:
        """`ranks` are the axes, with the batch, of "output" and "module" where these are sent."""
        self.junction = junction
        self.feeds = feeds
        self.ranks = ranks | {"post": len(junction.drive.axes) + 1, "pre": len(junction.pre.axes) + 1}
        self.given: dict[
            tuple[str, str], str
        ] = {}  # by phase and word; of feedback by "feedback" and its name
        self.lines: list[str] = []
        self.named: dict[str, str] = {}  # by the code that a name stands for
        self.helpers: set[str] = set()

    # ------------------------------------------------------------------------------------------------- names

    def take(self, phase: str, word: str) -> Text:
        """Return the name of something that the function is given."""
        name = re.sub(r"\W", "_", f"{phase}_{word}" if phase and phase != "feedback" else word)
        self.given[phase, word] = name
        return Text(name)

    def name(self, found: Text, wanted: str) -> Text:
        """Give a value a line and a name of its own; one that has a name keeps it."""
        if found.code.isidentifier():
            return found
        if found.code not in self.named:
            plain = re.sub(r"\W+", "_", wanted).strip("_")
            taken = {*self.named.values(), *self.given.values()}
            own = plain if len(plain) <= 28 else plain[:28].rpartition("_")[0] or plain[:28]
            count = 1
            while own in taken:
                count += 1
                own = f"{plain[:28]}_{count}"
            self.named[found.code] = own
            self.lines.append(f"{own} = {found.code}")
        return Text(self.named[found.code])

    # ------------------------------------------------------------------------------------------------ values

    def rank(self, spaces: Iterable[str]) -> int:
        """Return how many axes a batched value of these spaces has, 0 for one without units."""
        found = [self.ranks.get(space, 0) for space in spaces]
        return max(found, default=0)

    def sum(self, value: Sum) -> Text:
        """Return a sum that lives on one side, or nowhere."""
        known = constant(value)
        if known is not None:
            return number(known)
        rank = self.rank(union((value,))[0])
        parts = [self.beside((term,), self.product(term), rank) for term in value]
        return added(parts)

    def beside(self, value: Sum, found: Text, rank: int) -> Text:
        """Return a value so that one number a sample meets those of `rank` axes."""
        spaces, batched = union((value,))
        if spaces or not batched or rank < 2:
            return found
        return Text(f"{found.at(NAME)}[:{', None' * (rank - 1)}]")

    def product(self, term: Term) -> Text:
        """Return a term that lives on one side."""
        rank = self.rank(term.spaces)
        parts = [self.factor(atom, power, rank) for atom, power in term.factors]
        if parts and all(atom.word == "compare" for atom, _ in term.factors):
            parts[0] = Text(f"{parts[0].at(NAME)}.to({self.take('', 'weight').code}.dtype)")
        return multiplied(term.coefficient, parts)

    def factor(self, atom: Atom, power: float, rank: int) -> Text:
        """Return an atom to its power, beside those of `rank` axes."""
        return raised(
            self.beside(((Term(coefficient=1.0, factors=((atom, 1.0),))),), self.atom(atom), rank), power
        )

    def atom(self, atom: Atom) -> Text:
        """Return an atom."""
        match atom.word:
            case "read":
                return self.take(atom.phase, _TURNED.get(atom.name, atom.name) if self.turned else atom.name)
            case "feedback":
                return self.take("feedback", atom.name)
            case "group":
                return self.sum(atom.of[0])
            case "compare" | "power":
                left, right = (text.at(NAME) for text in self.together(atom.of))
                sign, strength = (atom.name, COMPARE) if atom.word == "compare" else ("**", POWER)
                return Text(f"{left} {sign} {right}", strength)
            case _:
                return self.name(self.made(atom), atom.text)

    def together(self, of: tuple[Sum, ...]) -> list[Text]:
        rank = self.rank(union(of)[0])
        return [self.beside(value, self.argument(value), rank) for value in of]

    def argument(self, value: Sum) -> Text:
        """Return what a function takes: a comparison as it is, or numbers."""
        return self.atom(value[0].factors[0][0]) if kind(value) == "bool" else self.sum(value)

    def made(self, atom: Atom) -> Text:
        """Return what is more than arithmetic."""
        inside = Text("") if atom.word == "call" else self.sum(atom.of[0])
        rank = self.rank(union(atom.of)[0])
        match atom.word:
            case "sum" | "mean":
                return Text(f"{inside.at(NAME)}{'.flatten(1)' if rank > 2 else ''}.{atom.word}(1)")
            case "average":
                return Text(f"{inside.at(NAME)}.mean(0)")
            case "running":
                return Text(f"{inside.at(NAME)}.cumsum(-1)")
            case "incoming" | "outgoing":
                ways = (self.along, self.against) if not self.turned else (self.against, self.along)
                return ways[atom.word == "outgoing"](inside, self.take("", "weight"))
            case "sent":
                return self.sent(atom.name, inside)
            case "call":
                kinds = tuple(map(kind, atom.of))
                rule = operation(atom.name)
                names = tuple(text.at(NAME) for text in self.together(atom.of))
                first = next(name for name in names if not _is_number(name))
                return Text(
                    rule.call(site(rule, kinds), names, {"training": "False", "dtype": f"{first}.dtype"})
                )
            case _:
                raise TypeError(f"no text for {atom.word}")

    # ------------------------------------------------------------------------------------------- through maps

    def sent(self, name: str, value: Text) -> Text:
        """Return a value behind feedback."""
        feed = self.feeds[name]
        if feed.source in INTO:
            return self.against(value, self.take("feedback", name))
        if feed.route.shape is None:
            return value
        weight = self.take("feedback", name).code
        if feed.route.layer is not None:
            layer = feed.route.layer
            return Text(use(layer, value.code, {layer.weights[0].name: weight}))
        flat = ".flatten(1)" if len(feed.route.source) > 1 else ""
        text = f"{value.at(NAME)}{flat} @ {weight}.t()"
        shape = ", ".join(str(axis.size) for axis in self.junction.drive.axes)
        return Text(text, PRODUCT) if self.ranks["post"] == 2 else Text(f"({text}).reshape(-1, {shape})")

    def along(self, value: Text, weight: Text) -> Text:
        """Return what arrives at the targets of what the sources send."""
        if self.junction.matrix:
            return Text(f"{value.at(PRODUCT + 1)} @ {weight.code}.t()", PRODUCT)
        return Text(f"{self.map()}({value.code}, {weight.code})")

    def against(self, value: Text, weight: Text) -> Text:
        """Return what arrives at the sources of what the targets send."""
        if self.junction.matrix:
            return Text(f"{value.at(PRODUCT + 1)} @ {weight.code}", PRODUCT)
        primitive = self.junction.primitive
        if self.junction.map is None:
            around = Around(cotangent=value.at(NAME))
            found = operation(primitive.operation).pullback(
                site_of(primitive), around, {self.junction.names[0]: weight.code}
            )
            if found is not None:
                return Text(found)
        self.helpers.add("back")
        like = self.any("pre")
        return Text(f"back({self.map()}, {value.code}, {like.code}, {weight.code})")

    def any(self, word: str) -> Text:
        """Return something of a side, for its shape."""
        known = next((name for (_, own), name in self.given.items() if own == word), None)
        return Text(known) if known is not None else self.take(self.first, word)

    first = ""  # the phase whose values give shapes

    def map(self) -> str:
        """Return the name of the function that is the junction's map."""
        self.helpers.add("map")
        return map_name(self.junction)


def map_name(junction: Junction) -> str:
    """Return what the map of a junction is called in the text."""
    return f"{identifier(junction.path)}_map"


def identifier(path: str) -> str:
    """Return a path as a name."""
    return re.sub(r"\W+", "_", path).strip("_")


def map_lines(junction: Junction) -> list[str]:
    """Return the map of a junction as a function of what comes in and of its weight."""
    steps = _steps(junction)
    bias = ", bias=None" if junction.names[1] is not None else ""
    lines = [f"def {map_name(junction)}(pre, weight{bias}):"]
    value = "pre"
    for place, (primitive, owns) in enumerate(steps):
        weights = {name: "bias" for name in (junction.names[1],) if name is not None} if owns else {}
        text = use(primitive, value, weights | ({junction.names[0]: "weight"} if owns else {}))
        value = f"v{place}"
        lines.append(f"    {value} = {text}" if place < len(steps) - 1 else f"    return {text}")
    return lines


def _steps(junction: Junction) -> list[tuple[Primitive, bool]]:
    """Return the operations of a junction's map, and of each whether the weight is its own."""
    if junction.map is None:
        return [(junction.primitive, True)]
    return [_step(junction.map, statement) for statement in junction.map.root.plain]


def _step(graph: Graph, statement: Call | Apply) -> tuple[Primitive, bool]:
    if isinstance(statement, Apply):
        return statement.operation, False
    (instance,) = graph.root.child(statement.child).instances
    assert isinstance(instance, Primitive)
    return instance, bool(instance.weights)


def use(primitive: Primitive, value: str, weights: dict[str, str]) -> str:
    """Return the text of an operation of one input."""
    return operation(primitive.operation).call(site_of(primitive), (value,), weights)


class Turned(Expressions):
    """Those of a connection read the other way: its targets send, and its sources receive."""

    turned = True


class Pairs(Expressions):
    """Those laid out as (batch, targets, sources), for what does not separate. They share names with the plain ones."""

    def __init__(self, plain: Expressions) -> None:
        super().__init__(plain.junction, plain.feeds, plain.ranks)
        self.plain = plain
        self.given, self.lines, self.named, self.helpers = (
            plain.given,
            plain.lines,
            plain.named,
            plain.helpers,
        )

    def rank(self, spaces: Iterable[str]) -> int:
        return 0

    def atom(self, atom: Atom) -> Text:
        if atom.word == "dense":
            return self.sum(atom.of[0])
        place = side(atom.spaces)
        if place == "both":
            return super().atom(atom)
        found = self.plain.atom(atom)
        if place == "own":
            return found
        if place in ("post", "pre"):
            return Text(f"{found.at(NAME)}.unsqueeze({-1 if place == 'post' else -2})")
        return Text(f"{found.at(NAME)}[:, None, None]") if atom.batched else found


def number(value: float) -> Text:
    """Return a number."""
    return Text(repr(value), NAME if value >= 0 else PRODUCT)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\(?-?[\d.e+-]+\)?", text))


def raised(base: Text, power: float) -> Text:
    """Return base ** power."""
    return base if power == 1.0 else Text(f"{base.at(NAME)} ** {power:g}", POWER)


def added(parts: list[Text]) -> Text:
    """Return a sum."""
    code = parts[0].at(SUM)
    for part in parts[1:]:
        own = part.at(PRODUCT)
        code += f" - {own[1:]}" if own.startswith("-") else f" + {own}"
    return Text(code, SUM if len(parts) > 1 else parts[0].strength)


def multiplied(coefficient: float, parts: list[Text]) -> Text:
    """Return a product."""
    if not parts:
        return number(coefficient)
    code = " * ".join(
        part.at(POWER if len(parts) > 1 or coefficient != 1.0 else part.strength) for part in parts
    )
    if coefficient == 1.0:
        return Text(code, PRODUCT if len(parts) > 1 else parts[0].strength)
    return Text(f"-{code}" if coefficient == -1.0 else f"{coefficient!r} * {code}", PRODUCT)
