"""The parameters of a typed graph by their state-dict keys, and which of them a selector means."""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.ir import Graph, Tensor, instances, state_key


def tensors(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """Yield every stored tensor with its key, in construction order."""
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            for tensor in weight.stored:
                yield state_key(located.path, tensor.name), tensor


def learned_keys(graph: Graph) -> tuple[str, ...]:
    """Return the keys of all that a network learns."""
    return tuple(key for key, tensor in tensors(graph) if tensor.kind == "learned")
