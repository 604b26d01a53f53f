"""Fits what an experiment says of its optimizer and of how it is judged to its network and rule.

In: values of fields and the typed graph. Out: errors and warnings in the bag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.experiment_record import listed
from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.hard import is_soft
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.runtime import optimizers
from nnspec.compiler.runtime.plan import draws
from nnspec.compiler.runtime.ways import title
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.experiments import WrongField
from nnspec.dsl.errors.objectives import NeedsDirectionAgain, NoHardVersion, NothingDrawn, SearchOnBatches


def check_ways(values: Mapping[str, Any], graph: Graph, bag: Bag) -> None:
    """Report ways to judge that mean nothing for a network, or stand there twice."""
    seen: set[str] = set()
    for way in listed(values.get("evaluate", ())):
        if title(way) in seen:
            bag.add(WrongField(way.span, why=f"`{title(way)}` stands there twice", found="again", help=None))
        seen.add(title(way))
        if way.name == "hard" and not is_soft(graph):
            bag.add(NoHardVersion(way.span, network=graph.name))
        if way.name == "samples" and not draws(graph):
            bag.add(NothingDrawn(way.span, network=graph.name))


def check_search(values: Mapping[str, Any], bag: Bag) -> None:
    """Report optimizers that search within a step under rules that give one direction a step."""
    groups = [(group.rule, group.optimizer) for group in values.get("groups", ())]
    stages = [(s.options.get("learn"), s.options.get("optimizer")) for s in listed(values.get("stages", ()))]
    for own_rule, own_optimizer in ((None, None), *groups, *stages):
        chosen: Choice | None = own_rule or values.get("learn")
        optimizer: Choice | None = own_optimizer or values.get("optimizer")
        if chosen is None or optimizer is None or not optimizers.repeats(optimizer):
            continue
        if not rule_of(chosen).repeats:
            related = () if chosen.span is None else (Related(span=chosen.span, label="the rule"),)
            bag.add(NeedsDirectionAgain(optimizer.span, related, optimizer=optimizer.name, rule=chosen.name))


def warn_of_batches(values: Mapping[str, Any], bag: Bag) -> None:
    """Warn of an optimizer that compares steps, where every step sees other rows."""
    optimizer: Choice | None = values.get("optimizer")
    if optimizer is not None and optimizers.repeats(optimizer) and values.get("batch") is not None:
        bag.add(SearchOnBatches(optimizer.span, optimizer=optimizer.name))
