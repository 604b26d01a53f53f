"""`shared_with`: one weight, stored once, for two instances of one shape."""

from __future__ import annotations

import torch

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network net {
  input  x: real[6]
  output y: real[6] = x -> dense(6) as first -> tanh -> dense(6) as second
  constrain second.*: shared_with(first.weight)
}
"""


def test_both_use_the_weight_that_one_stores() -> None:
    bag = Bag()
    checked = check(Source("net.nnspec", TEXT.replace("second.*", "second.weight")), bag)
    graph = checked.graph(checked.networks()[0])
    assert graph is not None and not list(bag)
    net, x = module(graph), torch.randn(4, 6)
    assert sorted(net.state_dict()) == ["first.bias", "first.weight", "second.bias"]
    w, b, c = (net.state_dict()[name] for name in ("first.weight", "first.bias", "second.bias"))
    assert torch.allclose(net(x), torch.tanh(x @ w.t() + b) @ w.t() + c, atol=1e-6)
    assert torch.equal(net(x), function(graph)(net.state_dict(), x))


def test_a_bias_is_no_weight_of_that_shape() -> None:
    bag = Bag()
    check(Source("net.nnspec", TEXT), bag)
    assert [error.code for error in bag] == ["N0409"]
