"""Evaluates the steps of a chain, `x -> f -> [g, h]`: calls, groups, forks and repeats.

In: the evaluator of the body's expressions and the value at the chain's source. Out: the value at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.values import (
    Anonymous,
    Layer,
    Refused,
    SharedInstance,
    describe,
    entries,
    source_text,
    tensors,
)
from nnspec.dsl.bind import duplicate
from nnspec.dsl.errors.arguments import CountNotKnown, NoIndexRange
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.limits import GraphTooLarge
from nnspec.dsl.errors.names import NotALayer, NotAValue, SharedRenamed
from nnspec.dsl.syntax import (
    Argument,
    CallOf,
    CallStep,
    Chain,
    Expression,
    ForkStep,
    GroupStep,
    RepeatStep,
    Step,
)

if TYPE_CHECKING:
    from nnspec.compiler.evaluate_expression import ExpressionEvaluator

_MOST_COPIES = 100_000
_RELATIONS = ("==", "!=", "<=", ">=", "<", ">")


class ChainEvaluator:
    """Applies the steps of the chains of one body."""

    def __init__(self, evaluator: ExpressionEvaluator) -> None:
        self.evaluator = evaluator
        self.elaborator = evaluator.elaborator
        self.builder = evaluator.builder

    def chain(self, expression: Chain) -> Any:
        value = self.evaluator.expression(expression.source)
        if isinstance(value, Layer):
            first = CallStep(function=expression.source, span=expression.source.span)
            return self.evaluator.anonymous((first, *expression.steps), expression)
        return self.steps(expression.steps, value, expression.source)

    def steps(self, steps: tuple[Step, ...], value: Any, source: Expression | None = None) -> Any:
        if not tensors(value):
            span = source.span if source else steps[0].span
            text = "this" if source is None else source_text(source)
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
        written: tuple[Argument, ...] = ()
        if isinstance(function, CallOf) and not self.evaluator.is_trained(function):
            written, function = function.arguments, function.function
        layer = self.callee(function)
        given = self.evaluator.all_given(layer, written)
        if step.alias is not None and isinstance(layer.target, SharedInstance):
            raise Refused(SharedRenamed(step.span, name=layer.name, alias=step.alias))
        inputs = tensors(value)
        return self.elaborator.callables.apply(
            self.builder, layer, inputs, given, step.alias or layer.name, step.span
        )

    def callee(self, function: Expression) -> Layer:
        """A step's function. A value may bear the name of an operation; in a step the operation is meant."""
        layer = self.evaluator.expression(function)
        if isinstance(layer, Layer):
            return layer
        entry = self.elaborator.catalog.find("operation", source_text(function))
        if entry is not None:
            return Layer(target=entry, name=entry.name, span=function.span)
        raise Refused(NotALayer(function.span, name=source_text(function), found=describe(layer)))

    def group(self, step: GroupStep, value: Any) -> Any:
        steps = step.steps
        if step.condition is not None and not self.evaluator.condition(step.condition):
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
        inputs = tensors(value)
        keeps = any(argument.name == "keep" for argument in step.arguments)
        flow = "fork" if step.kind == "fork" else "keep" if keeps else "chain"
        scope, module = dict(self.builder.scope), self.builder.module
        if step.index is None:
            targets = (Anonymous(step.body, scope, module),) * self.count(step)
        else:
            scopes = [{**scope, step.index: item} for item in self.range(step)]
            targets = tuple(Anonymous(step.body, inner, module) for inner in scopes)
        return self.elaborator.callables.repeat(
            self.builder, step.alias or step.kind, targets, flow, inputs, step.span
        )

    def count(self, step: RepeatStep) -> int:
        """Return how many copies are made."""
        count = self.evaluator.expression(step.count)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            help_text = None
            if entries(count) and not tensors(count):
                help_text = f"name the entry: `{step.kind}(i in {source_text(step.count)}) {{ .. }}`"
            raise Refused(
                CountNotKnown(step.count.span, kind=step.kind, found=describe(count), help=help_text)
            )
        self.bound_copies(count, step)
        return count

    def range(self, step: RepeatStep) -> tuple[Any, ...]:
        """Return the values that the index takes."""
        value = self.evaluator.expression(step.count)
        listed = entries(value)
        if not listed or any(tensors(item) for item in listed):
            why = "an empty list" if listed == () else describe(value)
            raise Refused(NoIndexRange(step.count.span, kind=step.kind, index=step.index, found=why))
        self.bound_copies(len(listed), step)
        return listed

    def bound_copies(self, count: int, step: RepeatStep) -> None:
        if count > _MOST_COPIES:
            limit = f"{_MOST_COPIES:,}"
            raise Refused(GraphTooLarge(step.count.span, found=f"{count:,}", what="instances", limit=limit))


def _flat(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item for value in values for item in entries(value) or (value,))
