"""Evaluates the statements and expressions of one body into a block under construction.

In: a `BlockBuilder` with its scope. Names were checked by `bind`; what is found here has to do with
values: counts, kinds, conditions, arithmetic. A refused statement leaves its names unknown, and the
next statement goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler import arithmetic
from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.ir import Axis, Law, Type
from nnspec.compiler.operators import apply_index, apply_operator, negate_tensor
from nnspec.compiler.values import (
    UNKNOWN,
    Anonymous,
    Given,
    Layer,
    NamedSize,
    Refused,
    SharedInstance,
    Value,
    describe,
    entries,
    tensors,
)
from nnspec.dsl.bind import duplicate
from nnspec.dsl.definitions import Constant, Definition, Module
from nnspec.dsl.dimensions import Dim, symbol
from nnspec.dsl.errors.arguments import ConditionNotKnown, CountNotKnown, WrongArgument, WrongValueCount
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.limits import GraphTooLarge
from nnspec.dsl.errors.names import NotALayer, NotAValue, SharedRenamed
from nnspec.dsl.errors.shapes import RequirementFailed
from nnspec.dsl.syntax import (
    Argument,
    Assignment,
    Binary,
    Boolean,
    CallOf,
    CallStep,
    Chain,
    Conditional,
    Expression,
    ForkStep,
    GroupStep,
    Index,
    Input,
    Interval,
    Lambda,
    ListOf,
    Member,
    Name,
    Nothing,
    Number,
    Output,
    RepeatStep,
    Require,
    Shared,
    Statement,
    Step,
    Text,
    Unary,
    WrittenType,
)

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator

_MOST_COPIES = 100_000
_RELATIONS = ("==", "!=", "<=", ">=", "<", ">")


class Evaluator:
    """Evaluates one body."""

    def __init__(self, elaborator: Elaborator, builder: BlockBuilder) -> None:
        self.elaborator = elaborator
        self.builder = builder

    # ------------------------------------------------------------------------------------------ statements

    def statements(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            try:
                self.statement(statement)
            except Refused as refused:
                if refused.error is not None:
                    self.elaborator.report(refused.error)
                self.elaborator.failed = True
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
            case _:
                pass  # constraints are laid on the finished block; claims are read by `fit`

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
            text = message or f"`{_text(condition)}` does not hold"
            raise Refused(RequirementFailed(condition.span, message=text, values=values))

    def law(self, condition: Binary, left: Any, right: Any, message: str | None) -> None:
        for value in (left, right):
            if not isinstance(value, int | Dim):
                raise Refused(ConditionNotKnown(condition.span, found=describe(value), help=None))
        law = Law(
            left=left,
            relation=condition.operator,
            right=right,
            text=f"`{_text(condition)}`",
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

    # ----------------------------------------------------------------------------------------- expressions

    def expression(self, expression: Expression) -> Any:
        match expression:
            case Number(value=value):
                return arithmetic.bounded(value, expression.span)
            case Text(value=text):
                return text
            case Boolean(value=truth):
                return truth
            case Nothing():
                return None
            case Name():
                return self.name(expression)
            case ListOf(items=items):
                return tuple(self.expression(item) for item in items)
            case Interval():
                return self.interval(expression)
            case Member():
                return self.member(expression)
            case CallOf():
                return self.call(expression)
            case Index():
                return self.index(expression)
            case Unary():
                return self.unary(expression)
            case Binary():
                return self.binary(expression)
            case Conditional(value=value, condition=condition, otherwise=otherwise):
                return self.expression(value if self.condition(condition) else otherwise)
            case Lambda():
                return self.anonymous(expression, expression)
            case Chain():
                return self.chain(expression)
            case _:
                raise Refused

    def tensor(self, expression: Expression) -> Value:
        value = self.expression(expression)
        listed = entries(value)
        if listed is not None and len(listed) == 1:
            value = listed[0]
        if not isinstance(value, Value):
            raise Refused(NotAValue(expression.span, name=_text(expression), found=describe(value)))
        return value

    def name(self, expression: Name) -> Any:
        name = expression.name
        if name in self.builder.scope:
            value = self.builder.scope[name]
            if value is UNKNOWN:
                raise Refused
            return value.replace(name=name, span=expression.span) if isinstance(value, Layer) else value
        found = self.builder.module.names.get(name)
        if isinstance(found, Constant):
            return self.elaborator.constant(self.builder.module, found)
        if isinstance(found, Definition):
            return Layer(target=found, name=name, span=expression.span)
        entry = self.elaborator.catalog.find("operation", name)
        if entry is None:
            raise Refused
        return Layer(target=entry, name=name, span=expression.span)

    def member(self, expression: Member) -> Any:
        of = expression.of
        module = self.builder.module.names.get(of.name) if isinstance(of, Name) else None
        if not isinstance(module, Module):
            raise Refused(NotBuiltYet(expression.span, what="weights as values"))
        found = module.names.get(expression.name)
        if isinstance(found, Constant):
            return self.elaborator.constant(module, found)
        if not isinstance(found, Definition):
            raise Refused
        return Layer(target=found, name=expression.name, span=expression.span)

    def interval(self, expression: Interval) -> Any:
        if expression.start is None or expression.stop is None:
            raise Refused(CountNotKnown(expression.span, found="a range without an end"))
        start, stop = self.expression(expression.start), self.expression(expression.stop)
        return arithmetic.interval(start, stop, expression.span)

    def unary(self, expression: Unary) -> Any:
        value = self.expression(expression.operand)
        if isinstance(value, Value):
            if expression.operator == "not":
                raise Refused(NotBuiltYet(expression.span, what="`not` on tensors"))
            if expression.operator == "+":
                return value
            return negate_tensor(self.elaborator, self.builder, value, expression.span)
        if expression.operator == "not":
            return arithmetic.invert(value, expression.span)
        return arithmetic.negate(value, expression.span) if expression.operator == "-" else value

    def binary(self, expression: Binary) -> Any:
        left, right = self.expression(expression.left), self.expression(expression.right)
        if isinstance(left, Value) or isinstance(right, Value):
            return apply_operator(
                self.elaborator, self.builder, expression.operator, left, right, expression.span
            )
        return arithmetic.calculate(expression.operator, left, right, expression.span)

    def index(self, expression: Index) -> Any:
        value = self.expression(expression.of)
        listed = entries(value)
        if listed is not None:
            return self.list_item(expression, listed)
        if not isinstance(value, Value):
            raise Refused(NotAValue(expression.of.span, name=_text(expression.of), found=describe(value)))
        return apply_index(self, value, expression)

    def list_item(self, expression: Index, values: tuple[Any, ...]) -> Any:
        item = expression.items[0]
        at = self.expression(item.value)
        whole = isinstance(at, int) and not isinstance(at, bool) and item.name is None
        inside = whole and -len(values) <= at < len(values)
        if len(expression.items) != 1 or not inside:
            why = f"a list of {len(values)} has no entry {_text(item)}"
            raise Refused(WrongArgument(expression.span, callee="[ ]", why=why, found=describe(at)))
        return values[at]

    def condition(self, expression: Expression) -> bool:
        value = self.expression(expression)
        if isinstance(value, bool):
            return value
        help_text = (
            "choose entry by entry with `where(condition, a, b)`" if isinstance(value, Value) else None
        )
        raise Refused(ConditionNotKnown(expression.span, found=describe(value), help=help_text))

    # ----------------------------------------------------------------------------------- calls and chains

    def call(self, expression: CallOf) -> Any:
        layer = self.expression(expression.function)
        if not isinstance(layer, Layer):
            found = describe(layer)
            raise Refused(NotALayer(expression.function.span, name=_text(expression.function), found=found))
        given = tuple(self.given(argument) for argument in expression.arguments)
        return self.elaborator.callables.call(self.builder, layer, given, expression.span)

    def given(self, argument: Any) -> Given:
        return Given(
            name=argument.name,
            value=self.axis_names(argument.value, self.expression(argument.value)),
            expression=argument.value,
            span=argument.span,
        )

    def axis_names(self, expression: Expression, value: Any) -> Any:
        """Keep the name of a dimension beside its size, for arguments that take axes by name."""
        if isinstance(expression, Name) and expression.name in self.builder.dimensions:
            return NamedSize(expression.name, value)
        listed = entries(value)
        if isinstance(expression, ListOf) and listed is not None:
            pairs = zip(expression.items, listed, strict=True)
            return tuple(self.axis_names(item, v) for item, v in pairs)
        return value

    def chain(self, expression: Chain) -> Any:
        value = self.expression(expression.source)
        if isinstance(value, Layer):
            first = CallStep(function=expression.source, span=expression.source.span)
            return self.anonymous((first, *expression.steps), expression)
        return self.steps(expression.steps, value, expression.source)

    def anonymous(self, body: tuple[Step, ...] | Lambda, expression: Expression) -> Layer:
        target = Anonymous(body, dict(self.builder.scope), self.builder.module)
        return Layer(target=target, name="layer", span=expression.span)

    def steps(self, steps: tuple[Step, ...], value: Any, source: Expression | None = None) -> Any:
        if not tensors(value):
            span = source.span if source else steps[0].span
            text = "this" if source is None else _text(source)
            raise Refused(NotAValue(span, name=text, found=describe(value)))
        for step in steps:
            value = self.step(step, value)
        return value

    def step(self, step: Step, value: Any) -> Any:
        alias: str | None = getattr(step, "alias", None)
        if alias is not None:
            taken, first = self.builder.instance_span(alias)
            if taken:  # by an instance that is called by what it is an instance of
                raise Refused(duplicate(alias, step.span, first))
        match step:
            case CallStep():
                return self.call_step(step, value)
            case ForkStep(branches=branches):
                if step.alias is not None:
                    raise Refused(NotBuiltYet(step.span, what="a name for a fork"))
                return _flat(tuple(self.steps(branch, value) for branch in branches))
            case GroupStep():
                return self.group(step, value)
            case RepeatStep():
                return self.repeat(step, value)
            case _:
                raise Refused

    def call_step(self, step: CallStep, value: Any) -> Any:
        function = step.function
        given: tuple[Given, ...] = ()
        if isinstance(function, CallOf):
            given = tuple(self.given(argument) for argument in function.arguments)
            function = function.function
        layer = self.callee(function)
        if step.alias is not None and isinstance(layer.target, SharedInstance):
            raise Refused(SharedRenamed(step.span, name=layer.name, alias=step.alias))
        inputs = tensors(value)
        return self.elaborator.callables.apply(
            self.builder, layer, inputs, given, step.alias or layer.name, step.span
        )

    def callee(self, function: Expression) -> Layer:
        """A step's function. A value may bear the name of an operation; in a step the operation is meant."""
        layer = self.expression(function)
        if isinstance(layer, Layer):
            return layer
        entry = self.elaborator.catalog.find("operation", _text(function))
        if entry is not None:
            return Layer(target=entry, name=entry.name, span=function.span)
        raise Refused(NotALayer(function.span, name=_text(function), found=describe(layer)))

    def group(self, step: GroupStep, value: Any) -> Any:
        steps = step.steps
        if step.condition is not None and not self.condition(step.condition):
            steps = step.otherwise
        if step.alias is None:
            return self.steps(steps, value)
        layer = Layer(
            target=Anonymous(steps, dict(self.builder.scope), self.builder.module),
            name=step.alias,
            span=step.span,
        )
        inputs = tensors(value)
        return self.elaborator.callables.apply(self.builder, layer, inputs, (), step.alias, step.span)

    def repeat(self, step: RepeatStep, value: Any) -> Any:
        if step.kind != "repeat" or step.index is not None or step.arguments:
            raise Refused
        count = self.expression(step.count)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise Refused(CountNotKnown(step.count.span, found=describe(count)))
        if count > _MOST_COPIES:
            error = GraphTooLarge(
                step.count.span, found=f"{count:,}", what="instances", limit=f"{_MOST_COPIES:,}"
            )
            raise Refused(error)
        inputs = tensors(value)
        target = Anonymous(step.body, dict(self.builder.scope), self.builder.module)
        return self.elaborator.callables.repeat(
            self.builder, step.alias or "repeat", target, count, inputs, step.span
        )


def _flat(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item for value in values for item in entries(value) or (value,))


def _names(statement: Statement) -> tuple[str, ...]:
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


def _text(expression: Expression | Argument) -> str:
    span = expression.span
    text = " ".join(span.text.split()) if span else ""
    return text if len(text) <= 60 else text[:57] + "..."


def _values(*sides: tuple[Expression, Any]) -> str:
    parts = [
        f"{_text(side)} is {value}" for side, value in sides if not isinstance(side, Number | Text | Boolean)
    ]
    return ", ".join(parts) or "is false"
