"""`push = outgoing(s - rest.s) - incoming(s - rest.s)`: what a phase adds to the drives of all units.

In: the expression as written, with the rule's parameters as numbers. Out: a function of the states. `s` is the
state of a unit, `rest.s` that of a former phase; `incoming(e)` is sum_i W_ij e_i over the units i that lead to j,
`outgoing(e)` is sum_j W_ij e_j over those that i leads to, `W` the weights of all connections together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.dsl.node import Node
from nnspec.dsl.syntax import Binary, CallOf, Expression, Member, Name, Number, Unary

if TYPE_CHECKING:
    from torch import Tensor

    States: TypeAlias = tuple[Tensor, ...]
    Value: TypeAlias = "float | States"

OPERATORS = ("+", "-", "*", "/")
WORDS = ("incoming", "outgoing")


class Push(Node):
    """An expression of the states, and the numbers that parameters of the rule stand for."""

    expression: Expression
    numbers: tuple[tuple[str, float], ...] = ()

    def of(
        self, system: Any, given: Any, phases: Mapping[str, States]
    ) -> Callable[[States], tuple[Tensor, ...]]:
        """Return the push as a function of the states, of a system with what no step changes."""
        reader = _Reader(system, given, phases, dict(self.numbers))
        return lambda states: reader.states(self.expression, states)

    @property
    def phases(self) -> frozenset[str]:
        """The former phases whose states it reads."""
        return frozenset(_phases(self.expression))


class _Reader:
    def __init__(
        self, system: Any, given: Any, phases: Mapping[str, States], numbers: Mapping[str, float]
    ) -> None:
        self.system = system
        self.given = given
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
                map_ = self.system.incoming if word == "incoming" else self.system.outgoing
                return map_(self.given, self.states(argument.value, states), at=states)
            case _:
                raise TypeError(f"{type(expression).__name__} has no meaning in a push")


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
