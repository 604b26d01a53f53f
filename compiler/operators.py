"""`+ - * / ^ @`, comparisons and `[ ]` on tensors: each is an operation of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler import arithmetic
from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.values import Given, Layer, NamedSize, Refused, Value, describe
from nnspec.dsl.errors.arguments import DivisionByZero, WrongArgument, WrongOperand
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument, Expression, Index, Interval

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator
    from nnspec.compiler.evaluate_expression import ExpressionEvaluator

OPERATIONS = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "^": "power",
    "@": "matmul",
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "and": "logical_and",
    "or": "logical_or",
}


def apply_operator(
    elaborator: Elaborator, builder: BlockBuilder, operator: str, left: Any, right: Any, span: Span | None
) -> Any:
    """Return `left operator right` where one side at least is a tensor."""
    name = OPERATIONS.get(operator)
    if name is None:
        raise Refused(NotBuiltYet(span, what=f"`{operator}` on tensors"))
    given: tuple[Given, ...] = ()
    for side in (left, right):
        if not isinstance(side, Value):
            given = _constant(side, operator, side is left, span)
    inputs = tuple(side for side in (left, right) if isinstance(side, Value))
    return apply_named(elaborator, builder, name, inputs, given, span)


def negate_tensor(elaborator: Elaborator, builder: BlockBuilder, value: Value, span: Span | None) -> Any:
    """Return -value."""
    return apply_named(elaborator, builder, "negate", (value,), (), span)


def invert_tensor(elaborator: Elaborator, builder: BlockBuilder, value: Value, span: Span | None) -> Any:
    """Return not value."""
    return apply_named(elaborator, builder, "logical_not", (value,), (), span)


def apply_named(
    elaborator: Elaborator,
    builder: BlockBuilder,
    name: str,
    inputs: tuple[Value, ...],
    given: tuple[Given, ...],
    span: Span | None,
) -> Any:
    """Apply an operation of the library by its name."""
    entry = elaborator.catalog.find("operation", name)
    assert entry is not None, f"the library has no operation {name}"
    layer = Layer(target=entry, name=name, span=span)
    return elaborator.callables.apply(builder, layer, inputs, given, name, span)


def _constant(side: Any, operator: str, reverse: bool, span: Span | None) -> tuple[Given, ...]:
    if isinstance(side, NamedSize):
        side = side.size
    if not isinstance(side, int | float) or isinstance(side, bool) or operator == "@":
        raise Refused(WrongOperand(span, operator=operator, found=describe(side)))
    if operator == "/" and side == 0 and not reverse:
        raise Refused(DivisionByZero(span, text="this" if span is None else span.text[:60]))
    return (
        Given(name="constant", value=side, expression=None, span=span),
        Given(name="reversed", value=reverse, expression=None, span=span),
    )


def apply_index(evaluator: ExpressionEvaluator, value: Value, expression: Index) -> Any:
    """`x[i]` drops an axis, `x[a..b]` keeps the entries a to b of it; `T = ..` names the axis."""
    result: Any = value
    # From the last axis to the first, so that a dropped axis does not renumber those still to come.
    for position, item in reversed(tuple(enumerate(expression.items))):
        axis: Any = item.name if item.name is not None else position
        name, arguments = _index_arguments(evaluator, item)
        given = tuple(
            Given(name=key, value=v, expression=item.value, span=item.span)
            for key, v in (("axis", axis), *arguments)
        )
        result = apply_named(evaluator.elaborator, evaluator.builder, name, (result,), given, expression.span)
    return result


def _index_arguments(
    evaluator: ExpressionEvaluator, item: Argument
) -> tuple[str, tuple[tuple[str, Any], ...]]:
    written = item.value
    if isinstance(written, Interval):
        start = 0 if written.start is None else _whole(evaluator, written.start)
        stop = None if written.stop is None else _whole(evaluator, written.stop)
        return "slice", (("start", start), ("stop", stop))
    return "select", (("index", _whole(evaluator, written)),)


def _whole(evaluator: ExpressionEvaluator, expression: Expression) -> Any:
    value = evaluator.expression(expression)
    if not isinstance(value, int) or isinstance(value, bool):
        why = "an entry is chosen by a whole number that is known while compiling"
        raise Refused(WrongArgument(expression.span, callee="[ ]", why=why, found=describe(value)))
    return arithmetic.bounded(value, expression.span)
