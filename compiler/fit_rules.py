"""Fits learning rules to what they are to teach: each says what it misses, before anything runs.

In: values of an experiment's fields, stages and blocks fitted, and its typed graph. Out: errors in the bag, and warnings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Group
from nnspec.compiler.experiment_record import listed
from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.system import NotAChain
from nnspec.compiler.rule_choice import default_choice
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.rules.setting import Setting
from nnspec.compiler.rules.written.rule import written
from nnspec.compiler.tensors import learned_keys
from nnspec.compiler.values import Refused
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag, Error, Related
from nnspec.dsl.errors.settling import NotASystem

if TYPE_CHECKING:
    from nnspec.compiler.configuration import Configuration


def read_by_rule(values: Mapping[str, Any], graph: Graph, bag: Bag) -> Graph | None:
    """Return a network as the experiment's rule reads it; None after an error went to the bag."""
    choice = values.get("learn")
    if choice is None:
        return graph
    try:
        return rule_of(choice).network(graph, choice.options)
    except NotAChain as found:
        related = () if found.span is None else (Related(span=found.span, label="here"),)
        bag.add(NotASystem(choice.span, related, rule=choice.name, network=graph.name, why=found.why))
        return None


def check_rules(values: Mapping[str, Any], graph: Graph, bag: Bag) -> list[Error]:
    """Report what the rules of an experiment lack, each thing once; return what they only warn of."""
    seen: set[tuple[Any, ...]] = set()
    warnings: list[Error] = []
    for setting in settings(values, graph):
        for error in rule_of(setting.choice).refusals(setting):
            place = (error.code, error.span, setting.choice.span)
            if place not in seen:
                seen.add(place)
                warnings.append(error) if error.severity == "warning" else bag.add(error)
    return warnings


def check_equations(definitions: Iterable[Definition], configuration: Configuration, bag: Bag) -> None:
    """Report what is wrong with rules of the language by themselves, with their defaults, used or not."""
    for definition in definitions:
        if definition.broken or any(p.default is None for p in definition.item.parameters):
            continue
        try:
            choice = default_choice(configuration, definition)
        except Refused as refused:
            if refused.error is not None:
                bag.add(refused.error)
            continue
        for error in written(definition).mistakes(choice.options):
            bag.add(error)


def settings(values: Mapping[str, Any], graph: Graph) -> Iterator[Setting]:
    """Yield what each rule learns under, by stage and `train` block; nothing where a field is missing."""
    stages = [stage.options for stage in listed(values.get("stages", ())) if stage.name == "fit"]
    groups: tuple[Group, ...] = values.get("groups", ()) or (Group(),)
    for stage in stages or [{}]:
        for group in groups:
            choice = group.rule or stage.get("learn") or values.get("learn")
            loss = group.loss or values.get("loss")
            if choice is not None and loss is not None:
                yield Setting(
                    graph=graph,
                    choice=choice,
                    loss=loss,
                    optimizer=group.optimizer or stage.get("optimizer") or values.get("optimizer"),
                    schedule=group.schedule or stage.get("schedule") or values.get("schedule"),
                    keys=learned_keys(graph) if group.keys is None else group.keys,
                    precision=values.get("precision", "float32"),
                )
