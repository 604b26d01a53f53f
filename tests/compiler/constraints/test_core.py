"""What holds for every constraint: stored tensors, the chain of maps, and how lines overlap."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnspec.compiler.emit.load import effective_weight, function, module
from nnspec.compiler.ir import Graph, instances
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

NET = """
network net {
  input  x: real[4]
  output y: real[3] = x -> dense(16) as fc1 -> tanh -> repeat(3) { dense(16) -> tanh } -> dense(3) as head
  constrain fc1.weight: low_rank(2)
  constrain repeat.dense.weight: low_rank(4)
  constrain head.**: frozen
}
"""


def graph(text: str) -> Graph:
    bag = Bag()
    checked = check(Source("net.nnspec", text), bag)
    assert not list(bag), list(bag)
    found = checked.graph(checked.networks()[-1])
    assert found is not None
    return found


def test_a_constraint_may_store_other_tensors() -> None:
    torch.manual_seed(0)
    net = module(graph(NET))
    assert {name: tuple(t.shape) for name, t in net.state_dict().items() if "fc1" in name} == {
        "fc1.bias": (16,),
        "fc1.weight_left": (16, 2),
        "fc1.weight_right": (2, 4),
    }
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["head.weight", "head.bias"]


def test_the_initial_factors_are_the_nearest_matrix() -> None:
    torch.manual_seed(0)
    drawn = nn.Linear(4, 16).weight
    torch.manual_seed(0)
    net = module(graph(NET))
    made = net.fc1.weight_left @ net.fc1.weight_right
    values = torch.linalg.svdvals(drawn)
    # Eckart and Young: the distance is the norm of the singular values left out.
    assert torch.allclose((made - drawn).norm(), values[2:].norm(), rtol=1e-5)


def test_module_and_function_agree() -> None:
    typed = graph(NET)
    net, x = module(typed), torch.randn(5, 4)
    assert torch.equal(net(x), function(typed)(net.state_dict(), x))


def test_effective_weights_come_from_a_state() -> None:
    typed = graph(NET)
    state = module(typed).state_dict()
    fc1 = next(located for located in instances(typed.root) if located.path == "fc1")
    weight = next(w for w in fc1.primitive.weights if w.name == "weight")
    expected = state["fc1.weight_left"] @ state["fc1.weight_right"]
    assert torch.equal(effective_weight(weight, "fc1", state), expected)


def test_a_frozen_weight_stays_frozen_under_a_later_line() -> None:
    typed = graph(NET + "network more = net { constrain head.weight: binary }")
    assert not module(typed).head.weight.requires_grad


@pytest.mark.parametrize(
    "constraint", ["low_rank(2)", "orthogonal", 'binary(scale = "channel", learned = true)', "sparse(0.5)"]
)
def test_all_that_a_frozen_weight_stores_is_frozen(constraint: str) -> None:
    typed = graph(NET + f"network more = net {{ constrain fc1.weight: {constraint} & frozen }}")
    learned = [name for name, p in module(typed).named_parameters() if p.requires_grad]
    assert not any("fc1.weight" in name for name in learned)
    assert "fc1.bias" in learned


def test_a_penalty_does_not_change_a_frozen_weight() -> None:
    text = (
        NET
        + """
