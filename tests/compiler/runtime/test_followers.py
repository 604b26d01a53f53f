"""Followers against a loop written by hand, going on, many at once, and what a follower takes from its leader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import nnspec
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.tensors import tensors

GoesOn = Callable[[Experiment, int], None]
Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

TEXT = """
layer encoder(w: int = 16) {{
  input  x: real[n]
  output y: real[w] = x -> dense(w) as fc -> tanh
}}
network boot(w: int = 16) {{
  input  x: real[2]
  shared online = encoder(w)
  shared target = follow(online, {how})
  code = x -> online
  goal = x -> target
  output y: real[2] = code -> dense(2) as head
  output gap = (code - stop_gradient(goal)) ^ 2 -> sum
  {line}
}}
experiment e {{
  network   = boot
  data      = moons(samples = 200, test = 0.2)
  loss      = cross_entropy(y, label) + 0.1 * gap
  learn     = backprop
  optimizer = adam(lr = 0.01)
  epochs    = 4
  batch     = 32
  {fields}
}}
"""


def text(how: str, fields: str = "", line: str = "") -> str:
    return TEXT.format(how=how, fields=fields, line=line)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.fc(x))


class Boot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.online = Encoder()
        self.target = Encoder()
        self.head = nn.Linear(16, 2)
        self.target.load_state_dict(self.online.state_dict())
        self.target.requires_grad_(False)


@pytest.mark.parametrize(("how", "every", "decay"), [("every = 7", 7, None), ("decay = 0.9", None, 0.9)])
def test_it_is_what_a_script_does(
    experiment: Make, trained: Train, how: str, every: int | None, decay: float | None
) -> None:
    own = experiment(text(how, 'seed_mode = "torch"\n  seeds = 2'))
    found = load_state(trained(own).path, 2)
    train = data.load(own.data, Path(".")).train
    x, label = train.inputs["point"], train.targets
    torch.manual_seed(2)
    net = Boot()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.01, fused=True)
    step = 0
    for _ in range(4):
        for index in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            code, goal = net.online(x[index]), net.target(x[index])
            gap = ((code - goal) ** 2).sum(-1)
            losses = functional.cross_entropy(net.head(code), label[index], reduction="none") + 0.1 * gap
            losses.mean().backward()
            optimizer.step()
            step += 1
            with torch.no_grad():
                for follower, leader in zip(net.target.parameters(), net.online.parameters(), strict=True):
                    if decay is not None:
                        follower.mul_(decay).add_(leader, alpha=1 - decay)
                    elif every is not None and step % every == 0:
                        follower.copy_(leader)
    assert all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items())
    assert not torch.equal(found["target.fc.weight"], found["online.fc.weight"])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seeds", ["0", "0..1"])
def test_it_goes_on(experiment: Make, goes_on: GoesOn, seeds: str, count: int) -> None:
    own = experiment(text("every = 3", f"seeds = {seeds}"))
    goes_on(own, count)


def test_many_at_once_are_what_they_are_alone(experiment: Make, trained: Train, tmp_path: Path) -> None:
    double = 'precision = "float64"'
    together = trained(experiment(text("decay = 0.8", f"seeds = 0..1\n  {double}")), out=tmp_path / "a")
    assert (together.path / "stack.safetensors").exists()
    for seed in (0, 1):
        alone = trained(experiment(text("decay = 0.8", f"seeds = {seed}\n  {double}")), out=tmp_path / "b")
        one, other = load_state(together.path, seed), load_state(alone.path, seed)
        assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-9) for name in one)


@pytest.mark.parametrize(
    "line", ["", "constrain online.fc.weight: binary", "constrain online.**: nonnegative"]
)
def test_a_follower_is_of_its_leaders_shape(experiment: Make, trained: Train, line: str) -> None:
    own = experiment(text("every = 1", line=line))
    kinds = {key: (tensor.kind, tensor.shape) for key, tensor in tensors(own.graph)}
    leaders = {
        k: shape for k, (kind, shape) in kinds.items() if k.startswith("online.") and kind == "learned"
    }
    followers = {
        k: shape for k, (kind, shape) in kinds.items() if k.startswith("target.") and kind == "frozen"
    }
    assert leaders == {key.replace("target.", "online."): shape for key, shape in followers.items()}
    found = load_state(trained(own).path, 0)
    for key in leaders:
        assert torch.equal(found[key], found[key.replace("online.", "target.")])


def test_it_begins_equal_and_takes_no_gradient() -> None:
    network = nnspec.load(text("every = 5")).network("boot")
    module = network.torch(seed=0)
    state = module.state_dict()
    assert torch.equal(state["target.fc.weight"], state["online.fc.weight"])
    assert not any(p.requires_grad for n, p in module.named_parameters() if n.startswith("target."))
    assert network.symmetry().number_of_nodes()
