"""A rule with its options: phases, feedback, and updates in their normal form. Nothing of a network is known here.

In: a bound definition and the values of its parameters. Out: `Equations`, or Refused with the first thing wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.system import is_system
from nnspec.compiler.rules.written.reading import Reader
from nnspec.compiler.rules.written.terms import Atom, Sum, Term, add, atoms, scale, side, sum_text
from nnspec.compiler.values import Refused
from nnspec.dsl.bind_rule import dotted
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.rules import NotSeparable, RuleExpression
from nnspec.dsl.node import Node
from nnspec.dsl.rule_words import TARGETS
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Assignment, CallOf, Expression, Feedback, Phase, RuleDefinition, Update


class PhaseLine(Node):
    """`phase plus from rest = settle(steps = 10, nudge = beta)`: `way` is the word, `given` its arguments as written."""

    name: str
    way: str
    given: tuple[tuple[str, Expression], ...] = ()
    start: str | None = None
    span: Span | None = None

    @property
    def options(self) -> dict[str, Expression]:
        """The arguments by name."""
        return dict(self.given)


_ONCE = PhaseLine(name="", way="forward")


class FeedbackLine(Node):
    """`feedback B: output -> post = normal(std = 0.1)`; `learned` if an update changes it."""

    name: str
    source: str
    value: Expression
    via: Expression | None = None
    learned: bool = False
    span: Span | None = None


class UpdateLine(Node):
    """The wished change of `target` at one synapse, for one sample."""

    target: str
    value: Sum
    span: Span | None = None


class Equations(Node):
    """A rule with its options. `reader` knows its names, for what phases are given."""

    name: str
    phases: tuple[PhaseLine, ...]  # never empty: a rule without any runs the network once
    feedback: tuple[FeedbackLine, ...]
    updates: tuple[UpdateLine, ...]
    reader: Any  # a Reader
    span: Span | None = None

    def of(self, graph: Graph) -> Equations:
        """Return the equations for a network: a rule without phases reads what a system settles to, as it settles by itself."""
        if self.phases == (_ONCE,) and is_system(graph):
            return self.replace(phases=(_ONCE.replace(way="settle"),))
        return self

    def update(self, target: str) -> Sum:
        """Return the wished change of a target, nothing if the rule leaves it as it is."""
        return next((line.value for line in self.updates if line.target == target), ())

    @property
    def reads(self) -> Mapping[str, Atom]:
        """The words that its updates read, each with where it first stands."""
        found: dict[str, Atom] = {}
        for line in self.updates:
            for atom in atoms(line.value):
                if atom.word == "read":
                    found.setdefault(atom.name, atom)
        return found

    @property
    def gathered(self) -> frozenset[str]:
        """The phases over which something is summed."""
        return frozenset(term.steps for line in self.updates for term in line.value if term.steps)


def equations(definition: Definition, options: Mapping[str, Any]) -> Equations:
    """Return the equations of a rule of the language for the values of its parameters."""
    item = definition.item
    assert isinstance(item, RuleDefinition)
    changed = {line.target for line in item.body if isinstance(line, Update)}
    phases = tuple(_phase(line) for line in item.body if isinstance(line, Phase))
    feedback = tuple(
        FeedbackLine(
            name=line.name,
            source=line.source,
            value=line.value,
            via=line.via,
            learned=line.name in changed,
            span=line.span,
        )
        for line in item.body
        if isinstance(line, Feedback)
    )
    reader = Reader(options, tuple(p.name for p in phases), {line.name: line.source for line in feedback})
    updates: list[UpdateLine] = []
    for line in item.body:
        if isinstance(line, Assignment):
            reader.local[line.names[0]] = reader.read(line.value)
        elif isinstance(line, Update):
            updates.append(_update(line, reader))
    return Equations(
        name=item.name,
        phases=phases or (_ONCE,),
        feedback=feedback,
        updates=tuple(updates),
        reader=reader,
        span=definition.span,
    )


def _phase(line: Phase) -> PhaseLine:
    written = line.value
    given = written.arguments if isinstance(written, CallOf) else ()
    function = written.function if isinstance(written, CallOf) else written
    return PhaseLine(
        name=line.name,
        way=dotted(function),
        given=tuple((argument.name or "", argument.value) for argument in given),
        start=line.start,
        span=line.span,
    )


def _update(line: Update, reader: Reader) -> UpdateLine:
    value = reader.read(line.value)
    if line.operator == "-=":
        value = scale(value, -1.0)
    for term in value:
        _check(term, line)
    return UpdateLine(target=line.target, value=_joined(value), span=line.span)


def _check(term: Term, line: Update) -> None:
    """Refuse a term that is no product of factors of the target, of the source, and of what is learned."""
    for atom, _ in term.factors:
        place = side(atom.spaces)
        if atom.word == "dense" or (atom.word == "running" and place != "both"):
            continue
        if place == "both" and not (atom.word == "running" and atom.spaces <= {"post", "edge"}):
            raise Refused(_not_separable(term, atom, line))
        if place == "own" and atom.batched:
            raise Refused(_not_separable(term, atom, line))
        if (place == "module" and atom.word != "sent") or (place == "rest") != (line.target == "rest"):
            why = f"`{atom.text}` does not live at a synapse"
            raise Refused(RuleExpression(atom.span or line.value.span, why=why, help=None))
        if line.target == "bias" and (place == "pre" or "edge" in atom.spaces):
            why = f"`{atom.text}` is of one synapse, and a bias is of a target unit"
            help_text = "sum over the sources first: `sum(..)` or `incoming(..)`"
            raise Refused(RuleExpression(atom.span or line.value.span, why=why, help=help_text))
        if line.target != "bias" and "bias" in atom.spaces:
            why = "the bias is of a target unit, and stands in `update bias` alone"
            raise Refused(RuleExpression(atom.span or line.value.span, why=why, help=None))


def _not_separable(term: Term, atom: Atom, line: Update) -> NotSeparable:
    help_text = f"write `dense({atom.text})` to compute it for every pair, at the price of memory"
    if line.target not in TARGETS:
        help_text = None
    return NotSeparable(atom.span or line.value.span, term=f"`{term.text}`", help=help_text)


def _joined(value: Sum) -> Sum:
    """Join terms that share their source factor (and all else), so that one matrix product serves them."""
    groups: dict[tuple[Any, ...], list[Term]] = {}
    for term in value:
        rest = tuple(
            (atom, power) for atom, power in term.factors if side(atom.spaces) not in ("post", "none")
        )
        key = (frozenset((atom.text, power) for atom, power in rest), term.steps, term.gathered)
        groups.setdefault(key, []).append(term)
    return tuple(joined for found in groups.values() for joined in _one(found))


def _one(found: list[Term]) -> Iterator[Term]:
    special = [t for t in found if any(a.word in ("dense", "running") for a, _ in t.factors)]
    plain = [term for term in found if term not in special]
    yield from special
    if len(plain) < 2 or not all(_has_post(term) for term in plain):
        yield from plain
        return
    rest = tuple(f for f in plain[0].factors if side(f[0].spaces) not in ("post", "none"))
    inner: Sum = ()
    for term in plain:
        kept = tuple(f for f in term.factors if side(f[0].spaces) in ("post", "none"))
        inner = add(inner, (Term(coefficient=term.coefficient, factors=kept),))
    spaces = frozenset[str]().union(*(term.spaces for term in inner))
    batched = any(atom.batched for term in inner for atom, _ in term.factors)
    group = Atom(word="group", text=f"({sum_text(inner)})", of=(inner,), spaces=spaces, batched=batched)
    yield Term(
        coefficient=1.0, factors=((group, 1.0), *rest), steps=plain[0].steps, gathered=plain[0].gathered
    )


def _has_post(term: Term) -> bool:
    return any(side(atom.spaces) == "post" for atom, _ in term.factors)
