"""Whether a rule of the language fits a network: what its equations read, and what the network has.

In: a rule and the setting that it is to learn under. Out: errors that name both places. Nothing has run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Objective
from nnspec.compiler.ir import Graph, Loop, blocks
from nnspec.compiler.rewrites.system import is_system
from nnspec.compiler.rules.setting import Setting
from nnspec.compiler.rules.settled import fit as settled
from nnspec.compiler.rules.written.equations import Equations, PhaseLine
from nnspec.compiler.rules.written.routes import route
from nnspec.compiler.rules.written.scheme import Junction, Scheme, scheme
from nnspec.compiler.rules.written.terms import Atom, Sum, atoms, is_even
from nnspec.compiler.rules.written.ways import WAYS
from nnspec.compiler.values import Refused
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.rules import (
    NoJunction,
    OutputElsewhere,
    PhaseWord,
    RuleLoss,
    RuleMisfit,
    RuleShapes,
    WhichPhase,
)
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest

if TYPE_CHECKING:
    from nnspec.compiler.rules.written.rule import WrittenRule

_BEHIND = (
    "post",
    "post.derivative",
    "post.change",
)  # words that need post to be a function of the drive alone
_OUTPUT = frozenset({"output"})
_TURNED = (
    "pre",
    "post",
    "post.change",
    "weight",
    "bias",
    "loss",
)  # words for both uses of a weight used both ways
_INSTEAD = (
    "`equilibrium` and `deep` teach states by a nudge, rules of `pre` and `post` alone (`hebb`, `oja`) "
    "by what they settle to; `backprop` differentiates that"
)


def mistakes(rule: WrittenRule, options: dict[str, Any]) -> Iterator[Error]:
    """Yield what is wrong with a rule by itself."""
    try:
        own = rule.equations(options)
    except Refused as refused:
        if refused.error is not None:
            yield refused.error
        return
    for line in own.phases:
        yield from _phase(line, own)
    yield from settled.mistakes(own)


def refusals(rule: WrittenRule, setting: Setting) -> Iterator[Error]:
    """Yield what a network lacks that the equations of a rule need."""
    wrong = list(mistakes(rule, setting.choice.options))
    if not wrong:
        own = rule.equations(setting.choice.options).of(setting.graph)
        wrong = list(_loops(own, setting.graph))
        missing = [] if wrong else list(settled.refusals(setting, own))
        yield from missing
        if not wrong and not any(error.severity == "error" for error in missing):
            wrong = list(_Fit(own, setting).errors())
    for error in wrong:
        yield _placed(error, setting)


def _placed(error: Error, setting: Setting) -> Error:
    """Name both places: what is wrong stands in the user's file first, where the rule is chosen if not elsewhere."""
    span = setting.choice.span
    if span is None or error.span == span:
        return error
    if error.span is not None and error.span.source is span.source:
        error.related = (*error.related, Related(span=span, label="the rule is chosen here"))
        return error
    label = error.label or "here"
    error.related = (*error.related, *_at(error.span, label))
    error.span, error.label = span, "chosen here"
    return error


# ---------------------------------------------------------------------------------------------- by itself


def _phase(line: PhaseLine, own: Equations) -> Iterator[Error]:
    """Yield what is wrong with how a phase is run, and with what is read of it."""
    way = WAYS.get(line.way)
    if way is None:
        near = nearest(line.way, WAYS)
        help_text = f"did you mean `{near}`?" if near else "there are " + _listed(tuple(WAYS))
        yield PhaseWord(line.span, why=f"no phase is run by `{line.way}`", help=help_text)
        return
    for name, value in line.given:
        if name not in way.options:
            near = nearest(name, way.options)
            help_text = f"did you mean `{near}`?" if near else "it takes " + _listed(way.options)
            yield PhaseWord(value.span, why=f"`{line.way}` takes no `{name}`", help=help_text)
    for atom in _read(own, line.name):
        if atom.name not in way.words:
            why = f"a phase that is run by `{line.way}` has no `{atom.name}`"
            yield WhichPhase(atom.span, why=why, label="not to be had", help="it has " + _listed(way.words))
        elif atom.name == "noise" and "noise" not in line.options:
            why = f"the phase `{line.name}` adds no noise"
            help_text = f"`phase {line.name} = {line.way}(noise = 0.1)`"
            yield WhichPhase(atom.span, why=why, label="there is none", help=help_text)


