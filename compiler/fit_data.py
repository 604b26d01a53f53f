"""Fits an experiment to its data: enough rows, a part to watch, losses that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnspec.compiler.derivation import Written
from nnspec.compiler.experiment import Choice, Group
from nnspec.compiler.feeding import judge
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime import data
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.data import DataTooFewRows
from nnspec.dsl.errors.experiments import BatchTooLarge, NothingToWatch


def check_rows(values: Mapping[str, Any], written: Mapping[str, Written], bag: Bag) -> None:
    """Report a training part that is empty, or smaller than a batch, where its size is known."""
    choice: Choice | None = values.get("data")
    rows = None if choice is None else data.part_sizes(choice)
    if choice is None or rows is None:
        return
    if rows.train < 1:
        why = "no row is left to train on"
        help_text = "lower `test` and `validation`"
        bag.add(DataTooFewRows(choice.span, why=why, found="too few rows", help=help_text))
    elif (values.get("batch") or 0) > rows.train:
        span = written["batch"].field.value.span
        label = f"{rows.train} rows to train on"
        related = () if choice.span is None else (Related(span=choice.span, label=label),)
        bag.add(BatchTooLarge(span, related, batch=values["batch"], rows=rows.train))


def check_stop(values: Mapping[str, Any], written: Mapping[str, Written], bag: Bag) -> None:
    """Report early stopping, or keeping the best weights, without a validation part."""
    stop: Choice | None = values.get("stop")
    choice: Choice | None = values.get("data")
    best = values.get("save") == "best"
    if (stop is None and not best) or choice is None or choice["validation"] > 0:
        return
    related = () if choice.span is None else (Related(span=choice.span, label="no `validation` here"),)
    help_text = f"keep some rows: `{choice.name}(validation = 0.1)`, beside its other arguments"
    name, span = 'save = "best"', written["save"].field.value.span if best else None
    if stop is not None:
        name, span = stop.name, stop.span
    bag.add(NothingToWatch(span, related, name=name, help=help_text))


def judge_blocks(groups: Sequence[Group], graph: Graph, choice: Choice | None, bag: Bag) -> None:
    """Report losses of `train` blocks that do not fit the network and the data."""
    known = None if choice is None else data.describe(choice)
    for group in groups:
        if choice is not None and known is not None and group.loss is not None:
            for error in judge(graph, known, group.loss, (), choice.span):
                bag.add(error)
