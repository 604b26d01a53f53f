"""`push = vjp(s - rest.s) - jvp(s - rest.s)`: what a phase adds to what drives the units.

In: the expression as written, with the rule's parameters as numbers. Out: a function of the states. `s` is the
state of a unit, `rest.s` that of a former phase; `incoming(e)` is sum_i W_ij e_i over the units i that lead to j,
`outgoing(e)` is sum_j W_ij e_j over those that i leads to, `W` the weights of all connections together. `jvp(e)` is J e
and `vjp(e)` is J' e, J the Jacobian of what drives the units by their states, at the states with which the phase begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.dsl.node import Node
from nnspec.dsl.rule_words import PUSHED
from nnspec.dsl.syntax import Binary, CallOf, Conditional, Expression, Member, Name, Number, Unary

if TYPE_CHECKING:
    from torch import Tensor

    States: TypeAlias = tuple[Tensor, ...]
    Value: TypeAlias = "float | States"

OPERATORS = ("+", "-", "*", "/")


class Push(Node):
    """An expression of the states, and the numbers that parameters of the rule stand for."""

    expression: Expression
    numbers: tuple[tuple[str, float], ...] = ()

    def of(
        self, system: Any, given: Any, begin: States, phases: Mapping[str, States]
    ) -> Callable[[States], tuple[Tensor, ...]]:
        """Return the push as a function of the states, of a system with what no step changes; a phase begins at `begin`."""
        reader = _Reader(system, given, begin, phases, dict(self.numbers))
        return lambda states: reader.states(self.expression, states)

    @property
    def phases(self) -> frozenset[str]:
        """The former phases whose states it reads."""
        return frozenset(_phases(self.expression))


def misread(expression: Expression, reader: Any, phases: tuple[str, ...]) -> Expression | None:
    """Return the first part of a push that has no meaning there; `phases` are those whose states it may read."""
    if isinstance(expression, Conditional):  # as a whole: a push that a parameter makes nothing
        return misread(expression.value, reader, phases) or misread(expression.otherwise, reader, phases)
    known = reader.plain(expression)
    if known is not None:
        return None if isinstance(known, int | float) else expression
    match expression:
        case Name(name="s"):
            return None
        case Member(of=Name(name=phase), name="s"):
            return None if phase in phases else expression
        case Unary(operator="+" | "-", operand=operand):
            return misread(operand, reader, phases)
        case Binary(operator=operator, left=left, right=right) if operator in OPERATORS:
            return misread(left, reader, phases) or misread(right, reader, phases)
        case CallOf(function=Name(name=word), arguments=(argument,)) if word in PUSHED:
            return misread(argument.value, reader, phases)
        case _:
            return expression


class _Reader:
    def __init__(
        self,
        system: Any,
        given: Any,
        begin: States,
        phases: Mapping[str, States],
        numbers: Mapping[str, float],
    ) -> None:
        self.system = system
        self.given = given
        self.begin = begin
        self.phases = phases
        self.numbers = numbers

    def states(self, expression: Expression, states: States) -> States:
        found = self.value(expression, states)
        return found if isinstance(found, tuple) else tuple(s.new_full(s.shape, found) for s in states)

    def value(self, expression: Expression, states: States) -> Value:
        match expression:
            case Number(value=value):
                return float(value)
            case Name(name="s"):
                return states
            case Name(name=name):
                return self.numbers[name]
            case Member(of=Name(name=phase), name="s"):
                return self.phases[phase]
            case Unary(operator=operator, operand=operand):
                value = self.value(operand, states)
                return value if operator == "+" else _each("*", -1.0, value)
            case Binary(operator=operator, left=left, right=right):
                return _each(operator, self.value(left, states), self.value(right, states))
            case CallOf(function=Name(name=word), arguments=(argument,)):
                return self.sent(word, self.states(argument.value, states), states)
            case _:
                raise TypeError(f"{type(expression).__name__} has no meaning in a push")

    def sent(self, word: str, e: States, at: States) -> States:
        """Return what values come to over the connections, or through the Jacobian."""
        match word:
            case "incoming":
                return self.system.incoming(self.given, e, at=at)
            case "outgoing":
                return self.system.outgoing(self.given, e, at=at)
            case "jvp":
                return self.slopes.jvp(e)
            case _:
                return self.slopes.vjp(e)

    @cached_property
    def slopes(self) -> Any:
        from nnspec.compiler.emit.slopes import Slopes

        return Slopes(self.system, self.given, self.begin)


def _each(operator: str, left: Value, right: Value) -> Value:
    if not isinstance(left, tuple) and not isinstance(right, tuple):
        return _result(operator, left, right)
    count = len(left) if isinstance(left, tuple) else len(right) if isinstance(right, tuple) else 0
    pairs = zip(_spread(left, count), _spread(right, count), strict=True)
    return tuple(_result(operator, a, b) for a, b in pairs)


def _spread(value: Value, count: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * count


def _result(operator: str, left: Any, right: Any) -> Any:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right


def _phases(expression: Expression) -> list[str]:
    match expression:
        case Member(of=Name(name=phase), name="s"):
            return [phase]
        case Unary(operand=operand):
            return _phases(operand)
        case Binary(left=left, right=right):
            return _phases(left) + _phases(right)
        case CallOf(arguments=arguments):
            return [phase for argument in arguments for phase in _phases(argument.value)]
        case _:
            return []
