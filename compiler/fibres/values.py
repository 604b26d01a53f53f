"""The values inside a network on a batch: every tensor of the flat graph, by its number.

In: a typed graph, a state and inputs. Each use of an operation is run as a network of its own, with the
weights as that use sees them; nothing here knows what an operation computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.load import function, weight_function
from nnspec.compiler.flat import Cycle, Use, flatten
from nnspec.compiler.ir import Block, Call, Child, Graph, Instance, Port, Primitive, Tensor, Weight, state_key
from nnspec.compiler.operations.operation import Operation
from nnspec.compiler.operations.registry import operation

if TYPE_CHECKING:
    import torch

_CHILD = "used"


def values(
    graph: Graph, state: Mapping[str, torch.Tensor], inputs: tuple[torch.Tensor, ...]
) -> list[torch.Tensor]:
    """Return the value of every number of `flatten(graph)`, with the batch as first axis."""
    flat = flatten(graph)
    found: dict[int, torch.Tensor] = dict(zip(flat.inputs, inputs, strict=True))
    for cycle in flat.cycles:  # a step is looked at from where the states have come to
        settled = function(_settling(graph, cycle))(state, *inputs)
        made = settled if isinstance(settled, tuple) else (settled,)
        found.update(zip((*cycle.before, *cycle.results), (*made, *made), strict=True))
    for use in flat.uses:
        if any(number not in found for number in use.outputs):
            made = Runner(use)(state, tuple(found[number] for number in use.inputs))
            found.update(zip(use.outputs, made, strict=True))
    return [found[number] for number in range(len(flat.values))]


def has_values(graph: Graph) -> bool:
    """Whether all values can be had: loops stand in the body of the network, and no use needs more than its inputs."""
    flat = flatten(graph)
    ends = {index for cycle in flat.cycles for index in (cycle.first, cycle.last)}
    return all(cycle.loop in graph.root.body for cycle in flat.cycles) and all(
        index in ends or type(operation(use.primitive.operation)).call is not Operation.call
        for index, use in enumerate(flat.uses)
    )


def _settling(graph: Graph, cycle: Cycle) -> Graph:
    """Return the network whose outputs are the settled states of a loop of its own body."""
    names = {state.result: state.declared for state in cycle.loop.carried}
    ports = tuple(Port(name=f"state{place}", value=value) for place, value in enumerate(names))
    root = graph.root
    return graph.replace(root=root.replace(outputs=ports, updates=(), penalties=()))


class Runner:
    """One use of an operation as a function of a state and its inputs; weights are made of what is stored."""

    def __init__(self, use: Use) -> None:
        self.forward = function(_alone(use))
        self.weights = [
            (
                state_key(f"{_CHILD}.{name}" if "." in name else _CHILD, _own(name)),
                weight_function(held.weight, held.path),
                held.transposed,
            )
            for name, held in use.weights
        ]

    def __call__(
        self, state: Mapping[str, torch.Tensor], inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        parameters: dict[str, torch.Tensor] = {}
        for key, weight, transposed in self.weights:
            parameters[key] = weight(state).transpose(0, 1) if transposed else weight(state)
        made: Any = self.forward(parameters, *inputs)
        return made if isinstance(made, tuple) else (made,)


def _own(name: str) -> str:
    return "" if "." in name else name


def _alone(use: Use) -> Graph:
    """Return a network that is one use of an operation, with plain weights."""
    inputs = tuple(f"in{index}" for index in range(len(use.inputs)))
    outputs = tuple(f"out{index}" for index in range(len(use.outputs)))
    primitive = use.primitive
    body = primitive.options.get("body")
    instance: Instance = body if isinstance(body, Block) else _plain(use)
    block = Block(
        name="use",
        inputs=tuple(Port(name=name, value=name) for name in inputs),
        outputs=tuple(Port(name=name, value=name) for name in outputs),
        children=(Child(name=_CHILD, instances=(instance,)),),
        body=(Call(child=_CHILD, inputs=inputs, outputs=outputs),),
        types=tuple(zip((*inputs, *outputs), (*primitive.inputs, *primitive.outputs), strict=True)),
    )
    return Graph(name="use", root=block)


def _plain(use: Use) -> Primitive:
    """Return the operation with weights that are stored as they are used."""
    weights = tuple(
        Weight(name=name, stored=(Tensor(name=name, shape=held.weight.shape),), shape=held.weight.shape)
        for name, held in use.weights
    )
    return use.primitive.replace(weights=weights, constraints=())
