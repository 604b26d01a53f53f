"""Hard versions: a network whose straight-through constraints are replaced by the weights they give.

In: a typed graph. Out: a graph that stores the effective weights themselves, so that it is what would be
deployed: no map is left to run, and no gradient passes straight through anything. `hard_state` turns the
state of the one into the state of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import (
    Block,
    Graph,
    Instance,
    Primitive,
    Tensor,
    Weight,
    WeightMap,
    instances,
    state_key,
)
from nnspec.compiler.verify import verify

if TYPE_CHECKING:
    import torch


def is_soft(graph: Graph) -> bool:
    """Return whether a network has straight-through constraints, so that its hard version differs."""
    return any(
        item.has_own_gradient
        for located in instances(graph.root)
        for weight in located.primitive.weights
        for item in weight.maps
    )


def hard(graph: Graph) -> Graph:
    """Return the hard version of a typed graph; instances that were one object stay one."""
    return verify(graph.replace(root=_hard_block(graph.root, {})))


def hard_state(graph: Graph, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state of `hard(graph)` that computes what `graph` computes with this state."""
    from nnspec.compiler.emit.load import effective_weight

    found = dict(state)
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            if _is_hardened(weight.maps):
                hardened = effective_weight(weight, located.path, state).detach()
                for tensor in weight.stored:
                    found.pop(state_key(located.path, tensor.name), None)
                found[state_key(located.path, weight.name)] = hardened
    return found


def _is_hardened(maps: tuple[WeightMap, ...]) -> bool:
    return any(item.has_own_gradient for item in maps)


def _hard_block(block: Block, known: dict[int, Any]) -> Block:
    if id(block) not in known:
        children = tuple(
            child.replace(instances=tuple(_hard_instance(i, known) for i in child.instances))
            for child in block.children
        )
        known[id(block)] = block.replace(children=children)
    return known[id(block)]


def _hard_instance(instance: Instance, known: dict[int, Any]) -> Instance:
    if isinstance(instance, Block):
        return _hard_block(instance, known)
    if id(instance) not in known:
        known[id(instance)] = _hard_primitive(instance)
    return known[id(instance)]


def _hard_primitive(primitive: Primitive) -> Primitive:
    weights = tuple(_hard_weight(w) if _is_hardened(w.maps) else w for w in primitive.weights)
    hardened = {w.name for w in primitive.weights if _is_hardened(w.maps)}
    constraints = tuple(c for c in primitive.constraints if c.weight not in hardened)
    return primitive.replace(weights=weights, constraints=constraints)


def _hard_weight(weight: Weight) -> Weight:
    """The weight stored as it is used: no map is left."""
    kind = "frozen" if any(tensor.kind == "frozen" for tensor in weight.stored) else "learned"
    return weight.replace(maps=(), stored=(Tensor(name=weight.name, shape=weight.shape, kind=kind),))
