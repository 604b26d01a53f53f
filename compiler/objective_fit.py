"""Fits a loss or a metric written as an expression to its network and data.

In: the expression as written. Out: an `Objective` with its typed graph; errors go to a bag. Where the fields are
not known yet, and a name may be one, the objective is returned as it is, to be settled when they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.elaborate import Elaborator
from nnspec.compiler.experiment import Choice, Group, Objective, Source
from nnspec.compiler.ir import Graph
from nnspec.compiler.objective_checks import learning_error, loss_error, metric_error
from nnspec.compiler.objective_scope import Scope, ScopeBinder, ScopeEvaluator, names_in
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.runtime.data.field import Field
from nnspec.compiler.typing import type_graph
from nnspec.compiler.values import Refused, Value, describe, entries
from nnspec.dsl.definitions import Constant, Module
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.objectives import NotALossValue
from nnspec.dsl.syntax import CallOf, Expression, Name


def is_objective(expression: Expression, words: tuple[str, ...], module: Module) -> bool:
    """Return whether an expression is computed from values, rather than a word with its configuration.

    A word alone, or with arguments that are configuration, is a word: `huber(delta = 0.5)`. With values in
    its brackets it is an expression: `huber(height, target)`.
    """
    function = expression.function if isinstance(expression, CallOf) else expression
    if isinstance(function, Name) and function.name in words:
        placed = (a for a in expression.arguments if a.name is None) if isinstance(expression, CallOf) else ()
        names = (name for argument in placed for name in names_in(argument.value))
        return any(not isinstance(module.names.get(name.name), Constant) for name in names)
    return isinstance(expression, CallOf) or not isinstance(function, Name)


def values_of(objective: Objective) -> tuple[Expression, ...]:
    """Return the expressions of what an objective computes: the loss, or the two values of a metric."""
    expression = objective.source.expression
    if objective.metric is None or not isinstance(expression, CallOf):
        return (expression,)
    return tuple(argument.value for argument in expression.arguments if argument.name is None)


def settle(
    objective: Objective,
    network: Graph,
    fields: tuple[Field, ...] | None,
    data: Choice,
    rows: int | None,
    bag: Bag,
) -> Objective | None:
    """Return an objective with its typed graph; None after errors went to the bag."""
    scope = Scope(network, fields, data, rows)
    expressions = values_of(objective)
    if any(_waits(e, scope, objective.source) for e in expressions):
        return objective
    before = len(bag)
    place = "this loss" if objective.metric is None else "this metric"
    binder = ScopeBinder(scope, objective.source, bag, place)
    binder.expressions(expressions)
    if len(bag) > before:
        return None
    found = _elaborated(objective, expressions, scope, bag)
    if found is None or len(bag) > before:
        return None
    known = {field.name: field for field in fields or ()}
    error = loss_error(found, network, known) if found.metric is None else metric_error(found, known)
    if error is not None:
        bag.add(error)
    return None if error is not None else found


def settle_all(
    values: Mapping[str, Any],
    network: Graph,
    fields: tuple[Field, ...] | None,
    data: Choice,
    rows: int | None,
    bag: Bag,
) -> dict[str, Any]:
    """Return the fields of an experiment with every objective in them settled; wrong ones are left out."""

    def settled(value: Any) -> Any:
        if isinstance(value, Objective):
            return settle(value, network, fields, data, rows, bag)
        if isinstance(value, Choice):
            return value.replace(arguments=tuple((name, settled(item)) for name, item in value.arguments))
        if isinstance(value, Group):
            return value.replace(loss=settled(value.loss))
        listed = entries(value)
        return value if listed is None else tuple(item for item in map(settled, listed) if item is not None)

    found = {name: settled(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None or values[name] is None}


def check_depends(objective: Objective, network: Graph, bag: Bag) -> None:
    """Report a loss that no weight has a part in."""
    error = None if objective.graph is None else learning_error(objective, network)
    if error is not None:
        bag.add(error)


def _waits(expression: Expression, scope: Scope, source: Source) -> bool:
    """Whether some name is the number of rows, or may be a field, that is not known yet."""
    catalog = source.definitions.catalog
    names = {name.name for name in names_in(expression)}
    if scope.complete:
        return scope.rows is None and "rows" in names
    return any(
        (scope.find(name) is None or name in scope.tracked)
        and name not in source.module.names
        and (catalog.find("operation", name) is None or operation(name).tracks)
        and name != "all"
        for name in names
    )


def _elaborated(
    objective: Objective, expressions: tuple[Expression, ...], scope: Scope, bag: Bag
) -> Objective | None:
    source = objective.source
    elaborator = Elaborator(source.definitions, bag, source.lets)
    kind = "loss" if objective.metric is None else objective.metric.name
    builder = BlockBuilder(kind, source.module, {}, frozenset(scope.names()))
    evaluator = ScopeEvaluator(elaborator, builder, scope)
    try:
        for number, expression in enumerate(expressions):
            evaluator.prepare(expression)
            value = _tensor(evaluator.expression(expression), expression)
            builder.outputs.append((f"value_{number + 1}", value, None, expression.span))
    except Refused as refused:
        if refused.error is not None:
            elaborator.report(refused.error)
        return None
    if elaborator.failed:
        return None
    block = builder.finish(span=objective.span)
    graph = type_graph(Graph(name=kind, root=block), bag, constant=True)
    return None if graph is None else objective.replace(graph=graph, reads=tuple(evaluator.reads))


def _tensor(value: Any, expression: Expression) -> Value:
    if isinstance(value, Value):
        return value
    raise Refused(NotALossValue(expression.span, found=describe(value), help="compute it from named values"))