def _read(own: Equations, phase: str) -> Iterator[Atom]:
    """Yield what is read of a phase, in sums over its steps too."""
    for line in own.updates:
        for term in line.value:
            for atom in atoms((term,)):
                if atom.word == "read" and atom.name not in ("weight", "bias"):
                    inside = not atom.phase and term.steps
                    if (atom.phase or inside or "") == phase:
                        yield atom


def _loops(own: Equations, graph: Graph) -> Iterator[Error]:
    """States that settle, in a network that a phase would run through once."""
    if is_system(graph) and own.phases[0].way == "settle" and not own.phases[0].name:
        words = WAYS["settle"].words
        for atom in _read(own, ""):
            if atom.name not in words:
                why = f"that belongs to one pass, while `{graph.name}` has states that settle"
                places = _at(_settling(graph), "these settle")
                yield RuleMisfit(
                    atom.span,
                    places,
                    rule=own.name,
                    word=atom.name,
                    why=why,
                    label="the rule reads it here",
                    help=_INSTEAD,
                )
                return
    once = next((line for line in own.phases if line.way != "settle"), None)
    place = _settling(graph)
    if once is not None and place is not None:
        why = f"`{own.name}` runs the network through once, and `{graph.name}` has states that settle"
        help_text = _INSTEAD if is_system(graph) else "`backprop` differentiates what settles inside a layer"
        yield PhaseWord(once.span or own.span, _at(place, "these settle"), why=why, help=help_text)


def _settling(graph: Graph) -> Span | None:
    """Return where the first states that settle are, None if there are none."""
    loops = [s for block in blocks(graph.root) for s in block.body if isinstance(s, Loop)]
    return loops[0].span or graph.root.span if loops else None


# ------------------------------------------------------------------------------------------- with a network


