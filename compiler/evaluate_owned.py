"""Evaluates what a body owns itself: parameters, buffers, and how tensors begin.

In: a statement and the evaluator of its body. Out: the value of a parameter, after an instance of its own was
added to the block; the `Init` that a word of the catalog means.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nnspec.compiler.callables import match_arguments
from nnspec.compiler.constraints.tied import Tied
from nnspec.compiler.ir import Block, Constraint, Init, Primitive, Word
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Refused, Value, describe
from nnspec.dsl.bind import duplicate
from nnspec.dsl.catalog import Entry, validate
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.arguments import MissingArgument, WrongArgument
from nnspec.dsl.errors.owned import (
    NoSuchInstance,
    NoSuchWeight,
    NotABuffer,
    ParameterAxes,
    ProgressOutside,
    UpdatedTwice,
)
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import CallOf, Expression, Member, Name, Parameter, Penalty, UpdateBuffer

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator
    from nnspec.compiler.evaluate_expression import ExpressionEvaluator


def owned(evaluator: Evaluator, statement: Parameter) -> Value:
    """Return the value of `parameter NAME: TYPE = INIT` or of a buffer."""
    builder, name = evaluator.builder, statement.name
    taken, first = builder.instance_span(name)
    if taken:
        raise Refused(duplicate(name, statement.span, first))
    declared = evaluator.type(statement.type)
    if any(axis.rest for axis in declared.axes):
        raise Refused(ParameterAxes(statement.type.span, name=name))
    arguments: dict[str, Any] = {
        "dtype": declared.dtype,
        "init": initializer(evaluator, statement.value),
        "names": tuple(axis.name for axis in declared.axes),
        "shape": tuple(axis.size for axis in declared.axes),
    }
    primitive = Primitive(operation=statement.kind, arguments=tuple(arguments.items()), span=statement.span)
    child = builder.add_child(name, (primitive,), statement.span)
    (value,) = builder.call(child, (), 1, statement.span)
    builder.name_value(value, name)
    if statement.kind == "buffer":
        builder.buffers.add(name)
    return value


def update(evaluator: ExpressionEvaluator, statement: UpdateBuffer) -> None:
    """Note `update NAME = value`, for a buffer of this body and once for each."""
    builder, name = evaluator.builder, statement.name
    if name not in builder.buffers:
        near = nearest(name, sorted(builder.buffers))
        raise Refused(NotABuffer(statement.span, name=name, suggestion=near))
    first = next((span for other, _, span in builder.updates if other == name), None)
    if first is not None:
        related = (Related(span=first, label="first updated here"),)
        raise Refused(UpdatedTwice(statement.span, related, name=name))
    builder.updates.append((name, evaluator.tensor(statement.value), statement.span))


def penalty(evaluator: ExpressionEvaluator, statement: Penalty) -> None:
    """Note `penalty NAME = value`; its name is a part of its path, as that of an instance is."""
    builder, name = evaluator.builder, statement.name
    taken, first = builder.instance_span(name)
    if taken:
        raise Refused(duplicate(name, statement.span, first))
    builder.instance_name(name)
    builder.penalties.append((name, evaluator.tensor(statement.value), statement.span))


def weight_value(evaluator: ExpressionEvaluator, expression: Member) -> Value:
    """Return the value of `embed.weight`, the effective weight of an instance of the same body."""
    builder, of = evaluator.builder, expression.of
    names = [child.name for child in builder.children if not isinstance(child.instances[0], Block)]
    name = of.name if isinstance(of, Name) else " ".join(of.span.text.split())
    child = next((c for c in builder.children if c.name == name), None)
    if child is None:
        near = nearest(name, names)
        raise Refused(NoSuchInstance(of.span, name=name, suggestion=near))
    instance = child.instances[0]
    owned = () if isinstance(instance, Block) or child.repeated else operation(instance.operation).owns
    if expression.name not in owned:
        there = ", ".join(f"`{name}.{weight}`" for weight in owned if weight)
        help_text = f"there are {there}" if there else "only one operation with weights of its own has one"
        raise Refused(NoSuchWeight(expression.span, instance=name, name=expression.name, help=help_text))
    key = (name, expression.name)
    if key not in builder.lent:
        path = f"{name}.{expression.name}"
        primitive = _lent(*key, expression.span)
        borrower = builder.add_child(path, (primitive,), expression.span)
        (builder.lent[key],) = builder.call(borrower, (), 1, expression.span)
    return builder.lent[key]


def kept_value(evaluator: ExpressionEvaluator, name: str, span: Span) -> Value:
    """Return the value of a word that takes no tensors, `progress`: one instance for each body that reads it."""
    builder = evaluator.builder
    if not builder.is_body:
        raise Refused(ProgressOutside(span, name=name, help="write it where it is used"))
    key = (name, "")
    if key not in builder.lent:
        # What an activation keeps follows no axis of its input.
        primitive = Primitive(operation=name, arguments=(("follows", 0),), span=span)
        child = builder.add_child(name, (primitive,), span)
        (builder.lent[key],) = builder.call(child, (), 1, span)
    return builder.lent[key]


def _lent(child: str, weight: str, span: Span | None) -> Primitive:
    """Return a parameter that is tied to the weight of another child, whose shape it will have."""
    tie = Constraint(
        weight="",
        rule=Tied(),
        options=(("child", child), ("transpose", False), ("weight", weight)),
        span=span,
    )
    arguments = (("dtype", "real"), ("init", None), ("names", ()), ("shape", ()))
    return Primitive(operation="weight", arguments=arguments, constraints=(tie,), span=span)


def initializer(evaluator: ExpressionEvaluator, expression: Expression) -> Init:
    """Return what an initializer's word means, `normal(std = 0.02)`."""
    found = word(evaluator, expression, "initializer")
    return Init(name=found.name, arguments=found.arguments, span=found.span)