network more = net {
  constrain fc1.bias: l1(0.1)
}
network still = more {
  constrain fc1.bias: frozen
}
"""
    )
    bias = next(
        weight
        for located in instances(graph(text).root)
        if located.path == "fc1"
        for weight in located.primitive.weights
        if weight.name == "bias"
    )
    assert not bias.penalties


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("fc1.weight: low_rank(5)", "N0654"),
        ("fc1.bias: low_rank(1)", "N0654"),
        ("fc1.weight: low_rank(1) & low_rank(2)", "N0652"),
        ("head.weight: binary & tied(fc1.weight)", "N0652"),
    ],
)
def test_what_cannot_hold_is_refused(line: str, code: str) -> None:
    bag = Bag()
    text = NET + f"network more = net {{ constrain {line} }}"
    check(Source("net.nnspec", text), bag)
    assert [error.code for error in bag] == [code]


PARAMETERS = """
layer mixing(n: int) {
  input x: real[T, n]
  parameter turn: real[n, n] = normal(std = 0.5)
  parameter thin: real[n, n] = normal(std = 0.5)
  parameter even: real[n, n] = normal(std = 0.5)
  output y = x @ turn @ thin @ even
  constrain turn: orthogonal
  constrain thin: low_rank(2)
  constrain even: symmetric & quantize(bits = 4, learned = true)
}
network net {
  input  x: real[5, 6]
  output y = x -> mixing(6) -> repeat(2) { mixing(6) }
}
"""


def test_what_is_stored_for_a_parameter_stands_beside_it() -> None:
    typed = graph(PARAMETERS)
    net = module(typed)
    stored = {name for name in net.state_dict() if name.startswith("mixing.")}
    names = ("turn", "turn_base", "thin_left", "thin_right", "even", "even_scale")
    assert stored == {f"mixing.{name}" for name in names}
    x = torch.randn(3, 5, 6)
    assert torch.allclose(function(typed)(net.state_dict(), x), net(x))
    net(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    weights = {
        item.path: effective_weight(item.primitive.weights[0], item.path, net.state_dict())
        for item in instances(typed.root)
        if item.path.startswith("mixing.")
    }
    turn, thin, even = (weights[f"mixing.{name}"] for name in ("turn", "thin", "even"))
    assert torch.allclose(turn @ turn.mT, torch.eye(6), atol=1e-5)
    assert torch.linalg.matrix_rank(thin) == 2 and torch.equal(even, even.mT)
    assert torch.allclose(net.mixing(x), x @ turn @ thin @ even, atol=1e-5)


def test_a_block_reads_its_number_type_off_what_is_stored() -> None:
    """Whole numbers come in, and the first layer's weight is there no more."""
    typed = graph("""network net {
      input  t: int[4]
      output y = where(t > 2, 1, 0) * (t -> embedding(9, 1) as table -> flatten)
      constrain table.weight: low_rank(1)
    }""")
    net = module(typed)
    t = torch.tensor([[0, 3, 5, 8]])
    made = net.table.weight_left @ net.table.weight_right
    assert torch.allclose(net(t), torch.where(t > 2, made[t].flatten(1), 0.0))
    assert torch.allclose(function(typed)(net.state_dict(), t), net(t))


@pytest.mark.parametrize(
    ("projection", "norm"), [("max_norm(0.1)", lambda row: row.norm()), ("simplex", lambda row: row.sum())]
)
def test_a_module_begins_inside_its_sets_on_the_entries_that_are_kept(projection: str, norm: Any) -> None:
    """Of rows with one entry each: their norm is the bound, not less; their sum is 1."""
    text = f"""
network net {{
  input  x: real[4]
  output y: real[8] = x -> dense(8) as fc
  initialize fc.weight: constant(2.0)
  constrain fc.weight: {projection} & mask((i, j) => i % 4 == j)
}}
"""
    net = module(graph(text))
    effective = net.fc.weight * net.fc.weight_mask
    expected = 0.1 if "norm" in projection else 1.0
    assert [float(norm(row)) for row in effective] == pytest.approx([expected] * 8)


def test_freezing_a_part_freezes_its_weights_and_lets_its_buffers_be() -> None:
    text = """
network net {
  input  x: real[4]
  output y: real[3] = x -> dense(5) as fc -> batchnorm as norm -> dense(3) as head
  constrain fc.**, norm.**: frozen
}
"""
    learned = [name for name, p in module(graph(text)).named_parameters() if p.requires_grad]
    assert learned == ["head.weight", "head.bias"]