class _Fit:
    def __init__(self, own: Equations, setting: Setting) -> None:
        self.own = own
        self.setting = setting
        self.scheme: Scheme = scheme(setting.graph)
        taught = set(setting.keys)
        self.weights = (
            [j for j in self.scheme.junctions if taught & set(j.keys)] if own.update("weight") else []
        )
        self.biases = (
            [j for j in self.scheme.junctions if taught & set(j.bias_keys)] if own.update("bias") else []
        )

    def errors(self) -> Iterator[Error]:
        yield from self.others()
        wrong = [*self.loss(), *self.inputs()]
        yield from wrong
        for target, junctions in (("weight", self.weights), ("bias", self.biases)):
            value = self.own.update(target)
            for junction in () if wrong else junctions:
                yield from self.behind(junction, value)
                if target == "weight" or junction not in self.weights:  # said once a synapse
                    yield from self.output(junction, value)
                yield from self.matrix(junction, value)
                yield from self.both_ways(junction, value)
                yield from self.feedback(junction, value)

    def others(self) -> Iterator[Error]:
        """Parameters that are at no junction, of which the rule says nothing; a rule that teaches nothing at all."""
        if not self.own.update("rest"):
            for key in self.setting.keys:
                if key not in self.scheme.keys:
                    yield self.no_junction(key, *self._left_out())
                    return
            if not self.weights and not self.biases and self.setting.keys:
                why = "is nothing that it changes"
                yield self.no_junction(self.setting.keys[0], why, "choose a rule that updates it")

    def _left_out(self) -> tuple[str, str]:
        """Return why a parameter is at no junction, and what helps."""
        phase = next((line.name for line in self.own.phases if line.way == "settle"), None)
        word = "rest.error" if phase is None else f"{phase}.rest.error"
        help_text = f"add `update rest -= {word}` to the rule, freeze it, or teach it in a `train` block"
        if phase is None:
            return "is no such weight", help_text
        why = (
            "stands outside of what settles: it leads to no units with a state"
            " (the last linear map of a chain, without an activation behind it, is a readout)"
        )
        return why, help_text

    def no_junction(self, key: str, why: str, help_text: str) -> Error:
        return NoJunction(
            self.setting.choice.span,
            (Related(span=self.own.span, label="the rule"),) if self.own.span is not None else (),
            rule=self.own.name,
            key=key,
            why=why,
            help=help_text,
        )

    def loss(self) -> Iterator[Error]:
        atom = self.own.reads.get("output.target")
        loss = self.setting.loss
        if atom is not None and isinstance(loss, Objective):
            help_text = "let the loss be a word, such as `mean_squared_error`"
            why = "this loss is an expression, which compares no one output with the target"
            yield RuleLoss(
                loss.span,
                _at(atom.span),
                rule=self.own.name,
                word=atom.name,
                why=why,
                label="no word",
                help=help_text,
            )

    def inputs(self) -> Iterator[Error]:
        """An input that a phase shuffles and that the network does not have."""
        known = [port.name for port in self.setting.graph.root.inputs]
        for line in self.own.phases:
            written = line.options.get("shuffle") if line.way == "forward" else None
            name = None if written is None else self.own.reader.plain(written)
            if written is not None and name not in known:
                near = nearest(str(name), known)
                help_text = f"did you mean `{near}`?" if near else "it has " + _listed(tuple(known))
                why = (
                    f"`{self.setting.graph.name}` has no input called `{name}`, whose rows would be shuffled"
                )
                yield PhaseWord(written.span, why=why, help=help_text)

    def behind(self, junction: Junction, value: Sum) -> Iterator[Error]:
        """A post that is no function of the drive alone."""
        found = next((a for a in atoms(value) if a.word == "read" and a.name in _BEHIND), None)
        if found is not None and junction.misfits:
            yield RuleMisfit(
                junction.span,
                _at(found.span),
                rule=self.own.name,
                word=found.name,
                why=junction.misfits[0],
                label=f"the synapse `{junction.path}`",
                help=f"let it learn otherwise: `train {junction.path}.* {{ learn = backprop }}` and `train rest {{ }}`",
            )

    def output(self, junction: Junction, value: Sum) -> Iterator[Error]:
        """Numbers of the output's units at a synapse that leads elsewhere."""
        found = None if junction.output is not None else next(_unsent(value), None)
        if found is not None:
            ends = [own.path for own in self.scheme.junctions if own.output is not None]
            last = (
                f"teach the last layer alone: `train {ends[-1]}.* {{ learn = {self.own.name} }}`; "
                if ends
                else ""
            )
            help_text = (
                f"{last}a rule of your own can send it: `feedback B: output -> post = normal(std = 0.1)` "
                f"and `B({found.name})`"
            )
            yield OutputElsewhere(
                found.span,
                _at(junction.span, f"the synapse `{junction.path}`"),
                rule=self.own.name,
                word=found.name,
                path=junction.path,
                help=help_text,
            )

    def matrix(self, junction: Junction, value: Sum) -> Iterator[Error]:
        """Sums along target units, and pairs of units, need a matrix."""
        found = next((a for a in atoms(value) if a.word in ("running", "dense")), None)
        axes = len(junction.drive.axes)
        if found is not None and (not junction.matrix or (found.word == "dense" and axes != 1)):
            why = f"`{found.word}` needs a matrix between two lists of units, and `{junction.path}` is another map"
            yield RuleShapes(
                junction.span,
                _at(found.span),
                why=why,
                label="this map",
                expected="a matrix",
                found=f"{junction.primitive.operation} that gives {junction.drive}",
                help=None,
            )

    def both_ways(self, junction: Junction, value: Sum) -> Iterator[Error]:
        """Words that a weight which is used both ways has for one of its uses alone."""
        if not junction.both or junction.within or is_even(value):
            return
        found = next((a for a in atoms(value) if a.word == "read" and a.name not in _TURNED), None)
        if found is not None:
            why = f"`{junction.path}` is used both ways: the units on its other side have no `{found.name}` of their own here"
            yield RuleMisfit(
                found.span,
                _at(junction.span, f"the connection `{junction.path}`"),
                rule=self.own.name,
                word=found.name,
                why=why,
                label="of one side alone",
                help="of both sides there are `pre`, `post` and `post.change`",
            )

    def feedback(self, junction: Junction, value: Sum) -> Iterator[Error]:
        """Feedback that does not meet the junction."""
        used = {a.name for a in atoms(value) if a.word == "sent"}
        for line in self.own.feedback:
            if line.source == "module" and line.name in used and junction.end is None:
                yield RuleShapes(
                    junction.span,
                    _at(line.span, "the feedback"),
                    why=f"the module around `{junction.path}` gives several values, and its error is not one",
                    label="in a module with several outputs",
                    help=None,
                )
            elif line.name in used:
                try:
                    route(line, junction, self.scheme, self.own.reader)
                except Refused as refused:
                    if refused.error is not None:
                        yield refused.error


def _unsent(value: Sum) -> Iterator[Atom]:
    """Yield what is read of the output and does not go through feedback."""
    for term in value:
        for atom, _ in term.factors:
            if atom.word == "read" and atom.spaces == _OUTPUT:
                yield atom
            elif atom.word != "sent":
                for inner in atom.of:
                    yield from _unsent(inner)


def _at(span: Span | None, label: str = "the rule reads it here") -> tuple[Related, ...]:
    return () if span is None else (Related(span=span, label=label),)


def _listed(names: tuple[str, ...] | frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
