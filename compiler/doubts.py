"""Warns of constraints that hold on their weights, and are hardly meant: units without input and the like.

In: a typed graph, so that a spec with errors is not warned about as well. Out: warnings in the bag.
"""

from __future__ import annotations

from nnspec.compiler.ir import Graph, Primitive, instances
from nnspec.compiler.typing_weights import weight_site
from nnspec.dsl.diagnostics import Bag


def warn_of_constraints(graph: Graph, bag: Bag) -> None:
    """Add what the constraints of a network have to say of the weights that they are laid on."""
    seen: set[int] = set()
    for located in instances(graph.root):
        if id(located.primitive) not in seen:
            seen.add(id(located.primitive))
            _warn(located.primitive, located.path, bag)


def _warn(primitive: Primitive, path: str, bag: Bag) -> None:
    weights = {weight.name: weight for weight in primitive.weights}
    for laid in primitive.constraints:
        weight = weights[laid.weight]
        site = weight_site(laid, weight.name, weight.shape, primitive, {})
        for doubt in laid.rule.doubts(site, primitive, path):
            bag.add(doubt)
