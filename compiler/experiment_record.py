"""The record of an experiment from the values of its fields: defaults, thresholds, lists of one.

In: values that are validated one by one. Out: an `Experiment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nnspec.compiler.experiment import Choice, Experiment, Judged, Objective
from nnspec.compiler.experiment_fields import FIELDS
from nnspec.compiler.ir import Graph
from nnspec.compiler.objective_checks import midpoint
from nnspec.compiler.runtime import data, optimizers
from nnspec.compiler.values import Refused
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.experiments import DuplicateSeed, WrongField
from nnspec.dsl.syntax import ExperimentDefinition, Expression, ListOf


def assemble(definition: Definition, graph: Graph, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment; fields that were left out take their defaults."""
    defaults = {argument.name: argument.default for argument in FIELDS.arguments if not argument.required}
    full: dict[str, Any] = {**defaults, **values}
    rows = data.part_sizes(full["data"])
    small = rows is not None and full["batch"] is not None and rows.train < full["batch"]
    if "batch" not in values and (small or (full["optimizer"] and optimizers.repeats(full["optimizer"]))):
        full["batch"] = None  # the default is no reason to refuse a small data set, or to search on batches
    doc = definition.item.doc if isinstance(definition.item, ExperimentDefinition) else None
    return Experiment(
        name=definition.name,
        graph=graph,
        data=full["data"],
        loss=full["loss"],
        rule=full["learn"],
        optimizer=full["optimizer"] or optimizers.DEFAULT,
        schedule=full["schedule"],
        epochs=full["epochs"],
        steps=full["steps"],
        batch=full["batch"],
        seeds=listed(full["seeds"]),
        metrics=tuple(_with_threshold(metric, full["loss"]) for metric in _measured(full)),
        evaluate=listed(full["evaluate"]),
        shuffle=full["shuffle"],
        seed_mode=full["seed_mode"],
        device=full["device"],
        precision=full["precision"],
        stop=None if full["stop"] is None else _with_thresholds_within(full["stop"], full["loss"]),
        save=full["save"],
        stages=full["stages"],
        groups=values.get("groups", ()),
        restarts=full["restarts"],
        select=full["select"],
        start=values.get("start"),
        parts=values.get("parts", ()),
        loads=values.get("loads", ()),
        claims=values.get("claims", ()),
        doc=doc,
        span=definition.span,
    )


def _measured(full: Mapping[str, Any]) -> tuple[Judged, ...]:
    """Return the metrics asked for, and the one that early stopping watches if it is none of them."""
    asked = listed(full["metrics"])
    names = {metric.name for metric in asked}
    return (*asked, *(metric for metric in watched(full["stop"]) if metric.name not in names))


def _with_threshold(metric: Judged, loss: Judged) -> Judged:
    """A metric that leaves its threshold open takes the one halfway between what the loss aims at."""
    word = metric.metric if isinstance(metric, Objective) else metric
    if word is None or word.options.get("threshold", 0) is not None:
        return metric
    options = {**word.options, "threshold": midpoint(loss, metric)}
    word = word.replace(arguments=tuple(options.items()))
    return metric.replace(metric=word) if isinstance(metric, Objective) else word


def _with_thresholds_within(stop: Choice, loss: Judged) -> Choice:
    arguments = (
        (name, _with_threshold(value, loss) if isinstance(value, Choice | Objective) else value)
        for name, value in stop.arguments
    )
    return stop.replace(arguments=tuple(arguments))


def watched(stop: Choice | None) -> tuple[Judged, ...]:
    """Return the metrics among the arguments of early stopping."""
    values = () if stop is None else stop.options.values()
    words = tuple(value for value in values if isinstance(value, Choice) and value.family == "metric")
    return (*words, *(value for value in values if isinstance(value, Objective)))


def check_seeds(value: Any, expression: Expression) -> None:
    """Refuse an empty list of seeds and a seed given twice."""
    seeds = listed(value)
    if not seeds:
        raise Refused(WrongField(expression.span, why="`seeds` needs at least one", found="none", help=None))
    seen: set[int] = set()
    for index, seed in enumerate(seeds):
        if seed in seen:
            items = expression.items if isinstance(expression, ListOf) else ()
            place = items[index] if len(items) == len(seeds) else expression
            raise Refused(DuplicateSeed(place.span, seed=seed))
        seen.add(seed)


def listed(value: Any) -> tuple[Any, ...]:
    """Return a list value as it is, a single one as a list of one."""
    return cast(tuple[Any, ...], value) if isinstance(value, tuple) else (value,)
