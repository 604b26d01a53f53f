"""The forward of many networks at once, as plain batched operations.

In: the functional form of a network and example tensors. Out: the same under `vmap`, traced once for these
shapes and cleaned of what vmap leaves behind, so that a step costs what hand-written batched code costs:
vmap itself would dispatch every operation again at each step. A trace sees through functions with a gradient
of their own (straight-through maps) and might meet others that it changes, so its gradients are compared
with vmap's on the example; where they differ, vmap itself is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.runtime.trace import trace

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]
    Forward = Callable[..., Tensor]


def stacked(function: Forward, own_inputs: bool, training: bool) -> Forward:
    """Return `forward(state, *inputs)` over stacked states; inputs are each network's own, or shared."""
    from torch import vmap

    from nnspec.compiler.emit.load import plain_attention

    def forward(state: State, *inputs: Tensor) -> Tensor:
        return function(state, *inputs, training=training)

    def over(state: State, *inputs: Tensor) -> Tensor:
        places = (0, *((0 if own_inputs else None) for _ in inputs))
        with plain_attention():
            return vmap(forward, in_dims=places)(state, *inputs)

    return over


def traced(forward: Forward, state: State, inputs: tuple[Tensor, ...]) -> Forward:
    """Return a stacked forward as one flat function for tensors of these shapes, checked against it."""
    plain = {name: tensor.detach() for name, tensor in state.items()}
    module = trace(forward, plain, *inputs)
    clean(module)

    def run(state: State, *inputs: Tensor) -> Tensor:
        return flat(*state.values(), *inputs)[0]

    from torch.fx.graph import CodeGen

    # The tree of arguments is flat already; taking it apart at each call would cost as much as an operation.
    module.graph.set_codegen(CodeGen())
    module.recompile()
    flat: Any = module.forward
    return run if _agree(run, forward, plain, inputs) else forward


def _agree(run: Forward, forward: Forward, state: State, inputs: tuple[Tensor, ...]) -> bool:
    """Whether outputs and gradients are those of vmap, to rounding."""
    import torch

    found: list[list[Tensor]] = []
    for function in (run, forward):
        own = {name: t.clone().requires_grad_(t.is_floating_point()) for name, t in state.items()}
        try:
            output = function(own, *inputs)
            # A weighting that no two entries share, so that wrong gradients cannot cancel.
            weights = torch.linspace(0.5, 1.5, output.numel(), device=output.device, dtype=output.dtype)
            weighted: Any = (output.flatten() * weights).sum()
            weighted.backward()
        except RuntimeError:
            return False
        found.append([output.detach(), *(t.grad if t.grad is not None else t * 0 for t in own.values())])
    tolerance = 1e-9 if found[0][0].itemsize == 8 else 1e-4
    return all(
        bool((one - other).abs().max() <= tolerance * (1 + other.abs().max()))
        for one, other in zip(*found, strict=True)
    )


def clean(module: Any) -> None:
    """Drop operations that change nothing, and join each product of matrices with the sum behind it."""
    graph = module.graph
    for node in list(graph.nodes):
        if _changes_nothing(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        _join(graph, node)
    graph.eliminate_dead_code()


def _changes_nothing(node: Any) -> bool:
    from torch import ops

    aten = ops.aten
    if node.op != "call_function":
        return False
    if node.target in (aten.expand.default, aten.view.default, aten._unsafe_view.default):
        return shape(node) is not None and shape(node) == shape(node.args[0])
    return node.target is aten.mul.Scalar and node.args[1] == 1


def _join(graph: Any, node: Any) -> None:
    """Make `add(bias, bmm(a, b))` one `baddbmm(bias, a, b)`."""
    import torch
    from torch import ops

    aten = ops.aten
    if node.op != "call_function" or node.target is not aten.add.Tensor or len(node.args) != 2:
        return
    bias, product = node.args
    joins = (
        not node.kwargs
        and getattr(product, "target", None) is aten.bmm.default
        and len(product.users) == 1
        and shape(product) == shape(node)
        and len(shape(bias) or ()) == 3
    )
    if joins:
        with graph.inserting_before(node):
            joined = graph.call_function(torch.baddbmm, (bias, *product.args))
        joined.meta = node.meta
        node.replace_all_uses_with(joined)
        graph.erase_node(node)


def shape(node: Any) -> tuple[int, ...] | None:
    """Return the shape of what a node of a trace gives."""
    meta = getattr(node, "meta", {}).get("tensor_meta")
    return None if meta is None else tuple(meta.shape)
