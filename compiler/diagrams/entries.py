"""The entries of weights for pictures of units: which there are, and from where to where their axes lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph, instances, state_key
from nnspec.compiler.relations import Contract, Term

if TYPE_CHECKING:
    import numpy as np


def sides(relation: Contract, live: Term, weight: Term) -> tuple[list[int], list[int], list[int]]:
    """Return the axes of a weight that are a kernel's, those that lead to its input and those to its output."""
    made = relation.output.labels
    sources = [a for a, label in enumerate(weight.labels) if label in live.labels and label not in made]
    targets = [a for a, label in enumerate(weight.labels) if label in made]
    kernel = [a for a in range(len(weight.labels)) if a not in sources and a not in targets]
    return kernel, sources, targets


def present(graph: Graph, key: str) -> np.ndarray[Any, Any]:
    """Return which entries of an effective weight are not zero where all that is learned is."""
    import torch

    from nnspec.compiler.emit.load import effective_weight, initial_state

    random = torch.Generator().manual_seed(0)
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            if weight.tie is None and state_key(located.path, weight.name) == state_key(key, ""):
                state = initial_state(graph, 0)
                for tensor in weight.stored:
                    own = state_key(located.path, tensor.name)
                    if tensor.kind == "learned":
                        state[own] = torch.rand(state[own].shape, generator=random) + 0.5
                found: Any = effective_weight(weight, located.path, state).detach() != 0
                return found.numpy()
    raise KeyError(key)
