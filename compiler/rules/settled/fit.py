"""Whether a rule whose phases settle fits a system: what it asks, inferred from its phases and updates.

Products of two states that settled under a nudge suppose an energy, so that every connection between states must be used both
ways. A nudge without a `push` must reach hidden units along connections. Complex nudges ask for holomorphic functions. In:
a rule's equations and what it is to learn under. Out: errors. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nnspec.compiler.ir import Graph, Loop, Word
from nnspec.compiler.rewrites.system import as_system, is_system
from nnspec.compiler.rules.setting import Setting
from nnspec.compiler.rules.settled.hearing import unheard
from nnspec.compiler.rules.settled.holomorphic import Kink, kink
from nnspec.compiler.rules.settled.nudging import is_complex
from nnspec.compiler.rules.settled.phases import Settle
from nnspec.compiler.rules.settled.pushes import misread
from nnspec.compiler.rules.settled.rest import jump, unlike_gradient
from nnspec.compiler.rules.settled.scheme import loop_of
from nnspec.compiler.rules.settled.way import read_phase
from nnspec.compiler.rules.written.equations import Equations
from nnspec.compiler.rules.written.terms import Term, atoms
from nnspec.compiler.runtime.continued import has_continuation
from nnspec.compiler.solvers import LEAPS, default_word
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.settling import (
    DirectedWeights,
    KinkedActivation,
    NoNudge,
    NoSuchStep,
    NotASystem,
    NoTeachingSignal,
    NudgeTooSmall,
    PushTerm,
    RateJumps,
    SumOverLeaps,
    UnlikeGradient,
)
from nnspec.dsl.rule_words import PUSHED

_ASYMMETRIC = "learn by the asymmetric rule, which fits any graph"
# What a number of a kind is known to, and the least nudge that leaves four digits of a difference.
_ROUNDING = {"float64": 2.2e-16, "float32": 1.2e-7, "bfloat16": 1.2e-7}
_DIGITS = 1e-4
_SETTLED = 1e-3  # residual below which a chain counts as settled that takes as many steps as the rule says


def settling(equations: Equations) -> tuple[Settle, ...]:
    """Return the phases of a rule that settle."""
    return tuple(read_phase(line, equations.reader) for line in equations.phases if line.way == "settle")


def mistakes(equations: Equations) -> Iterator[Error]:
    """Yield what is wrong by itself in how phases settle."""
    known: tuple[str, ...] = ()
    for line in equations.phases:
        push = line.options.get("push") if line.way == "settle" else None
        wrong = None if push is None else misread(push, equations.reader, known)
        if wrong is not None:
            yield PushTerm(
                wrong.span,
                text=wrong.span.text,
                phases="".join(f", `{name}.s`" for name in known),
                words=", ".join(f"`{name}(..)`" for name in PUSHED),
            )
        if "nudging" not in line.options:
            known = (*known, line.name)


def network(graph: Graph, equations: Equations) -> Graph:
    """Return the network as a rule reads it: a chain as a system, where its phases settle.

    A rule that pushes carries errors back by itself, so that the chain stays directed; for another each connection is used
    both ways. Raises Refused with the reason where the network is no chain.
    """
    phases = settling(equations)
    if not phases or is_system(graph):
        return graph
    return as_system(graph, all(phase.push is None for phase in phases), _solver(phases[0]))


def _solver(phase: Settle) -> Word:
    """Return how a chain settles, in the phases of a rule and where it is judged: as the first phase says."""
    word = default_word("fixed_point")
    if phase.steps is None and phase.damping is None:
        return word
    options = word.options | {"tolerance": _SETTLED}
    options |= {"steps": phase.steps or options["steps"], "damping": phase.damping or options["damping"]}
    return word.replace(arguments=tuple(sorted(options.items())))


def refusals(setting: Setting, equations: Equations) -> Iterator[Error]:
    """Yield what a system lacks that the rule needs, and what is hardly meant."""
    graph, span = setting.graph, setting.choice.span
    phases = settling(equations)
    for phase in phases:
        if phase.nudging is not None and not phase.nudge:
            yield NoNudge(span, rule=equations.name, phase=phase.name)
            return
    if phases and is_system(graph):
        yield from _unsolved(equations, phases, loop_of(graph), span)
    nudged = [phase for phase in phases if phase.nudge]
    if not nudged:
        return
    if not is_system(graph):
        why = "the experiment's own rule decides how it is read; name this rule there"
        yield NotASystem(span, rule=equations.name, network=graph.name, why=why)
        return
    yield from _directed(equations, graph, nudged, span)
    if all(phase.push is None for phase in nudged):
        yield from _without_signal(equations, graph, span)
    if any(phase.nudging is not None and is_complex(phase.nudging) for phase in nudged):
        yield from _kinked(equations, setting)
    yield from _restless(equations, graph, span)
    if any(phase.nudging is not None for phase in nudged) or _supposes_energy(equations, nudged):
        yield from _unlike(equations, graph, span)
    yield from _drowned(setting, nudged)


def _unsolved(equations: Equations, phases: Sequence[Settle], loop: Loop, span: Any) -> Iterator[Error]:
    """Yield what phases ask of the solver of a network that it cannot do."""
    name, options = loop.solver.name, loop.solver.options
    place = _here(loop.solver.span or loop.span, "these states settle")
    for phase in phases:
        given = {"dt": phase.dt, "damping": phase.damping}
        wrong = next(
            (word for word, value in given.items() if value is not None and word not in options), None
        )
        if wrong is not None:
            known = ", ".join(
                f"`{word}`" for word in options if word in ("steps", "dt", "damping", "tolerance")
            )
            yield NoSuchStep(
                span,
                related=place,
                rule=equations.name,
                phase=phase.name,
                option=wrong,
                solver=name,
                known=known,
            )
            return
    terms = (term for line in equations.updates for term in line.value)
    summed = next((term.steps for term in terms if term.steps and term.gathered == "sum"), None)
    if name in LEAPS and summed is not None:
        follows = "euler" if loop.form == "flow" else "fixed_point"
        yield SumOverLeaps(
            span, related=place, rule=equations.name, phase=summed, solver=name, follows=follows
        )


def _restless(equations: Equations, graph: Graph, span: Any) -> Iterator[Error]:
    found = jump(graph)
    if found is None:
        return
    at = found.at
    help_text = f"take a smooth function in the place of `{found.name}`, such as `sigmoid`"
    if at:
        low, high = (min(at), max(at)) if len(at) > 1 else (sum(at), sum(at) + 1)
        help_text = f"keep the states beside it, `clip = [{low:g}, {high:g}]`, or {help_text}"
    yield RateJumps(
        span,
        related=_here(found.span, "these states settle"),
        rule=equations.name,
        function=found.name,
        places=f", at {' and '.join(f'{kink:g}' for kink in at)}" if at else "",
        help=help_text,
    )


def _unlike(equations: Equations, graph: Graph, span: Any) -> Iterator[Error]:
    why = unlike_gradient(graph)
    if why is not None:
        yield UnlikeGradient(
            span, related=_here(loop_of(graph).span, "in these dynamics"), rule=equations.name, why=why
        )


def _here(span: Any, label: str) -> tuple[Related, ...]:
    return () if span is None else (Related(span=span, label=label),)


def _drowned(setting: Setting, nudged: Sequence[Settle]) -> Iterator[Error]:
    eps = _ROUNDING[setting.precision]
    for phase in nudged:
        beta = abs(phase.nudge)
        if beta and eps / beta > _DIGITS:
            digits = max(0, len(str(int(beta / eps))) - 1)
            help_text = 'take a larger nudge, or `precision = "float64"`'
            if setting.precision == "float64":
                help_text = "take a larger nudge"
            yield NudgeTooSmall(
                setting.choice.span,
                beta=beta,
                precision=setting.precision,
                digits=f"{digits or 'no'} correct digit{'s' * (digits > 1)}",
                eps=eps,
                help=help_text,
            )
            return


def _directed(equations: Equations, graph: Graph, nudged: Sequence[Settle], span: Any) -> Iterator[Error]:
    if any(phase.push is not None for phase in nudged) or not _supposes_energy(equations, nudged):
        return
    loop = loop_of(graph)
    states = {state.before for state in loop.carried}
    for connection in loop.connections:
        if not connection.both and states & set(connection.sources):
            help_text = f"write `<->` for `{connection.child}`, or {_ASYMMETRIC}"
            yield DirectedWeights(
                span,
                related=_here(connection.span, "this connection leads one way"),
                rule=equations.name,
                path=f"{connection.child}.weight",
                help=help_text,
            )
            return


def _supposes_energy(equations: Equations, nudged: Sequence[Settle]) -> bool:
    """Whether weights change by products of two states of one nudged phase, not summed over its steps."""
    names = {phase.name for phase in nudged}
    return any(_multiplies(term, names) for term in equations.update("weight"))


def _multiplies(term: Term, nudged: set[str]) -> bool:
    if term.steps and term.gathered == "sum":
        return False
    read = {(atom.phase or term.steps, atom.name) for atom in atoms((term,)) if atom.word == "read"}
    return any((name, "pre") in read and (name, "post") in read for name in nudged)


def _without_signal(equations: Equations, graph: Graph, span: Any) -> Iterator[Error]:
    silent = unheard(graph)
    if not silent:
        return
    names = ", ".join(f"`{name}`" for name in silent)
    yield NoTeachingSignal(
        span,
        related=tuple(
            Related(span=state.span, label="hears nothing of the loss")
            for state in loop_of(graph).carried
            if state.name in silent and state.span is not None
        ),
        rule=equations.name,
        states=names,
        what="it" if len(silent) == 1 else "them",
        help=f"{_ASYMMETRIC}, or let connections lead back",
    )


def _kinked(equations: Equations, setting: Setting) -> Iterator[Error]:
    found = kink(setting.graph)
    help_text = "use a smooth function such as tanh or sigmoid, or another way of nudging: `centered`"
    if found is None and not has_continuation(setting.loss):
        found = Kink(f"`{setting.loss.name}` is not continued to complex outputs", None)
        help_text = "use `mean_squared_error` or `cross_entropy`, or another way of nudging: `centered`"
    if found is not None:
        yield KinkedActivation(
            setting.choice.span,
            related=_here(found.span, "here, in the network"),
            rule=equations.name,
            why=found.why,
            help=help_text,
        )
