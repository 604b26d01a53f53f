"""The system of one body: collects its states and connections, and settles them at the `dynamics` line.

In: the `state`, `connect` and `dynamics` lines of a body, in order. Out: an `ir.Loop` in the block under
construction, whose results are the values of the states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler import solvers
from nnspec.compiler.block_builder import BlockBuilder, Line, finished
from nnspec.compiler.evaluate_owned import word
from nnspec.compiler.ir import Carried, Connection, Loop, Statement, Word
from nnspec.compiler.parameters import bind_parameters
from nnspec.compiler.systems.connecting import connected
from nnspec.compiler.systems.equations import Equations
from nnspec.compiler.systems.functions import check_functions
from nnspec.compiler.systems.parts import Route, State
from nnspec.compiler.values import UNKNOWN, Refused, Value, describe, entries
from nnspec.dsl.bind import duplicate
from nnspec.dsl.bind_dynamics import dynamics_definition, form_of, split_arguments
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.systems import (
    ConnectionUnread,
    NoDynamics,
    NoStates,
    NothingArrives,
    OneSided,
    SecondDynamics,
    StateStart,
    StateType,
    StateUnsettled,
    WrongSolver,
)
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import CallOf, Connect, DynamicsDefinition, Expression, Name, UseDynamics
from nnspec.dsl.syntax import State as StateLine

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator

_SOLVERS = {"map": ("fixed_point", "anderson", "broyden"), "flow": ("euler", "rk4")}
_FORMS = {"map": "a map, `s = ..`", "flow": "a flow, `s' = ..`"}


class System:
    """The states and connections of one body."""

    def __init__(self, builder: BlockBuilder) -> None:
        self.builder = builder
        self.states: dict[str, State] = {}
        self.routes: list[Route] = []
        self.settled: Span | None = None
        self.broken = False  # a line of it was refused
        self.promised = True  # a line of the body lets the states settle

    def spoil(self, *, settles: bool) -> None:
        """Remember that a line was refused; the states that it would have settled stay unknown."""
        self.broken = True
        if settles:
            self.builder.scope.update(dict.fromkeys(self.states, UNKNOWN))

    def state(self, evaluator: Evaluator, statement: StateLine) -> State:
        """Return a new state; `state NAME: TYPE = START`."""
        name = statement.name
        taken, first = self.builder.instance_span(name)
        if taken:
            raise Refused(duplicate(name, statement.span, first))
        if self.settled is not None:
            raise Refused(_too_late(statement.span, self.settled, name))
        declared = evaluator.type(statement.type)
        whole = all(isinstance(size, int) for size in declared.shape)
        if declared.dtype != "real" or not declared.axes or not whole:
            why, help_text = "its neurons are real numbers", "write `real[n]`"
            if declared.dtype == "real":
                why, help_text = (
                    "its sizes must be known numbers",
                    "make the size a parameter: `(n: int = 50)`",
                )
            if not declared.axes:
                why, help_text = "it has no axis", f"write `state {name}: real[1]` for a single neuron"
            raise Refused(StateType(statement.type.span, name=name, why=why, help=help_text))
        made = State(name, declared, _start(evaluator, statement), statement.span)
        self.states[name] = made
        return made

    def connect(self, evaluator: Evaluator, statement: Connect) -> None:
        """Add the connection of a `connect` line."""
        if self.settled is not None:
            raise Refused(_too_late(statement.span, self.settled, statement.targets[0]))
        self.routes.append(connected(evaluator, statement, self.states))

    def settle(self, evaluator: Evaluator, statement: UseDynamics) -> None:
        """Add the loop of a `dynamics` line; the states get their settled values."""
        if self.settled is not None:
            related = (Related(span=self.settled, label="the first one"),)
            raise Refused(SecondDynamics(statement.span, related, name=self.builder.name))
        self.settled = statement.span
        if self.broken:
            raise Refused
        definition = dynamics_definition(self.builder.module, statement.value)
        if definition is None:
            raise Refused
        own, reserved = split_arguments(statement.value)
        given = tuple(evaluator.given(argument) for argument in own)
        with evaluator.elaborator.entered(definition, statement.span):
            self.check_reached(statement)
            options = self.options(evaluator, definition, statement.value, reserved)
            parameters = bind_parameters(evaluator.elaborator, definition, given, statement.span)
            self.loop(evaluator, definition, parameters, options, statement.span)

    def check_reached(self, statement: UseDynamics) -> None:
        """Every state is driven by something."""
        reached = {id(state) for route in self.routes for state in route.targets}
        reached |= {id(e.state) for route in self.routes if route.both for e in route.sources if e.state}
        sources = [port for port, _, _, _ in self.builder.inputs]
        for state in self.states.values():
            if id(state) not in reached:
                near = next((s for s in [*sources, *self.states] if s != state.name), "x")
                raise Refused(NothingArrives(state.span, name=state.name, source=near))
        if not self.states:
            raise Refused(NoStates(statement.span, name=self.builder.name))

    def loop(
        self,
        evaluator: Evaluator,
        definition: Definition,
        parameters: dict[str, Any],
        options: _Options,
        span: Span,
    ) -> None:
        states = tuple(self.states.values())
        item = definition.item
        assert isinstance(item, DynamicsDefinition)
        for state in states:
            state.before = self.builder.value(f"{state.name}_before")
        there = len(self.builder.children)
        with self.builder.nested() as body:
            equations = Equations(evaluator, definition, item, parameters, self.routes)
            after, energy = equations.evaluate(states)
        check_functions(self.builder, self.builder.children[there:], body, set(self.states))
        if energy is not None:
            self.check_two_sided(definition)
        for route in self.routes:
            if route.taken is None:
                related = (Related(span=route.span, label="this connection"),)
                raise Refused(ConnectionUnread(definition.span, related, name=definition.name))
        results = tuple(self.builder.value(state.name) for state in states)
        for state, result in zip(states, results, strict=True):
            self.builder.name_value(result, state.name)
            self.builder.scope[state.name] = result
        name = self.builder.instance_name(definition.name)
        draft = _LoopDraft(name, options, states, after, results, body, tuple(self.routes), energy, span)
        self.builder.body.append((draft, (), results))

    def check_two_sided(self, definition: Definition) -> None:
        for route in self.routes:
            if not route.both and any(end.state is not None for end in route.sources):
                related = (Related(span=definition.span, label="these dynamics"),)
                raise Refused(OneSided(route.span, related, name=definition.name))

    def options(
        self, evaluator: Evaluator, definition: Definition, use: Expression, reserved: dict[str, Expression]
    ) -> _Options:
        """Return how the loop is solved, from the arguments that all dynamics take."""
        form = form_of(definition)
        words: dict[str, Word] = {
            "solve": solvers.default_word("fixed_point" if form == "map" else "euler"),
            "gradient": solvers.default_word("ift"),
        }
        families = {"solve": solvers.SOLVER, "gradient": solvers.GRADIENT}
        for name, family in families.items():
            if name in reserved:
                words[name] = word(evaluator, reserved[name], family)
        chosen = words["solve"]
        if form == "map" and chosen.name in _SOLVERS["flow"]:
            names = ", ".join(f"`{name}`" for name in _SOLVERS[form])
            raise Refused(
                WrongSolver(
                    chosen.span,
                    (Related(span=definition.span, label="these dynamics"),),
                    solver=chosen.name,
                    other=_FORMS["flow"],
                    name=definition.name,
                    form=_FORMS[form],
                    help=f"choose among {names}",
                )
            )
        clip = _clip(evaluator, reserved["clip"]) if "clip" in reserved else None
        return _Options(
            form=form, solver=chosen, gradient=solvers.following(words["gradient"], chosen), clip=clip
        )

    def check(self) -> None:
        """Refuse a body whose states nothing settles."""
        if self.settled is None and self.states and not self.broken:
            first = next(iter(self.states.values()))
            raise Refused(NoDynamics(first.span, name=first.name))


class _Options(Node):
    form: str
    solver: Word
    gradient: Word
    clip: tuple[float, float] | None


class _LoopDraft:
    """A loop whose names are settled when its block is done."""

    def __init__(
        self,
        name: str,
        options: _Options,
        states: tuple[State, ...],
        after: tuple[Value, ...],
        results: tuple[Value, ...],
        body: list[Line],
        routes: tuple[Route, ...],
        energy: Value | None,
        span: Span | None,
    ) -> None:
        self.name = name
        self.options = options
        self.states = states
        self.after = after
        self.results = results
        self.body = body
        self.routes = routes
        self.energy = energy
        self.span = span

    def finish(self) -> Statement:
        """Return the loop."""
        options = self.options
        return Loop(
            name=self.name,
            form=options.form,
            carried=tuple(
                Carried(
                    name=state.name,
                    before=state.before.name if state.before else "",
                    after=after.name,
                    result=result.name,
                    declared=state.declared,
                    driven=state.driven.name if state.driven and options.form == "map" else None,
                    start=state.start,
                    span=state.span,
                )
                for state, after, result in zip(self.states, self.after, self.results, strict=True)
            ),
            body=finished(self.body),
            solver=options.solver,
            gradient=options.gradient,
            connections=tuple(
                Connection(
                    child=route.child,
                    sources=tuple(end.now.name for end in route.sources),
                    targets=tuple(state.name for state in route.targets),
                    both=route.both,
                    taken=route.taken.name if route.taken else "",
                    given=route.given.name if route.given else "",
                    span=route.span,
                )
                for route in self.routes
            ),
            clip=options.clip,
            energy=self.energy.name if self.energy else None,
            span=self.span,
        )


def _too_late(span: Span | None, settled: Span, name: str) -> StateUnsettled:
    related = (Related(span=settled, label="the states settle here"),)
    help_text = "write it above the `dynamics` line, where all states settle together"
    return StateUnsettled(span, related, name=name, help=help_text)


def _start(evaluator: Evaluator, statement: StateLine) -> Word | None:
    """Return how a state begins; None for zeros."""
    value = statement.value
    if value is None:
        return None
    function = value.function if isinstance(value, CallOf) else value
    if isinstance(function, Name) and evaluator.elaborator.catalog.find("distribution", function.name):
        return word(evaluator, value, "distribution")
    found = evaluator.expression(value)
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise Refused(StateStart(value.span, name=statement.name, why=f"this is {describe(found)}"))
    return Word(name="constant", arguments=(("value", float(found)),), span=value.span)


def _clip(evaluator: Evaluator, expression: Expression) -> tuple[float, float]:
    value = evaluator.expression(expression)
    found = entries(value) or ()
    numbers = [float(item) for item in found if isinstance(item, int | float) and not isinstance(item, bool)]
    if len(numbers) != 2 or len(found) != 2 or not numbers[0] < numbers[1]:
        why = "`clip` takes two numbers, the smaller first, as in `clip = [0, 1]`"
        raise Refused(WrongArgument(expression.span, callee="dynamics", why=why, found=describe(value)))
    return numbers[0], numbers[1]
