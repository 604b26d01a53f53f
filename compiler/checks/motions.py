"""The motions of a network's loops, at given weights and inputs: from a graph to functions of flat states.

A loop inside a layer is met with what enters that layer, as the network's own forward gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.checks.equilibria import Motions
from nnspec.compiler.checks.loops import Placed
from nnspec.compiler.checks.motion import Motion
from nnspec.compiler.ir import Graph, Port, Pullback, Statement, state_key

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.emit.system import System

_DAMPING, _STEP = "damping", "dt"


def motions_of(
    graph: Graph, placed: Placed, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...]
) -> Motions:
    """Return the motions of one loop of a network, sample by sample of its inputs, in double precision."""
    from nnspec.compiler.emit.system import system

    loop = placed.loop
    exact = {key: t.double() if t.is_floating_point() else t for key, t in state.items()}
    entering = _entering(graph, placed, exact, inputs)
    prefix = f"{state_key(placed.path, '')}." if placed.path else ""
    own = {key.removeprefix(prefix): t for key, t in exact.items() if key.startswith(prefix)}
    net = system(Graph(name=placed.block.name, root=placed.block))
    weights = net.weights(own)
    measure = _energy(net)
    stride = float(loop.solver.options.get(_STEP if loop.form == "flow" else _DAMPING, 1.0))

    def motion(samples: Tensor) -> Motion:
        given = net.begin(weights, *(values[samples] for values in entering))
        start = net.start(given)
        shapes = [tensor.shape[1:] for tensor in start]

        def function(states: Tensor) -> Tensor:
            return _flat(net.step(given, _parts(states, shapes)))

        def energy(states: Tensor) -> Tensor:
            assert measure is not None
            return measure(given.weights, *given.values, *_parts(states, shapes))

        return Motion(
            form=loop.form,
            function=function,
            start=_flat(start).detach(),
            stride=stride,
            clip=loop.clip,
            energy=None if measure is None else energy,
        )

    return motion


def _energy(net: System) -> Callable[..., Tensor] | None:
    """Return the energy whose slope a flow descends, a number a sample; None where dynamics state none."""
    name = net.loop.energy
    if name is None:
        return None
    body: list[Statement] = []
    for statement in net.loop.body:
        if isinstance(statement, Pullback) and statement.end == name:
            body += statement.through
            break
        body.append(statement)
    values = (*net.outer, *(state.before for state in net.loop.carried))
    return net.made("energy", tuple(body), tuple(Port(name=v, value=v) for v in values), (name,))


def _flat(states: Any) -> Tensor:
    import torch

    return torch.cat([tensor.flatten(1) for tensor in states], 1)


def _parts(states: Tensor, shapes: list[Any]) -> tuple[Tensor, ...]:
    sizes = [shape.numel() for shape in shapes]
    split: Any = states
    pairs = zip(split.split(sizes, 1), shapes, strict=True)
    return tuple(part.reshape(len(states), *shape) for part, shape in pairs)


def _entering(
    graph: Graph, placed: Placed, state: dict[str, Tensor], inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return what enters the block of a loop when the network is given its inputs."""
    import torch

    from nnspec.compiler.emit.load import module

    if not placed.path:
        return inputs
    network = module(graph).double()
    network.load_state_dict(state)
    network.eval()
    found: list[tuple[Tensor, ...]] = []
    part = network.get_submodule(state_key(placed.path, ""))
    part.register_forward_pre_hook(lambda _, given: found.append(given))
    with torch.no_grad():
        network(*inputs)
    return found[0]
