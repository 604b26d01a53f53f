"""Evaluates the statements of one body into a block under construction.

In: a `BlockBuilder` with its scope. Names were checked by `bind`; what is found here has to do with
values: counts, kinds, conditions, arithmetic. A refused statement leaves its names unknown, and the
next statement goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler import arithmetic
from nnspec.compiler.evaluate_expression import ExpressionEvaluator
from nnspec.compiler.evaluate_owned import owned, penalty, update
from nnspec.compiler.following import follower, is_follow
from nnspec.compiler.ir import Axis, Law, Type
from nnspec.compiler.systems.system import System
from nnspec.compiler.values import (
    UNKNOWN,
    Layer,
    Refused,
    Value,
    describe,
    entries,
    source_text,
)
from nnspec.dsl.definitions import Constant
from nnspec.dsl.dimensions import Dim, symbol
from nnspec.dsl.errors.arguments import ConditionNotKnown, WrongArgument, WrongValueCount
from nnspec.dsl.errors.names import NotALayer, NotAValue
from nnspec.dsl.errors.shapes import RequirementFailed
from nnspec.dsl.syntax import (
    Assignment,
    Binary,
    Boolean,
    Connect,
    Expression,
    Input,
    Name,
    Number,
    Output,
    Parameter,
    Penalty,
    Require,
    Shared,
    State,
    Statement,
    Text,
    Unary,
    UpdateBuffer,
    UseDynamics,
    WrittenType,
)

if TYPE_CHECKING:
    pass

_MOST_COPIES = 100_000
_RELATIONS = ("==", "!=", "<=", ">=", "<", ">")


class Evaluator(ExpressionEvaluator):
    """Evaluates the statements of one body."""

    # ------------------------------------------------------------------------------------------ statements

    def statements(self, body: tuple[Statement, ...]) -> None:
        if any(isinstance(statement, State) for statement in body):
            self.system().promised = any(isinstance(statement, UseDynamics) for statement in body)
        for statement in body:
            try:
                self.statement(statement)
            except Refused as refused:
                if refused.error is not None:
                    self.elaborator.report(refused.error)
                self.elaborator.failed = True
                if isinstance(statement, State | Connect | UseDynamics):
                    self.system().spoil(settles=isinstance(statement, UseDynamics))
                for name in _names(statement):
                    self.builder.scope[name] = UNKNOWN

    def statement(self, statement: Statement) -> None:
        match statement:
            case Input(name=name, type=written):
                declared = self.type(written)
                self.builder.scope[name] = self.builder.input(name, declared, statement.span)
            case Assignment():
                self.assign(statement)
            case Output():
                self.output(statement)
            case Shared(name=name, value=value):
                self.builder.scope[name] = self.shared(name, value)
            case Require():
                self.require(statement)
            case State(name=name):
                self.builder.scope[name] = self.system().state(self, statement)
            case Connect():
                self.system().connect(self, statement)
            case UseDynamics():
                self.system().settle(self, statement)
            case Parameter(name=name):
                self.builder.scope[name] = owned(self, statement)
            case UpdateBuffer():
                update(self, statement)
            case Penalty():
                penalty(self, statement)
            case _:
                pass  # constraints are laid on the finished block; claims are read by `fit`

    def system(self) -> System:
        """Return the system of the body, a new one if no line has spoken of it."""
        found = self.builder.system
        if found is None:
            found = self.builder.system = System(self.builder)
        return found

    def assign(self, statement: Assignment) -> None:
        value = self.expression(statement.value)
        if len(statement.names) > 1:
            self.assign_several(statement, value)
            return
        name = "".join(statement.names)  # one name: those of several were assigned above
        declared = None if statement.type is None else self.type(statement.type)
        if isinstance(value, Value):
            self.builder.name_value(value, name)
            if declared is not None:
                span = statement.type.span if statement.type else statement.span
                self.builder.ascriptions.append((value, declared, span))
        elif declared is not None:
            raise Refused(NotAValue(statement.value.span, name=name, found=describe(value)))
        self.builder.scope[name] = value

    def assign_several(self, statement: Assignment, value: Any) -> None:
        names = statement.names
        values = entries(value) or (value,)
        found = len(values)
        if found != len(names):
            noun = "value" if found == 1 else "values"
            error = WrongValueCount(
                statement.value.span, expected=f"{len(names)} values", found=f"{found} {noun}"
            )
            raise Refused(error)
        for name, item in zip(names, values, strict=True):
            if isinstance(item, Value):
                self.builder.name_value(item, name)
            self.builder.scope[name] = item

    def output(self, statement: Output) -> None:
        if statement.value is None:
            raise Refused
        value = self.tensor(statement.value)
        self.builder.name_value(value, statement.name)
        declared = None if statement.type is None else self.type(statement.type)
        span = statement.type.span if statement.type else statement.span
        self.builder.outputs.append((statement.name, value, declared, span))
        self.builder.scope[statement.name] = value

    def shared(self, name: str, expression: Expression) -> Layer:
        if is_follow(expression, self.builder.module):
            return follower(self, name, expression)
        layer = self.expression(expression)
        if not isinstance(layer, Layer):
            raise Refused(NotALayer(expression.span, name=name, found=describe(layer)))
        return self.elaborator.callables.share(self.builder, name, layer, expression.span)

    def require(self, statement: Require) -> None:
        for condition in _conjuncts(statement.condition):
            self.require_one(condition, statement.message)

    def require_one(self, condition: Expression, message: str | None) -> None:
        if isinstance(condition, Binary) and condition.operator in _RELATIONS:
            left, right = self.expression(condition.left), self.expression(condition.right)
            if isinstance(left, Dim) or isinstance(right, Dim):
                self.law(condition, left, right, message)
                return
            holds = arithmetic.calculate(condition.operator, left, right, condition.span)
            values = _values((condition.left, left), (condition.right, right))
        else:
            holds = self.expression(condition)
            values = "is false"
        if not isinstance(holds, bool):
            raise Refused(ConditionNotKnown(condition.span, found=describe(holds), help=None))
        if not holds:
            text = message or f"`{source_text(condition)}` does not hold"
            raise Refused(RequirementFailed(condition.span, message=text, values=values))

    def law(self, condition: Binary, left: Any, right: Any, message: str | None) -> None:
        for value in (left, right):
            if not isinstance(value, int | Dim):
                raise Refused(ConditionNotKnown(condition.span, found=describe(value), help=None))
        law = Law(
            left=left,
            relation=condition.operator,
            right=right,
            text=f"`{source_text(condition)}`",
            message=message,
            span=condition.span,
        )
        self.builder.laws.append(law)

    # ----------------------------------------------------------------------------------------------- types

    def type(self, written: WrittenType) -> Type:
        return Type(axes=tuple(self.axis(axis) for axis in written.axes or ()), dtype=written.name)

    def axis(self, axis: Any) -> Axis:
        if axis.rest or axis.size is None:
            return Axis(size=0, rest=True)
        size = self.dimension(axis.size)
        name = axis.name or (axis.size.name if isinstance(axis.size, Name) else None)
        if name is not None:
            self.builder.dimensions.add(name)
            self.builder.scope.setdefault(name, size)
        if isinstance(size, int) and size < 1:
            from nnspec.dsl.errors.shapes import EmptySize

            raise Refused(EmptySize(axis.span, what="this axis", size=size))
        return Axis(size=size, name=name)

    def dimension(self, expression: Expression) -> Any:
        """A size in a declared type; names that nothing defines are symbolic dimensions."""
        for name in _free_names(expression):
            if name not in self.builder.scope and not isinstance(
                self.builder.module.names.get(name), Constant
            ):
                self.builder.scope[name] = symbol(name)
        size = self.expression(expression)
        if not isinstance(size, int | Dim) or isinstance(size, bool):
            why = f"the size of an axis is a whole number, not {describe(size)}"
            raise Refused(WrongArgument(expression.span, callee="type", why=why, found=describe(size)))
        return size


def _names(statement: Statement) -> tuple[str, ...]:
    if isinstance(statement, UpdateBuffer | Penalty):
        return ()
    if isinstance(statement, Assignment):
        return statement.names
    name = getattr(statement, "name", None)
    return (name,) if isinstance(name, str) else ()


def _conjuncts(expression: Expression) -> list[Expression]:
    if isinstance(expression, Binary) and expression.operator == "and":
        return [*_conjuncts(expression.left), *_conjuncts(expression.right)]
    return [expression]


def _free_names(expression: Expression) -> list[str]:
    match expression:
        case Name(name=name):
            return [name]
        case Unary(operand=operand):
            return _free_names(operand)
        case Binary(left=left, right=right):
            return [*_free_names(left), *_free_names(right)]
        case _:
            return []


def _values(*sides: tuple[Expression, Any]) -> str:
    parts = [
        f"{source_text(side)} is {value}"
        for side, value in sides
        if not isinstance(side, Number | Text | Boolean)
    ]
    return ", ".join(parts) or "is false"
