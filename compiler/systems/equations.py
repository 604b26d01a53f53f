"""Writes the equations of dynamics out: one expression a unit becomes operations on whole states.

In: a definition of dynamics with its parameters, and the connections of a body whose states have begun. Out: for each
state the value of its next state or of its rate of change. An expression is read at a place, a state or a value that
drives one; what it is worth there is made once.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nnspec.compiler.evaluate_expression import ExpressionEvaluator
from nnspec.compiler.ir import Primitive
from nnspec.compiler.operators import apply_named, apply_operator
from nnspec.compiler.systems.functions import check_slope
from nnspec.compiler.systems.lines import Lines
from nnspec.compiler.systems.parts import End, Route, State
from nnspec.compiler.values import Given, Layer, Refused, Value, describe, source_text
from nnspec.dsl.bind_dynamics import answer_of, locals_of
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.systems import WrongTerm
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import CallOf, DynamicsDefinition, Expression, Name

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


class Equations(ExpressionEvaluator):
    """Evaluates the expressions of dynamics, each at a place."""

    def __init__(
        self,
        evaluator: Evaluator,
        definition: Definition,
        item: DynamicsDefinition,
        parameters: dict[str, Any],
        routes: list[Route],
    ) -> None:
        super().__init__(evaluator.elaborator, evaluator.builder)
        self.definition = definition
        self.item = item
        self.parameters = parameters
        self.locals = locals_of(item)
        self.lines = Lines(self, routes)
        self.place: End | None = None
        self.known: dict[Any, Any] = {}

    def evaluate(self, states: tuple[State, ...]) -> tuple[tuple[Value, ...], Value | None]:
        """Return the next value or rate of each state and, where they descend an energy, the energy."""
        kind, answer = answer_of(self.item)
        ends = tuple(End(state.name, state, None, len(state.shape)) for state in states)
        with self.in_definition():
            if kind == "energy":
                return self.descent(ends, answer)
            found = tuple(self.unit_value(end, answer) for end in ends)
        what = "rate" if kind == "flow" else "next"
        for state, value in zip(states, found, strict=True):
            self.builder.rename(value, f"{state.name}_{what}")
        return found, None

    @contextmanager
    def in_definition(self) -> Generator[None]:
        """Read names as the definition does."""
        builder = self.builder
        scope, module = builder.scope, builder.module
        builder.scope, builder.module = dict(self.parameters), self.definition.module
        try:
            yield
        finally:
            builder.scope, builder.module = scope, module

    def unit_value(self, end: End, expression: Expression) -> Value:
        """Return the value of an expression at a place, which must have one for every unit."""
        found = self.at(end, expression)
        if isinstance(found, Value):
            return found
        if isinstance(found, int | float) and not isinstance(found, bool):
            return self.full(end.now, found, expression.span)
        why = f"it is {describe(found)}, and not a number for each unit"
        raise Refused(
            WrongTerm(expression.span, text=source_text(expression), why=why, help="use `s` and `drive`")
        )

    def at(self, end: End, expression: Expression) -> Any:
        """Return what an expression is worth at a place."""
        key = (end.key, expression)
        if key not in self.known:
            outside, self.place = self.place, end
            try:
                self.known[key] = self.expression(expression)
            finally:
                self.place = outside
        return self.known[key]

    def full(self, like: Value, number: float, span: Span | None, *, single: bool = False) -> Value:
        arguments = (("single", single), ("value", float(number)))
        primitive = Primitive(operation="full", arguments=arguments, span=span)
        return self.builder.apply("full", primitive, (like,), 1, span)[0]

    # ----------------------------------------------------------------------------------------------- words

    def name(self, expression: Name) -> Any:
        place, name = self.place, expression.name
        if place is None or name in self.parameters:
            return super().name(expression)
        if name in self.locals:
            found = self.at(place, self.locals[name])
        elif name == "drive":
            found = self.drive(place, expression.span)
        elif name == "s":
            return place.now
        elif name == "bias":
            return self.bias(place, expression)
        else:
            return super().name(expression)
        if name == "drive" and place.state is not None and isinstance(found, Value):
            if place.state.driven is None:
                self.builder.rename(found, f"{place.state.name}_drive")
            place.state.driven = found
        return found

    def bias(self, place: End, expression: Name) -> Value:
        state = place.state
        if state is None:
            why = f"`{place.name}` is no state, and has none"
            help_text = "read the bias outside `incoming(..)`, where the unit itself is meant"
            raise Refused(WrongTerm(expression.span, text="bias", why=why, help=help_text))
        if state.bias is None:
            primitive = Primitive(operation="bias", arguments=(("shape", state.bias_shape),), span=state.span)
            child = self.builder.add_child(state.name, (primitive,), state.span)
            (state.bias,) = self.builder.call(child, (), 1, state.span)
            self.builder.rename(state.bias, f"{state.name}_bias")
        return state.bias

    def drive(self, place: End, span: Span) -> Any:
        """`drive` is incoming(s) + bias, unless the dynamics say what it is."""
        arrives = self.arriving(place, Name(name="s", span=span), span)
        return self.add(arrives, self.bias(place, Name(name="bias", span=span)), span)

    def call(self, expression: CallOf) -> Any:
        function = expression.function
        word = function.name if isinstance(function, Name) else ""
        if word in self.parameters or self.place is None:
            return super().call(expression)
        match word:
            case "incoming":
                return self.arriving(self.place, expression.arguments[0].value, expression.span)
            case "outgoing":
                return self.leaving(self.place, expression.arguments[0].value, expression.span)
            case "derivative":
                return self.slope(expression)
            case _:
                key = (self.place.key, expression)
                if key not in self.known:
                    self.known[key] = super().call(expression)
                return self.known[key]

    def arriving(self, place: End, expression: Expression, span: Span) -> Any:
        if place.state is None:
            why = f"at `{place.name}`, which is no state, nothing arrives"
            help_text = "read `s` or functions of `s` inside `incoming(..)`"
            raise Refused(WrongTerm(span, text=source_text(expression), why=why, help=help_text))
        return self.total(self.lines.arriving(place.state, expression), span)

    def leaving(self, place: End, expression: Expression, span: Span) -> Any:
        if self.lines.once:
            why = "in an energy each connection is counted once, where it arrives"
            raise Refused(WrongTerm(span, text="outgoing", why=why, help="use `incoming(..)`"))
        return self.total(self.lines.leaving(place, expression), span)

    def total(self, parts: list[Value], span: Span) -> Any:
        found: Any = 0
        for part in parts:
            found = self.add(found, part, span)
        return found

    def add(self, left: Any, right: Any, span: Span) -> Any:
        if isinstance(left, int | float) and left == 0:
            return right
        return apply_operator(self.elaborator, self.builder, "+", left, right, span)

    def slope(self, expression: CallOf) -> Value:
        """`derivative(f, e)`: the slope of a function of entries at e."""
        function, where = (argument.value for argument in expression.arguments)
        layer, value = self.expression(function), self.expression(where)
        if not isinstance(layer, Layer) or not isinstance(value, Value):
            why = "it takes a function of entries, and a number of each unit"
            help_text = "write `derivative(rate, s)`, `rate` a parameter of type activation"
            raise Refused(WrongTerm(expression.span, text=source_text(expression), why=why, help=help_text))
        with self.builder.nested() as body:
            made = self.elaborator.callables.apply(
                self.builder, layer, (value,), (), layer.name, expression.span
            )
        if not isinstance(made, Value):
            raise Refused
        check_slope(self.builder, body, source_text(expression))
        cotangent = self.full(value, 1.0, expression.span)
        return self.lines.pulled("derivative", body, (value,), made, cotangent, expression.span)[0]

    # ---------------------------------------------------------------------------------------------- energy

    def descent(self, ends: tuple[End, ...], energy: Expression) -> tuple[tuple[Value, ...], Value]:
        """Return minus the slope, in every state, of the sum of the energies of all units; and that sum."""
        self.lines.once = True
        with self.builder.nested() as body:
            total: Any = 0
            for end in ends:
                units = self.unit_value(end, energy)
                assert end.rank is not None
                axes = tuple(range(end.rank))
                total = self.add(total, self.summed(units, axes, energy.span), energy.span)
        assert isinstance(total, Value)
        self.builder.rename(total, "energy")
        cotangent = self.full(ends[0].now, -1.0, energy.span, single=True)
        states = tuple(end.now for end in ends)
        rates = self.lines.pulled("slope", body, states, total, cotangent, energy.span)
        for end, rate in zip(ends, rates, strict=True):
            self.builder.rename(rate, f"{end.name}_rate")
        return rates, total

    def summed(self, value: Value, axes: tuple[int, ...], span: Span) -> Value:
        given = (Given(name="axis", value=axes, expression=None, span=span),)
        return apply_named(self.elaborator, self.builder, "sum", (value,), given, span)
