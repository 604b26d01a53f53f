"""Weights that come from elsewhere: those of another experiment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.results import Progress, RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.dsl.diagnostics import RunError

GoesOn = Callable[[Experiment, int], None]
Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

TEXT = """
network small {{
  input  x: real[2]
  output y: real[2] = x -> dense(16) as fc1 -> tanh -> dense(2) as head
}}
experiment first {{
  network   = small
  data      = moons(samples = 200, test = 0.2)
  loss      = cross_entropy
  learn     = backprop
  optimizer = {optimizer}
  batch     = 32
  seeds     = {seeds}
  epochs    = 3
  seed_mode = "torch"
}}
experiment second = first {{
  network = trained(first)
  epochs  = 2
  {fields}
}}
"""


def text(seeds: str = "3", fields: str = "", optimizer: str = "adam(lr = 0.01)") -> str:
    return TEXT.format(seeds=seeds, fields=fields, optimizer=optimizer)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.fc1(x)))


def by_hand(own: Experiment, seed: int, epochs: int, state: dict[str, torch.Tensor], head: bool) -> nn.Module:
    """A script that seeds torch, makes its network, loads weights, and trains."""
    train = data.load(own.data, Path(".")).train
    x, label = train.inputs["point"], train.targets
    torch.manual_seed(seed)
    net = Net()
    net.load_state_dict(net.state_dict() | state)
    parameters = list(net.head.parameters() if head else net.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.01, fused=True)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(32):
            net.zero_grad()
            functional.cross_entropy(net(x[index]), label[index]).backward()
            optimizer.step()
    return net


@pytest.mark.parametrize("fields", ["", "train head.** { }", "stages = [freeze(fc1.*), fit(epochs = 2)]"])
def test_tuning_is_what_a_script_does(experiment: Make, trained: Train, fields: str) -> None:
    given = text(fields=fields)
    own = experiment(given if "stages" not in fields else given.replace("epochs  = 2", ""))
    result = trained(own)
    first = by_hand(own, 3, 3, {}, head=False)
    second = by_hand(own, 3, 2, first.state_dict(), head=bool(fields))
    found = load_state(result.path, 3)
    assert all(torch.equal(found[name], tensor) for name, tensor in second.state_dict().items())


def test_what_is_finished_is_not_trained_again(experiment: Make, trained: Train) -> None:
    told: list[Progress] = []
    trained(experiment(text()), on_progress=told.append)
    assert [progress.epochs for progress in told] == [3, 3, 3, 2, 2]
    told.clear()
    trained(experiment(text()), on_progress=told.append)
    assert [progress.epochs for progress in told] == [2, 2]


def test_the_identity_is_of_both(experiment: Make, trained: Train) -> None:
    one, other = (trained(experiment(text(optimizer=f"adam(lr = {lr})"))) for lr in (0.01, 0.02))
    again = experiment(text().replace("epochs    = 3", "epochs    = 4"))
    names = {one.path.name, other.path.name, trained(again).path.name}
    assert len(names) == 3
    record = json.loads((one.path / "run.json").read_text())
    assert record["start"]["experiment"] == "first"
    assert (one.path.parent / f"first-{record['start']['identity'][:12]}").is_dir()


def test_each_seed_begins_with_its_own(experiment: Make, trained: Train) -> None:
    result = trained(experiment(text(seeds="0..2", fields="train head.** { }")))  # stacked
    first = next(result.path.parent.glob("first-*"))
    for seed in range(3):
        before, after = load_state(first, seed), load_state(result.path, seed)
        assert torch.equal(before["fc1.weight"], after["fc1.weight"])
        assert not torch.equal(before["head.weight"], after["head.weight"])


def test_all_begin_with_one_seed(experiment: Make, trained: Train) -> None:
    result = trained(experiment(text(fields="seeds = 5..6\n  train head.** { }")))
    one, other = (load_state(result.path, seed) for seed in (5, 6))
    assert torch.equal(one["fc1.weight"], other["fc1.weight"])
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.parametrize("seeds", ["3", "0..1"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_it_goes_on_in_either(experiment: Make, goes_on: GoesOn, seeds: str, count: int) -> None:
    own = experiment(text(seeds))
    goes_on(own, count)


def test_weights_that_diverged_are_refused(experiment: Make, trained: Train) -> None:
    with pytest.raises(RunError) as caught:
        trained(experiment(text(optimizer="sgd(lr = 1e38)", fields="optimizer = sgd(lr = 0.1)")))
    assert caught.value.error.code == "N0811"
