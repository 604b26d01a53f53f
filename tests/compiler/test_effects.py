"""Updates of buffers and penalties of layers: what they compute, when, and what a training makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.train import train
from nnspec.compiler.verify import verify
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

Build = Callable[..., Graph]

STANDARDISED = """
layer standardised(width: int) {
  input x: real[width]
  buffer centre: real[width] = zeros
  buffer spread: real[width] = ones
  buffer steps: int = zeros
  update centre = 0.9 * centre + 0.1 * x
  update spread = 0.9 * spread + 0.1 * (x - centre) ^ 2
  update steps = steps + 1
  z = (x - centre) / sqrt(spread + 0.001)
  penalty small = 0.01 * mean(square(z))
  output y = z
}
"""
NETWORK = f"""{STANDARDISED}
network n {{
  input x: real[2]
  output y: real[1] = x -> dense(6) -> repeat(2) {{ standardised(6) -> tanh }} -> dense(1)
}}
"""


class Standardised(nn.Module):
    """The layer as an expert writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(6))
        self.register_buffer("spread", torch.ones(6))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.small = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        z = (x - self.centre) / torch.sqrt(self.spread + 0.001)
        if self.training:
            self.small = 0.01 * z.square().mean()
            old = self.centre
            self.centre = (0.9 * old + 0.1 * x.mean(0)).detach()
            self.spread = (0.9 * self.spread + 0.1 * ((x - old) ** 2).mean(0)).detach()
            self.steps = self.steps + 1
        return z


class Twin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(2, 6)
        self.repeat = nn.ModuleList([nn.ModuleDict({"standardised": Standardised()}) for _ in range(2)])
        self.dense_2 = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense(x)
        for layer in self.repeat:
            x = torch.tanh(layer["standardised"](x))
        return self.dense_2(x)

    def penalty(self) -> Tensor:
        return sum((layer["standardised"].small for layer in self.repeat), torch.zeros(()))


def test_a_training_is_that_of_the_module_by_hand(build: Build) -> None:
    """Same weights, buffers, penalties and gradients over several steps of the whole objective."""
    graph = verify(build(NETWORK))
    torch.manual_seed(0)
    net = module(graph)
    torch.manual_seed(0)
    twin = Twin()
    learn = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (net, twin)]
    for _ in range(5):
        x, target = torch.randn(7, 2), torch.randn(7, 1)
        F.mse_loss(twin(x), target).add(twin.penalty()).backward()
        loss = F.mse_loss(net(x), target)
        terms = [v for m in net.modules() for v in getattr(m, "penalties", {}).values()]
        assert len(terms) == 2
        (loss + sum(terms)).backward()
        for optimizer in learn:
            optimizer.step()
            optimizer.zero_grad()
    state, expected = net.state_dict(), twin.state_dict()
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor)
    assert int(state["repeat.1.standardised.steps"]) == 5
    assert all(not buffer.requires_grad for buffer in net.buffers())


def test_evaluation_and_the_functional_form_change_nothing(build: Build) -> None:
    graph = build(NETWORK)
    net, x = module(graph).eval(), torch.randn(5, 2)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    y = net(x)
    torch.testing.assert_close(function(graph)(before, x), y)
    torch.testing.assert_close(function(graph)(before, x, training=True), y)
    torch.testing.assert_close(exported(graph, state=before).module()(x), y)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert "penalties" not in emit_functional(graph) and "square" not in emit_functional(graph)


def test_what_only_training_needs_is_computed_in_training_alone(build: Build) -> None:
    text = emit(build(NETWORK))
    head, _, rest = text.split("def forward")[1].partition("if self.training:")
    assert "square" not in head and "square" in rest
    data = graph_data(build(NETWORK))
    layer = next(d for d in data["definitions"] if d.get("name") == "standardised")
    assert [u["buffer"] for u in layer["updates"]] == ["centre", "spread", "steps"]
    assert layer["penalties"][0]["name"] == "small"


