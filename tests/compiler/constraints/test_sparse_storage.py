"""Sparse layers without their zeros compute and learn what the dense layer with a mask does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.constraints.code import sparse
from nnspec.compiler.emit.load import effective_weight, function, module
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

STORED = {
    "sparse(0.02)": "rows",
    'sparse(0.02, pattern = "fan_in")': "rows",
    'sparse(0.1, pattern = "blocks", block = 16)': "blocks",
    "sparse(0.04)": "masked",
    'sparse(0.1, pattern = "blocks", block = 8)': "masked",
    "binary & sparse(0.02)": "masked",
    "sparse(0.02) & nonnegative": "masked",
}


def graph(constraint: str, n: int = 512) -> Graph:
    text = (
        f"network net {{\n  input x: real[3, {n}]\n  output y = x -> dense({n}) as fc -> tanh -> dense(2) as head\n"
        f"  constrain fc.weight: {constraint}\n}}"
    )
    bag = Bag()
    checked = check(Source("net.nnspec", text), bag)
    found = checked.graph(checked.networks()[0])
    assert found is not None and not bag.failed
    return found


@pytest.mark.parametrize("constraint", STORED)
def test_size_density_and_company_decide_what_is_stored(constraint: str) -> None:
    names = {
        name.removeprefix("fc.weight") for name in module(graph(constraint)).state_dict() if "fc.w" in name
    }
    kinds = {
        "rows": {"_values", "_ends", "_columns"},
        "blocks": {"_blocks", "_columns"},
        "masked": {"", "_mask"},
    }
    assert names == kinds[STORED[constraint]]


@pytest.mark.parametrize("constraint", [c for c, kind in STORED.items() if kind != "masked"])
def test_it_learns_what_the_masked_layer_learns(constraint: str) -> None:
    typed = graph(constraint)
    torch.manual_seed(0)
    net = module(typed).double()
    weight = constrained_weights(typed)[0].weight
    mask = effective_weight(weight, "fc", net.state_dict()) != 0
    twin = effective_weight(weight, "fc", net.state_dict()).clone().requires_grad_()
    ours = torch.optim.SGD(net.parameters(), lr=0.01)
    theirs = torch.optim.SGD([twin], lr=0.01)
    for _ in range(3):
        x, target = torch.randn(5, 3, 512).double(), torch.randn(5, 3, 2).double()
        ours.zero_grad(), theirs.zero_grad()
        bias, head = net.fc.bias.detach(), net.head.weight.detach().clone()
        y = torch.tanh(functional.linear(x, twin * mask, bias))
        functional.linear(y, head, net.head.bias.detach().clone()).sub(target).square().sum().backward()
        net(x).sub(target).square().sum().backward()
        ours.step(), theirs.step()
        found = effective_weight(weight, "fc", net.state_dict())
        assert torch.allclose(found, twin * mask, atol=1e-12)
    assert torch.allclose(net(x), function(typed)(net.state_dict(), x), atol=1e-12)


def test_the_gradient_of_the_input_and_of_nothing_else() -> None:
    weight = torch.randn(7, 9, dtype=torch.float64)
    values, ends, columns = sparse.random_rows(weight, 0.3)
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=True)
    values.requires_grad_()

    def layer(*given: Any) -> torch.Tensor:
        return sparse.sparse_linear(given[0], given[1], ends, columns, given[2])

    assert torch.autograd.gradcheck(layer, (x, values, bias))
    values.requires_grad_(False)
    layer(x, values, bias).sum().backward()
    assert torch.allclose(x.grad, sparse.dense_rows(values, ends, columns, 9).sum(0).expand(4, 9))


def test_memory_is_in_proportion_to_what_is_kept() -> None:
    net = module(graph("sparse(0.01)", 1024))
    own = [t for name, t in net.state_dict().items() if name.startswith("fc.weight")]
    kept = round(0.01 * 1024 * 1024)
    assert sum(t.numel() * t.element_size() for t in own) == 4 * kept + 4 * kept + 4 * 1025


def test_operations_are_counted_for_what_is_kept() -> None:
    masked, kept = (cost_table(graph(text)).layers[0].flops for text in ("sparse(0.04)", "sparse(0.02)"))
    assert masked == 2 * 3 * 512 * 512 and kept == 2 * 3 * round(0.02 * 512 * 512)


def test_mixed_precision_multiplies_in_that_of_the_values() -> None:
    net, x = module(graph("sparse(0.02)")), torch.randn(2, 3, 512)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x)
    assert torch.allclose(mixed.float(), net(x), atol=0.05)
