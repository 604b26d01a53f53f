"""Weights of instances as values, and products of vectors and matrices with and without a batch axis."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

TIED = """
network lm(words: int = 20, width: int = 8) {
  input tokens: int[T]
  h = tokens -> embedding(words, width) as embed -> dense(width) as fc -> tanh
  output y = h @ transpose(embed.weight) + fc.bias @ transpose(embed.weight)
  CONSTRAIN
}
"""


@pytest.mark.parametrize("constraint", ["", "constrain embed.weight: binary"])
def test_a_tied_read_out_reads_the_effective_weight(build: Build, constraint: str) -> None:
    graph = verify(build(TIED.replace("CONSTRAIN", constraint)))
    net = module(graph)
    assert list(net.state_dict()) == ["embed.weight", "fc.weight", "fc.bias"]
    state = {name: tensor.clone().requires_grad_() for name, tensor in net.state_dict().items()}
    tokens = torch.randint(0, 20, (3, 5))
    table = state["embed.weight"]
    if constraint:
        table = torch.where(table >= 0, 1.0, -1.0)
    h = torch.tanh(F.linear(F.embedding(tokens, table), state["fc.weight"], state["fc.bias"]))
    expected = h @ table.T + table @ state["fc.bias"]
    torch.testing.assert_close(net(tokens), expected)
    torch.testing.assert_close(function(graph)(state, tokens), expected)
    torch.testing.assert_close(exported(graph, state=net.state_dict()).module()(tokens), expected)
    if not constraint:  # the gradient adds up over both uses
        expected.sum().backward()
        net(tokens).sum().backward()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(parameter.grad, state[name].grad)


def test_the_effective_weight_is_computed_once_a_forward(build: Build) -> None:
    text = emit(build(TIED.replace("CONSTRAIN", "constrain embed.weight: binary")))
    assert text.count("binary(self.embed.weight)") == 1
    assert cost_table(build(TIED.replace("CONSTRAIN", ""))).parameters == 20 * 8 + 8 * 8 + 8


def test_weights_of_shared_tied_and_unnamed_instances(build: Build) -> None:
    graph = verify(
        build(
            """
network n {
  input x: real[8]
  shared enc = dense(5, bias = false)
  code = x -> enc -> tanh
  back = code -> dense(8) as dec
  plain = back -> dense(8)
  output y = (code @ enc.weight) * dec.bias + sum(dec.weight) + dense.weight @ back + transpose(dec.weight) @ plain
  constrain dec.weight: tied(enc.weight, transpose = true)
}""".replace("+ transpose(dec.weight) @ plain", "+ mean(transpose(dec.weight) @ plain)")
        )
    )
    net, x = module(graph), torch.randn(3, 8)
    p = net.state_dict()
    assert sorted(p) == ["dec.bias", "dense.bias", "dense.weight", "enc.weight"]
    enc = p["enc.weight"]
    code = torch.tanh(x @ enc.T)
    back = code @ enc + p["dec.bias"]
    plain = F.linear(back, p["dense.weight"], p["dense.bias"])
    expected = (code @ enc) * p["dec.bias"] + enc.sum() + back @ p["dense.weight"].T
    expected = expected + (plain @ enc.T).mean(1, keepdim=True)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(function(graph)(p, x), expected)


@pytest.mark.parametrize("left", ["5", "2,5", "3,2,5", "1,2,5"])
@pytest.mark.parametrize("right", ["5", "5,4", "3,5,4", "1,5,4"])
def test_products_of_vectors_and_matrices(build: Build, left: str, right: str) -> None:
    """Each side an input or a parameter, against torch's product of each sample alone."""
    if left == right == "5":
        return
    for kinds in product("xp", "xp"):
        sides = list(zip("ab", (left, right), kinds, strict=True))
        lines = "".join(
            f"  input {name}: real[{shape}]\n"
            if kind == "x"
            else f"  parameter {name}: real[{shape}] = normal\n"
            for name, shape, kind in sides
        )
        graph = build(f"network n {{\n  input z: real[1]\n{lines}  output y = (a @ b) * z[0]\n}}")
        net = module(graph)
        for batch in (2, 3, 5):
            values: dict[str, Tensor] = {}
            inputs = [torch.ones(batch, 1)]
            for name, shape, kind in sides:
                sizes = [int(size) for size in shape.split(",")]
                if kind == "x":
                    values[name] = torch.randn(batch, *sizes)
                    inputs.append(values[name])
                else:
                    values[name] = net.state_dict()[name].expand(batch, *sizes)
            expected = torch.stack([values["a"][i] @ values["b"][i] for i in range(batch)])
            torch.testing.assert_close(net(*inputs), expected)
            torch.testing.assert_close(function(graph)(net.state_dict(), *inputs), expected)