def test_all_updates_see_the_buffers_as_they_were(build: Build) -> None:
    graph = build("""
layer swap {
  input x: real[2]
  buffer a: real[2] = zeros
  buffer b: real[2] = ones
  parameter p: real[2] = constant(3)
  buffer c: real[2] = zeros
  update a = b
  update b = a
  update c = p * a + p
  output y = x + a
}
network n {
  input x: real[2]
  output y = x -> swap
}""")
    net, x = module(graph), torch.zeros(3, 2)
    found = [net(x)[0, 0].item() for _ in range(4)]
    assert found == [0.0, 1.0, 0.0, 1.0]
    assert not net.swap.c.requires_grad and net.swap.c.tolist() == [6.0, 6.0]


@pytest.mark.parametrize("value", ["p", "p[0..1]", "-p", "stop_gradient(p)", "progress * ones_of"])
def test_what_is_kept_of_a_parameter_stays_as_it_was(build: Build, value: str) -> None:
    """An optimizer changes a parameter in place, and a training loop how far it has come."""
    graph = build(f"""
layer keeper {{
  input x: real[2]
  parameter p: real[2] = constant(3)
  buffer ones_of: real[2] = ones
  buffer old: real[2] = zeros
  update old = {value}
  output y = x * p * progress
}}
network n {{
  input x: real[2]
  output y = x -> keeper
}}""")
    net = module(graph)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for share in (0.25, 0.5):
        net.keeper.progress.fill_(share)
        expected = {"-p": -net.keeper.p.detach(), "progress * ones_of": torch.full((2,), share)}.get(
            value, net.keeper.p.detach().clone()
        )
        net(torch.ones(3, 2)).sum().backward()
        optimizer.step()
        net.keeper.progress.fill_(1)
        torch.testing.assert_close(net.keeper.old, expected)
        assert not net.keeper.old.requires_grad and not torch.equal(net.keeper.old, net.keeper.p)


def run(folder: Path, fields: str, text: str = NETWORK) -> RunResult:
    spec = f"""{text}
experiment e {{
  network = n
  data = xor(samples = 40, test = 0.25)
  loss = binary_cross_entropy
  optimizer = sgd(lr = 0.1)
  epochs = 2
  batch = 10
  {fields}
}}"""
    bag = Bag()
    checked = check(Source("effects.nnspec", spec), bag)
    assert not bag.failed, list(bag)
    return train(checked.experiments[-1], root=folder, out=folder / "runs", device="cpu")


@pytest.mark.parametrize("rule", ["backprop", "weight_perturbation(sigma = 0.01)"])
def test_every_rule_follows_the_penalties_and_history_tells_them(tmp_path: Path, rule: str) -> None:
    result = run(tmp_path / "a", f"seeds = 0..1\n  learn = {rule}")
    paths = {"repeat[0].standardised.small", "repeat[1].standardised.small"}
    for row in result.history:
        assert set(row["penalties"]) == paths and all(value > 0 for value in row["penalties"].values())
    without = run(tmp_path / "b", f"learn = {rule}", NETWORK.replace("0.01 * mean", "0.0 * mean"))
    weighty = run(tmp_path / "c", f"learn = {rule}", NETWORK.replace("0.01 * mean", "10 * mean"))
    first = [sum(r.history[0]["penalties"].values()) for r in (without, weighty)]
    assert first[0] == 0 and first[1] > 0
    # The loss of a row is the objective: with the penalty in it.
    assert weighty.history[0]["loss"] > without.history[0]["loss"] + 0.5 * first[1]
    last = [r.history[-1]["penalties"] for r in (without, weighty)]
    assert all(value == 0 for value in last[0].values())


def test_seeds_in_company_are_those_alone(tmp_path: Path) -> None:
    company = run(tmp_path / "a", "seeds = 0..1\n  learn = backprop").history
    alone = run(tmp_path / "b", "seeds = 1\n  learn = backprop").history
    assert alone == tuple(row for row in company if row["seed"] == 1)
