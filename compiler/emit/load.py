"""Typed graph -> things that run: the module, the pure function, initial states.

The emitted text is executed as it stands; tracebacks and debuggers show its lines. torch is imported
inside the functions that need it.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, "Tensor"]


def module(graph: Graph) -> nn.Module:
    """Return the network as a new `nn.Module`, initialised from torch's generator in construction order."""
    return module_class(graph)()


def module_class(graph: Graph) -> Callable[[], nn.Module]:
    """Return the class of the network, to make several modules of one graph."""
    from torch import nn

    names = execute(emit(graph), graph.name)
    classes = [value for value in names.values() if isinstance(value, type) and issubclass(value, nn.Module)]
    return classes[-1]


def function(graph: Graph) -> Callable[..., Any]:
    """Return `forward(parameters, *inputs, training=False)`, a pure function of a flat dict of tensors."""
    return execute(emit_functional(graph), graph.name)["forward"]


def initial_state(graph: Graph, seed: int, count: int | None = None) -> State:
    """Return the state of a network initialised from `seed`.

    With `count`, return the states of seeds `seed`, `seed + 1`, .. stacked along a new first axis; each
    is what it would be alone. torch's global generator is left as it was.
    """
    import torch

    make = module_class(graph)
    states: list[State] = []
    with torch.random.fork_rng(devices=[]):
        for own in range(seed, seed + (1 if count is None else count)):
            torch.manual_seed(own)
            states.append(make().state_dict())
    if count is None:
        return {name: tensor.detach() for name, tensor in states[0].items()}
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def execute(text: str, name: str) -> dict[str, Any]:
    """Execute emitted text and return its names; the text is kept for tracebacks."""
    digest = blake2b(text.encode(), digest_size=6).hexdigest()
    path = f"<nnspec {''.join(c for c in name if c.isalnum() or c == '_')} {digest}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    names: dict[str, Any] = {"__name__": f"nnspec_{digest}"}
    exec(compile(text, path, "exec"), names)
    return names
