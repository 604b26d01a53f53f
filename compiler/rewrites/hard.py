"""Hard and evaluated versions: a network whose constraints are replaced by the weights they give.

In: a typed graph. Out: a graph that stores the effective weights themselves. In the hard version those with a
gradient of their own are replaced, so that it is what would be deployed and nothing passes straight through; in
the evaluated version every map is, but one that stores fewer numbers than the weight has: a sparse matrix without
its zeros, thin factors, orbits. `hard_state` and `evaluated_state` turn the state of the one into that of the other,
and `soft_state` leads back.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nnspec.compiler.ir import (
    Block,
    Graph,
    Instance,
    Primitive,
    Tensor,
    Weight,
    instances,
    state_key,
)
from nnspec.compiler.tensors import tensors
from nnspec.compiler.verify import verify

if TYPE_CHECKING:
    import torch

Which: TypeAlias = "Callable[[Weight], bool]"


def is_soft(graph: Graph) -> bool:
    """Return whether a network has straight-through constraints, so that its hard version differs."""
    return any(
        _is_hardened(weight) for located in instances(graph.root) for weight in located.primitive.weights
    )


def hard(graph: Graph) -> Graph:
    """Return the hard version of a typed graph; instances that were one object stay one."""
    return _replaced(graph, _is_hardened)


def hard_state(graph: Graph, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state of `hard(graph)` that computes what `graph` computes with this state."""
    return _replaced_state(graph, state, _is_hardened)


def soft_state(
    graph: Graph, state: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the state of `graph` that stores the weights of a state of `hard(graph)` for learning: it computes the same.

    What is learned beside a weight starts anew from it; masks are those of `buffers`. A scale is then fitted by least
    squares: it may start from a mean over all entries, also over those that a mask removes.
    """
    from nnspec.compiler.emit.load import code_function, effective_weight

    found = buffers | state
    for located in instances(graph.root):
        for weight in filter(_is_hardened, located.primitive.weights):
            own = state[state_key(located.path, weight.name)]
            for item in weight.maps:
                if item.start is not None and any(tensor.kind == "learned" for tensor in item.stored):
                    made = code_function(item.start)(own)
                    parts = cast("tuple[torch.Tensor, ...]", made if isinstance(made, tuple) else (made,))
                    keys = [state_key(located.path, tensor.name) for tensor in item.stored]
                    found.update(zip(keys, parts, strict=True))
                    if item.has_own_gradient:
                        found[keys[0]] = fitted(
                            parts[0], effective_weight(weight, located.path, found).detach(), own
                        )
    return {key: found[key] for key, _ in tensors(graph)}


def fitted(scale: torch.Tensor, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the scale with which a weight that is proportional to it is nearest to the one that is wanted."""
    squares = (made * made).sum_to_size(scale.shape)
    return scale * ((made * wanted).sum_to_size(scale.shape) / squares).where(squares > 0, 1.0)


def evaluated(graph: Graph) -> Graph:
    """Return the evaluated version of a typed graph, for inference."""
    return _replaced(graph, _is_evaluated)


def evaluated_state(graph: Graph, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state of `evaluated(graph)` that computes what `graph` computes with this state."""
    return _replaced_state(graph, state, _is_evaluated)


def effective(graph: Graph) -> Graph:
    """Return the version that stores every weight as it is used, whatever its constraint makes it of."""
    return _replaced(graph, lambda weight: bool(weight.maps))


def _is_hardened(weight: Weight) -> bool:
    return any(item.has_own_gradient for item in weight.maps)


def _is_evaluated(weight: Weight) -> bool:
    if len(weight.maps) == 1 and weight.maps[0].replaces:
        return sum(map(_count, weight.stored)) >= _count(weight)
    return bool(weight.maps)


def _count(given: Tensor | Weight) -> int:
    return prod(size for size in given.shape if isinstance(size, int))


def _replaced(graph: Graph, which: Which) -> Graph:
    return verify(graph.replace(root=_block(graph.root, which, {})))


def _replaced_state(graph: Graph, state: dict[str, torch.Tensor], which: Which) -> dict[str, torch.Tensor]:
    from nnspec.compiler.emit.load import effective_weight

    found = dict(state)
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            if which(weight):
                given = effective_weight(weight, located.path, state).detach()
                for tensor in weight.stored:
                    found.pop(state_key(located.path, tensor.name), None)
                found[state_key(located.path, weight.name)] = given
    return found


def _block(block: Block, which: Which, known: dict[int, Any]) -> Block:
    if id(block) not in known:
        children = tuple(
            child.replace(instances=tuple(_instance(i, which, known) for i in child.instances))
            for child in block.children
        )
        known[id(block)] = block.replace(children=children)
    return known[id(block)]


def _instance(instance: Instance, which: Which, known: dict[int, Any]) -> Instance:
    if isinstance(instance, Block):
        return _block(instance, which, known)
    if id(instance) not in known:
        known[id(instance)] = _primitive(instance, which)
    return known[id(instance)]


def _primitive(primitive: Primitive, which: Which) -> Primitive:
    weights = tuple(_weight(w) if which(w) else w for w in primitive.weights)
    replaced = {w.name for w in primitive.weights if which(w)}
    constraints = tuple(c for c in primitive.constraints if c.weight not in replaced)
    return primitive.replace(weights=weights, constraints=constraints)


def _weight(weight: Weight) -> Weight:
    """The weight stored as it is used: neither maps nor what follows a step are left."""
    kind = "frozen" if any(tensor.kind == "frozen" for tensor in weight.stored) else "learned"
    stored = Tensor(name=weight.name, shape=weight.shape, kind=kind)
    return weight.replace(maps=(), projections=(), penalties=(), stored=(stored,))
