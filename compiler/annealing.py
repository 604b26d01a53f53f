"""How far training has come, for losses that read it: a number that the network of an experiment keeps for them.

In: a typed graph and the fields of an experiment. Out: the graph, with the number in its body where a loss or a
metric reads it and the body does not. A value of the network or a field of the data of that name stands before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nnspec.compiler.experiment import Choice, objectives_in
from nnspec.compiler.ir import Call, Child, Graph, Primitive, Weight
from nnspec.compiler.objective_scope import names_in, tracked
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation, operations
from nnspec.compiler.runtime import data
from nnspec.compiler.typing_primitives import in_batch


def tracking_word() -> str:
    """Return the word for how far training has come."""
    return next(rule.name for rule in operations().values() if rule.tracks)


def fit_progress(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """Return the graph of an experiment with these fields, its data's fields being known; else as it is."""
    choice: Choice | None = values.get("data")
    known = None if choice is None else data.describe(choice)
    return graph if known is None else with_progress(graph, values, (field.name for field in known))


def with_progress(graph: Graph, values: Mapping[str, Any], fields: Iterable[str]) -> Graph:
    """Return the graph in which the objectives among the values find how far training has come.

    `fields` are the names of the data's fields.
    """
    word = tracking_word()
    asked = any(
        name.name == word
        for objective in objectives_in(tuple(value for key, value in values.items() if key != "start"))
        for name in names_in(objective.source.expression)
    )
    root = graph.root
    own = {*root.named, *(port.name for port in (*root.inputs, *root.outputs)), *fields}
    if not asked or word in own or tracked(graph):
        return graph
    rule = operation(word)
    site = Site(arguments={"follows": 0}, inputs=())
    (kind,) = in_batch(rule.shape(site), ())
    weights = tuple(
        Weight(name=tensor.name, stored=(tensor,), shape=tensor.shape, init=tensor.init)
        for tensor in rule.tensors(site)
    )
    primitive = Primitive(
        operation=word, arguments=tuple(site.arguments.items()), weights=weights, outputs=(kind,)
    )
    name = _free(word, {c.name for c in root.children} | {getattr(s, "name", "") for s in root.body})
    value = _free(word, set(dict(root.types)))
    root = root.replace(
        children=(*root.children, Child(name=name, instances=(primitive,))),
        body=(*root.body, Call(child=name, inputs=(), outputs=(value,))),
        types=(*root.types, (value, kind)),
    )
    return graph.replace(root=root)


def _free(name: str, taken: set[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