def word(evaluator: ExpressionEvaluator, expression: Expression, family: str) -> Word:
    """Return a word of a family of the catalog with its arguments."""
    entry = word_of(evaluator, expression, family)
    arguments = word_arguments(evaluator, entry, expression)
    return Word(name=entry.name, arguments=arguments, span=expression.span)


def word_of(evaluator: ExpressionEvaluator, expression: Expression, family: str) -> Entry:
    """Return the entry of a word of a family; `bind` has checked that there is one."""
    function = expression.function if isinstance(expression, CallOf) else expression
    entry = None
    if isinstance(function, Name):
        entry = evaluator.elaborator.catalog.find(family, function.name)
    if entry is None:
        raise Refused
    return entry


def word_arguments(
    evaluator: ExpressionEvaluator, entry: Entry, expression: Expression
) -> tuple[tuple[str, Any], ...]:
    """Return the arguments of a word, complete, validated and sorted; all numbers finite."""
    written = expression.arguments if isinstance(expression, CallOf) else ()
    given = tuple(evaluator.given(argument) for argument in written)
    matched = match_arguments(entry.name, tuple(a.name for a in entry.arguments), given, expression.span)
    for argument in entry.arguments:
        if argument.required and argument.name not in matched:
            help_text = f"`{entry.name}({argument.name} = ...)`: {argument.doc}"
            raise Refused(
                MissingArgument(expression.span, callee=entry.name, name=argument.name, help=help_text)
            )
    values = {name: item.value for name, item in matched.items()}
    arguments, problems = validate(entry, values)
    wrong = [(problem.argument, problem.why) for problem in problems]
    wrong += [
        (name, f"`{name}` must be a finite number")
        for name, value in arguments.items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    for name, why in wrong:
        item = matched.get(name)
        span = item.span if item is not None else expression.span
        raise Refused(WrongArgument(span, callee=entry.name, why=why, found=describe(values.get(name))))
    return tuple(sorted(arguments.items()))
