"""Programs for other tools compute what the module computes, for any batch size."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from nnspec.compiler.emit.export import exported, onnx_model
from nnspec.compiler.emit.load import module
from nnspec.compiler.ir import Graph
from nnspec.compiler.naming import GRAPH_ATTRIBUTES
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

CONSTRAINED = """
network net {
  input  x: real[4]
  output score: real[3] = x -> dense(16) as fc1 -> tanh -> repeat(2) { dense(16) -> tanh } -> dense(3) as head
  constrain fc1.weight: low_rank(2)
  constrain repeat[1].dense.weight, head.weight: binary
}
"""
TWO = """
network net {
  input  left: real[4]
  input  right: real[4]
  output sum: real[3] = (left -> dense(3) as a) + (right -> dense(3) as b)
  output difference: real[4] = left - right
}
"""


def graph(text: str) -> Graph:
    bag = Bag()
    checked = check(Source("net.nnspec", text), bag)
    found = checked.graph(checked.networks()[-1])
    assert found is not None, list(bag)
    return found


@pytest.mark.parametrize("text", [CONSTRAINED, TWO])
def test_exported_programs_agree_with_the_module(text: str) -> None:
    typed = graph(text)
    net = module(typed).eval()
    inputs = tuple(torch.randn(7, 4) for _ in typed.root.inputs)
    found = exported(typed, state=net.state_dict()).module()(*inputs)
    torch.testing.assert_close(found, net(*inputs))


@pytest.mark.slow
@pytest.mark.parametrize("text", [CONSTRAINED, TWO])
def test_onnx_models_agree_with_the_module(text: str) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    typed = graph(text)
    net = module(typed).eval()
    session = runtime.InferenceSession(onnx_model(typed, net.state_dict()))
    names = [port.name for port in typed.root.inputs]
    assert [given.name for given in session.get_inputs()] == names
    assert [given.name for given in session.get_outputs()] == [port.name for port in typed.root.outputs]
    inputs = [torch.randn(7, 4) for _ in names]
    found = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    expected = net(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(GRAPH_ATTRIBUTES))
def test_instances_may_bear_any_name(name: str) -> None:
    """An exported program is a module of its own kind, which answers to more than others."""
    text = f"network net {{\n  input  x: real[4]\n  output y: real[2] = x -> dense(2) as {name}\n}}\n"
    net, x = module(graph(text)), torch.randn(3, 4)
    assert list(net.state_dict()) == [f"{name}_.weight", f"{name}_.bias"]
    program = exported(graph(text), state=net.state_dict())
    torch.testing.assert_close(program.module()(x), net(x))


def test_names_that_exported_programs_keep_are_known() -> None:
    own = {*dir(fx.GraphModule), *vars(fx.GraphModule({}, fx.Graph()))} - {
        *dir(nn.Module),
        *vars(nn.Module()),
    }
    assert {name for name in own if not name.startswith("_")} <= GRAPH_ATTRIBUTES
