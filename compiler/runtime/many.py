"""One network's function as a flat program for many networks: traced, mapped over them, and traced again.

In: a function of tensors that one network has, and these tensors for many, along a first axis, or shared. The first trace
sees through whatever Python the function is made of (gradients in it, feedback in place of weights, hooks);
what is left are plain operations, which `vmap` turns into those of many networks; the second trace keeps these, so
that no step costs more than they do. A function must not look at numbers: what it decides by them is decided once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.runtime.stacked_forward import clean, shape
from nnspec.compiler.runtime.trace import trace

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = tuple[Tensor, ...]
    Function = Callable[..., Sequence[Tensor]]


class Many:
    """A function of one network for many. Programs are made for each shape of what is given."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.known: dict[Any, Callable[..., Any]] = {}

    def __call__(self, own: Sequence[Tensor], shared: Sequence[Tensor] = ()) -> Tensors:
        """Return what the function gives of (one network's tensors, then those that all share), network first."""
        key = (shapes(own), shapes(shared))
        if key not in self.known:
            self.known[key] = flat(program(self.function, own, shared))
        return tuple(self.known[key](*own, *shared))


class ManySteps:
    """A step of one network, a function of (its states, then what no step changes), for many networks.

    What does not depend on the states is computed once, before the steps.
    """

    def __init__(self, step: Function) -> None:
        self.step = step
        self.known: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def begin(
        self, states: Tensors, own: Sequence[Tensor], shared: Sequence[Tensor] = ()
    ) -> Callable[[Tensors], Tensors]:
        """Return one step of all networks as a function of their states."""
        key = (shapes(states), shapes(own), shapes(shared))
        if key not in self.known:
            self.known[key] = parted(program(self.step, (*states, *own), shared), len(states))
        before, step = self.known[key]
        made = before(*states, *own, *shared)
        return lambda states: step(*states, *made)


def shapes(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """Return what a program depends on."""
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors)


def program(function: Function, own: Sequence[Tensor], shared: Sequence[Tensor]) -> Any:
    """Return a function of one network as a flat program for many, an `fx.GraphModule`."""
    import torch

    own, shared = [t.detach() for t in own], [t.detach() for t in shared]
    places = (*(0 for _ in own), *(None for _ in shared))
    with torch.autograd.set_multithreading_enabled(False):  # a trace sees its own thread
        alone = trace(lambda *given: tuple(function(*given)), *(t[0] for t in own), *shared)
        alone.graph.eliminate_dead_code()
        alone.recompile()
        together = trace(torch.vmap(alone, in_dims=places), *own, *shared)
    clean(together)
    return together


def flat(module: Any) -> Callable[..., Any]:
    """Return a program as a function of its tensors, without a tree of arguments to take apart."""
    from torch.fx.graph import CodeGen

    module.graph.set_codegen(CodeGen())
    module.recompile()
    return module.forward


# What takes of its input the shape alone.
_BY_SHAPE = ("ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full")


def _is_of_shape(node: Any, states: Sequence[Any]) -> bool:
    """Whether a node takes only the shape of its input; if it can, it is made to take that of a state."""
    if getattr(getattr(node.target, "overloadpacket", None), "__name__", "") not in _BY_SHAPE:
        return False
    like = shape(node.args[0])
    state = next((own for own in states if shape(own) == like), None)
    if state is not None:
        node.args = (state, *node.args[1:])
    return state is not None


def parted(module: Any, count: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Part a program whose first `count` inputs are states: what does not depend on them, and what does."""
    from torch import fx

    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    moving = set(inputs[:count])
    for node in module.graph.nodes:
        if node.op != "call_function" or _is_of_shape(node, inputs[:count]):
            continue
        if moving.intersection(node.all_input_nodes):
            moving.add(node)
    given = [n for n in module.graph.nodes if n.op != "output" and (n not in moving or n in inputs)]
    read = {
        n
        for node in module.graph.nodes
        if node in moving or node.op == "output"
        for n in node.all_input_nodes
    }
    kept = [node for node in given if node in read and node not in moving]
    before, step = fx.Graph(), fx.Graph()
    copies: dict[Any, Any] = {}
    for node in given:
        copies[node] = before.node_copy(node, lambda old: copies[old])
    before.output(tuple(copies[node] for node in kept))
    copies = {node: step.node_copy(node) for node in inputs[:count]}
    copies |= {node: step.placeholder(f"made_{place}") for place, node in enumerate(kept)}
    for node in module.graph.nodes:
        if (node in moving and node not in copies) or node.op == "output":
            copies[node] = step.node_copy(node, lambda old: copies[old])
    return flat(fx.GraphModule(module, before)), flat(fx.GraphModule(module, step))
