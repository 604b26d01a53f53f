"""How directed the connections of a network of neurons are, and the same weights made more or less so.

In: a typed graph with a loop, and a state. A weight W from states to the same states is S + K, symmetric and
antisymmetric. Its asymmetry is |K| / |S|: 0 of a symmetric weight, 1 on average where both directions are drawn alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.checks.loops import loops
from nnspec.compiler.ir import Graph, Primitive, Weight, state_key
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


class Recurrent(Node):
    """A weight [units, units] that connects states with themselves: the path of its instance, and what is stored."""

    path: str
    weight: Weight
    key: str


def recurrent(graph: Graph) -> tuple[Recurrent, ...]:
    """Return the weights that may be directed and have both directions of each pair."""
    return tuple(_recurrent(graph))


def _recurrent(graph: Graph) -> Iterator[Recurrent]:
    for placed in loops(graph):
        before = {state.name: state.before for state in placed.loop.carried}
        for connection in placed.loop.connections:
            targets = tuple(before[name] for name in connection.targets)
            instance = placed.block.child(connection.child).instances[0]
            if connection.both or connection.sources != targets or not isinstance(instance, Primitive):
                continue
            path = f"{placed.path}.{connection.child}" if placed.path else connection.child
            for weight in instance.weights:
                square = len(weight.shape) == 2 and weight.shape[0] == weight.shape[1]
                learned = [tensor for tensor in weight.stored if tensor.kind == "learned"]
                if square and [tensor.shape for tensor in learned] == [weight.shape]:
                    yield Recurrent(path=path, weight=weight, key=state_key(path, learned[0].name))


def with_asymmetry(graph: Graph, state: Mapping[str, Tensor], amount: float) -> dict[str, Tensor]:
    """Return the state with S + amount K in the place of each such weight S + K."""
    found = dict(state)
    for own in recurrent(graph):
        stored = found[own.key]
        found[own.key] = (stored + stored.mT) / 2 + amount * (stored - stored.mT) / 2
    return found


def asymmetry(graph: Graph, state: Mapping[str, Tensor]) -> float | None:
    """Return |W - W'| / |W + W'| of the weights in use, all of them as one; None if there are none."""
    from nnspec.compiler.emit.load import effective_weight

    used = [effective_weight(own.weight, own.path, dict(state)).double() for own in recurrent(graph)]
    both = sum(float((weight + weight.mT).square().sum()) for weight in used)
    apart = sum(float((weight - weight.mT).square().sum()) for weight in used)
    return (apart / both) ** 0.5 if both else None
