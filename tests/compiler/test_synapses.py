"""Rules see synapses: backprop written with them is autograd's gradient, on a binary residual conv net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nnspec.compiler.emit.form import site_of
from nnspec.compiler.emit.load import initial_state, map_function, module
from nnspec.compiler.flat import Held, Use
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.synapses import Synapse, Wiring, synapses

NET = """
layer block(c: int) {
  input  x: real[c, h, w]
  output y = x + (x -> conv2d(c, kernel = 3, padding = "same") -> tanh)
}
network n {
  input  x: real[2, 4, 4]
  shared again = conv2d(3, kernel = 3, padding = "same")
  a = x -> conv2d(3, kernel = 1) as stem -> tanh
  b = a -> again -> tanh -> again -> repeat(2) { block(3) }
  output y: real[3] = b -> global_avgpool -> dense(5) -> relu -> square -> dense(3) as head
  constrain every conv2d.weight: binary
}
"""


def effective(held: Held, leaves: dict[str, Tensor]) -> Tensor:
    """The weight that an operation sees, made once and kept in `leaves` under its path."""
    return leaves[held.key]


def evaluate(wiring: Wiring, leaves: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Evaluate a flat graph use by use, by the operations' own expressions."""
    flat = wiring.flat
    values: list[Tensor] = [x] * len(flat.values)
    for use in flat.uses:
        names: dict[str, Any] = {f"x{i}": values[v] for i, v in enumerate(use.inputs)}
        weights = {name: f"w_{name}" for name, _ in use.weights} | {"training": "False"}
        names |= {f"w_{name}": effective(held, leaves) for name, held in use.weights}
        made = _call(use, names, weights)
        for number, value in zip(use.outputs, made if isinstance(made, tuple) else (made,), strict=True):
            value.retain_grad()
            values[number] = value
    return values


def _call(use: Use, names: dict[str, Any], weights: dict[str, str]) -> Any:
    inputs = tuple(f"x{i}" for i in range(len(use.inputs)))
    text = operation(use.primitive.operation).call(site_of(use.primitive), inputs, weights)
    return eval(text, {"torch": torch, "F": F, **names})


def weight_gradient(synapse: Synapse, wiring: Wiring, values: list[Tensor], shape: torch.Size) -> Tensor:
    """pre times the gradient of the drive: an outer product, or a convolution's own weight gradient."""
    use = wiring.flat.uses[synapse.use]
    pre, error = values[synapse.pre], values[synapse.drive].grad
    assert error is not None
    if len(shape) == 2:
        return error.T @ pre
    assert use.primitive.options["padding"] in ("same", 0, "valid")
    padding = (shape[-1] - 1) // 2
    return torch.nn.grad.conv2d_weight(pre.detach(), shape, error, padding=padding)


def test_backprop_by_synapses_is_the_gradient(build: Callable[..., Graph]) -> None:
    graph = build(NET)
    state = {name: tensor.double() for name, tensor in initial_state(graph, 0).items()}
    x, y = torch.randn(6, 2, 4, 4, dtype=torch.float64), torch.randint(0, 3, (6,))

    net = module(graph).double()
    net.load_state_dict(state)
    F.cross_entropy(net(x), y).backward()
    expected = {name: p.grad for name, p in net.named_parameters()}

    wiring = synapses(graph)
    leaves: dict[str, Tensor] = {}
    for synapse in wiring.synapses:
        for held in (synapse.weight, synapse.bias):
            if held is not None and held.key not in leaves:
                made = state[state_key(held.path, held.weight.name)].clone()
                for item in held.weight.maps:
                    made = map_function(item)(made)
                leaves[held.key] = made.detach().requires_grad_()
    values = evaluate(wiring, leaves, x)
    F.cross_entropy(values[wiring.flat.outputs[0]], y).backward()

    found: dict[str, Tensor] = {}
    for synapse in wiring.synapses:
        key = state_key(synapse.weight.path, synapse.weight.weight.name)
        gradient = weight_gradient(synapse, wiring, values, leaves[synapse.weight.key].shape)
        if synapse.weight.weight.maps:  # the straight-through window of the constraint
            gradient = gradient * (state[key].abs() <= 1)
        found[key] = found.get(key, torch.zeros_like(gradient)) + gradient  # shared uses add up
        if synapse.bias is not None:
            error = values[synapse.drive].grad
            assert error is not None
            own = error.sum(dim=[d for d in range(error.dim()) if d != 1])
            bias = state_key(synapse.bias.path, synapse.bias.weight.name)
            found[bias] = found.get(bias, torch.zeros_like(own)) + own
    assert set(found) == set(expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12)


def test_post_is_behind_the_longest_chain_of_functions(build: Callable[..., Graph]) -> None:
    wiring = synapses(build(NET))
    named = {s.path: [wiring.flat.uses[u].primitive.operation for u in s.functions] for s in wiring.synapses}
    assert named["dense"] == ["relu", "square"]
    assert named["repeat[1].block.conv2d"] == ["tanh"]
    assert named["head"] == []
    head = next(s for s in wiring.synapses if s.path == "head")
    assert head.post == head.drive
    assert [s.path for s in wiring.synapses].count("again") == 2


def test_misfits_are_told(build: Callable[..., Graph]) -> None:
    wiring = synapses(
        build("""
network n {
  input  x: real[4]
  two = x -> dense(4) as forked
  gated = (x -> dense(4) as gate) * x
  output y = tanh(two) + sigmoid(two) + gated -> dense(2) as head
}
""")
    )
    misfits = {s.path: s.misfits for s in wiring.synapses}
    assert "read by `tanh` and `sigmoid`" in misfits["forked"][0]
    assert "enters the gate `multiply`" in misfits["gate"][0]
    assert misfits["head"] == ()


def test_pooling_is_not_a_function_of_entries(build: Callable[..., Graph]) -> None:
    graph = build(
        "network n {\n input x: real[1, 8, 8]\n"
        " output y = x -> conv2d(4, kernel = 3) -> tanh -> maxpool(2) -> flatten -> dense(3)\n}\n"
    )
    wiring = synapses(graph)
    first = wiring.synapses[0]
    assert [wiring.flat.uses[use].primitive.operation for use in first.functions] == ["tanh"]
    assert wiring.flat.values[first.post].type.shape == wiring.flat.values[first.drive].type.shape
