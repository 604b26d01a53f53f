"""Evaluates an expression of a body: configuration values, tensors, layers and calls of them.

In: a `BlockBuilder` with its scope. Out: a value; operations and children are added to the block. Names
were checked by `bind`; what is found here has to do with values: kinds, conditions, arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler import arithmetic
from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.evaluate_chain import ChainEvaluator
from nnspec.compiler.evaluate_owned import kept_value, weight_value, word
from nnspec.compiler.operators import apply_index, apply_operator, invert_tensor, negate_tensor
from nnspec.compiler.systems.parts import State, unsettled
from nnspec.compiler.trained_part import trained_part
from nnspec.compiler.values import (
    UNKNOWN,
    Anonymous,
    Given,
    Layer,
    NamedSize,
    Refused,
    UnitCount,
    Value,
    describe,
    entries,
    source_text,
)
from nnspec.dsl.bind_callees import word_families, word_family
from nnspec.dsl.definitions import Constant, Definition, Module
from nnspec.dsl.errors.arguments import ConditionNotKnown, CountNotKnown, NoUnits, WrongArgument
from nnspec.dsl.errors.names import NotALayer, NotAValue
from nnspec.dsl.paths import trained_root
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import (
    Argument,
    Binary,
    Boolean,
    CallOf,
    Chain,
    Conditional,
    Expression,
    Index,
    Interval,
    Lambda,
    ListOf,
    Member,
    Name,
    Nothing,
    Number,
    Step,
    Text,
    Unary,
)

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator

_MOST_COPIES = 100_000
_RELATIONS = ("==", "!=", "<=", ">=", "<", ">")


class ExpressionEvaluator:
    """Evaluates the expressions of one body."""

    def __init__(self, elaborator: Elaborator, builder: BlockBuilder) -> None:
        self.elaborator = elaborator
        self.builder = builder
        self.chains = ChainEvaluator(self)

    def expression(self, expression: Expression) -> Any:
        if isinstance(expression, CallOf | Index | Member) and self.is_trained(expression):
            return trained_part(self, expression)
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
                return self.chains.chain(expression)
            case _:
                raise Refused

    def is_trained(self, expression: Expression) -> bool:
        """Return whether an expression is `trained(E)` or a part of it."""
        return trained_root(expression, {*self.builder.scope, *self.builder.module.names}) is not None

    def tensor(self, expression: Expression) -> Value:
        value = self.expression(expression)
        listed = entries(value)
        if listed is not None and len(listed) == 1:
            value = listed[0]
        if not isinstance(value, Value):
            raise Refused(NotAValue(expression.span, name=source_text(expression), found=describe(value)))
        return value

    def name(self, expression: Name) -> Any:
        name = expression.name
        if name in self.builder.scope:
            value = self.builder.scope[name]
            if value is UNKNOWN:
                raise Refused
            if isinstance(value, State):
                raise Refused(unsettled(name, expression.span) if self.builder.system.promised else None)
            return _called(value, name, expression.span)
        found = self.builder.module.names.get(name)
        if isinstance(found, Constant):
            return _called(
                self.elaborator.constant(self.builder.module, found), expression.name, expression.span
            )
        if isinstance(found, Definition):
            return Layer(target=found, name=name, span=expression.span)
        entry = self.elaborator.catalog.find("operation", name)
        if entry is None:
            raise Refused
        if entry.inputs == (0, 0):
            return kept_value(self, entry.name, expression.span)
        return Layer(target=entry, name=name, span=expression.span)

    def member(self, expression: Member) -> Any:
        of = expression.of
        module = self.builder.module.names.get(of.name) if isinstance(of, Name) else None
        if not isinstance(module, Module):
            return weight_value(self, expression)
        found = module.names.get(expression.name)
        if isinstance(found, Constant):
            return _called(self.elaborator.constant(module, found), expression.name, expression.span)
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
                return invert_tensor(self.elaborator, self.builder, value, expression.span)
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
        if expression.operator == "*" and (isinstance(left, Layer) or isinstance(right, Layer)):
            return unit_count(left, right, expression.span)
        return arithmetic.calculate(expression.operator, left, right, expression.span)

    def index(self, expression: Index) -> Any:
        value = self.expression(expression.of)
        listed = entries(value)
        if listed is not None:
            return self.list_item(expression, listed)
        if not isinstance(value, Value):
            raise Refused(
                NotAValue(expression.of.span, name=source_text(expression.of), found=describe(value))
            )
        return apply_index(self, value, expression)

    def list_item(self, expression: Index, values: tuple[Any, ...]) -> Any:
        item = expression.items[0]
        at = self.expression(item.value)
        whole = isinstance(at, int) and not isinstance(at, bool) and item.name is None
        inside = whole and -len(values) <= at < len(values)
        if len(expression.items) != 1 or not inside:
            why = f"a list of {len(values)} has no entry {source_text(item)}"
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

    def call(self, expression: CallOf) -> Any:
        layer = self.expression(expression.function)
        if not isinstance(layer, Layer):
            found = describe(layer)
            raise Refused(
                NotALayer(expression.function.span, name=source_text(expression.function), found=found)
            )
        given = self.all_given(layer, expression.arguments)
        return self.elaborator.callables.call(self.builder, layer, given, expression.span)

    def all_given(self, layer: Layer, written: tuple[Argument, ...]) -> tuple[Given, ...]:
        """Evaluate the arguments of a call; some stand for words of the library, as in `sample(normal)`."""
        families = word_families(layer.target)
        if not families:
            return tuple(self.given(argument) for argument in written)
        found: list[Given] = []
        for argument in written:
            family = word_family(self.elaborator.catalog, families, argument)
            if family is None:
                found.append(self.given(argument))
                continue
            value = word(self, argument.value, family)
            found.append(
                Given(name=argument.name, value=value, expression=argument.value, span=argument.span)
            )
        return tuple(found)

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

    def anonymous(self, body: tuple[Step, ...] | Lambda, expression: Expression) -> Layer:
        target = Anonymous(body, dict(self.builder.scope), self.builder.module)
        return Layer(target=target, name="layer", span=expression.span)


def _called(value: Any, name: str, span: Span | None) -> Any:
    """A layer goes by the name it is called by: a parameter's, a `let`'s."""
    return value.replace(name=name, span=span) if isinstance(value, Layer) else value


def unit_count(left: Any, right: Any, span: Span) -> UnitCount:
    """Return `f * k` or `k * f`, k units of a function."""
    layer, count = (left, right) if isinstance(left, Layer) else (right, left)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Refused(
            NoUnits(span, found=describe(count), help="`f * k` is k units of f, k a whole number above 0")
        )
    return UnitCount(layer=layer, count=count)
