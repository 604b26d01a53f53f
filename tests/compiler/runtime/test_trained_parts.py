"""Parts of trained networks as layers of other networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.emit.load import module_class
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import instances
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.dsl.diagnostics import RunError

GoesOn = Callable[[Experiment, int], None]
Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

TEXT = """
layer encoder {{
  input  x: real[n]
  output y: real[8] = x -> dense(8) as fc -> batchnorm as norm -> tanh -> repeat(2) {{ dense(8) as f -> tanh }}
}}
network small {{
  input  x: real[2]
  output y: real[2] = x -> encoder as encoder -> dense(2) as out
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
network other {{
  input  x: real[2]
  {body}
}}
experiment second = first {{
  network = other
  epochs  = 2
  {fields}
}}
"""
SHARED = """shared backbone = trained(first).encoder
  output y: real[2] = x -> backbone -> dense(4) as wide -> tanh -> dense(2) as head"""
FROZEN = f"{SHARED}\n  constrain backbone.** except backbone.norm.*: frozen"


def text(body: str = SHARED, seeds: str = "3", fields: str = "", optimizer: str = "adam(lr = 0.01)") -> str:
    return TEXT.format(body=body, seeds=seeds, fields=fields, optimizer=optimizer)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 8)
        self.norm = nn.BatchNorm1d(8)
        self.repeat = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.norm(self.fc(x)))
        for layer in self.repeat:
            x = torch.tanh(layer(x))
        return x


class First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.out = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.encoder(x))


class Second(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Encoder()
        self.wide = nn.Linear(8, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.wide(self.backbone(x))))


def by_hand(
    own: Experiment, make: Callable[[], nn.Module], epochs: int, learns: Callable[[str], bool]
) -> nn.Module:
    """A script that seeds torch, makes its network and trains those parameters that learn."""
    train = data.load(own.data, Path(".")).train
    x, label = train.inputs["point"], train.targets
    torch.manual_seed(3)
    net = make()
    parameters = [tensor for name, tensor in net.named_parameters() if learns(name)]
    optimizer = torch.optim.Adam(parameters, lr=0.01, fused=True)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(32):
            net.zero_grad()
            functional.cross_entropy(net(x[index]), label[index]).backward()
            optimizer.step()
    return net


def names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of our network under the names of the script's."""
    return {name.replace(".f.", "."): tensor for name, tensor in state.items()}


def is_learned(name: str) -> bool:
    return not name.startswith("backbone.") or "norm" in name


@pytest.mark.parametrize("body", [SHARED, FROZEN])
def test_it_is_what_a_script_does(experiment: Make, trained: Train, body: str) -> None:
    own = experiment(text(body))
    result = trained(own)
    first = by_hand(own, First, 3, lambda name: True)

    def begun() -> Second:
        net = Second()
        net.backbone.load_state_dict(first.encoder.state_dict())
        return net

    second = by_hand(own, begun, 2, is_learned if body is FROZEN else lambda name: True)
    found = names(load_state(result.path, 3))
    wanted = second.state_dict()
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("part", "here", "there"),
    [
        ("trained(first).encoder", "part.", "encoder."),
        ("trained(first).encoder.fc", "part.", "encoder.fc."),
        ("trained(first).encoder.repeat[1].f", "part.", "encoder.repeat.1.f."),
        ("trained(first)", "part.", ""),
    ],
)
def test_each_path_begins_as_its_own(
    experiment: Make, trained: Train, part: str, here: str, there: str
) -> None:
    width = "dense(8) as wide ->" if "repeat" in part else ""
    body = f"output y: real[2] = x -> {width} {part} as part -> dense(2) as head"
    result = trained(experiment(text(body, fields="train head.** { }")))
    first = load_state(next(result.path.parent.glob("first-*")), 3)
    found = load_state(result.path, 3)
    parts = {key: tensor for key, tensor in found.items() if key.startswith(here) and "norm" not in key}
    assert parts
    assert all(torch.equal(tensor, first[there + key.removeprefix(here)]) for key, tensor in parts.items())


def test_constraints_come_along(experiment: Make) -> None:
    given = text().replace("  seed_mode", "  constrain encoder.fc.weight: max_norm(2)\n  seed_mode")
    given = given.replace(
        "experiment second = first {",
        """experiment second {
  data  = moons
  loss  = cross_entropy
  learn = backprop
  seeds = 3""",
    )
    graph = experiment(given).graph
    found = {located.path: located.primitive for located in instances(graph.root)}
    (projection,) = found["backbone.fc"].weights[0].projections
    assert projection.name == "max_norm"
    assert not found["wide"].weights[0].projections


def test_a_follower_of_a_part_begins_as_it(experiment: Make, trained: Train) -> None:
    body = """shared online = trained(first).encoder.fc
  shared target = follow(online, every = 1000)
  output y: real[2] = stop_gradient(x -> target) + (x -> online) -> dense(2) as head"""
    result = trained(experiment(text(body, fields="train head.** { }")))
    found = load_state(result.path, 3)
    assert torch.equal(found["target.weight"], found["online.weight"])
    first = load_state(next(result.path.parent.glob("first-*")), 3)
    assert torch.equal(found["target.weight"], first["encoder.fc.weight"])


def test_what_has_a_part_is_a_part_again(experiment: Make, trained: Train) -> None:
    more = """
network third_net {
  input  x: real[2]
  output y: real[2] = x -> trained(second).backbone as eye -> dense(2) as head
}
experiment third = second {
  network = third_net
  train head.** { }
}
"""
    own = experiment(text() + more)
    assert [part.experiment.name for part in own.parts] == ["second"]
    result = trained(own)
    found = load_state(result.path, 3)
    second = load_state(next(result.path.parent.glob("second-*")), 3)
    assert torch.equal(found["eye.fc.weight"], second["backbone.fc.weight"])


def test_the_identity_is_of_both(experiment: Make, trained: Train) -> None:
    given = text(fields="optimizer = sgd(lr = 0.1)")
    one = trained(experiment(given))
    other = trained(experiment(given.replace("adam(lr = 0.01)", "adam(lr = 0.02)")))
    renamed = given.replace("experiment first", "experiment primal").replace("(first)", "(primal)")
    again = trained(experiment(renamed.replace("second = first", "second = primal")))
    assert one.path.name != other.path.name
    assert one.path.name == again.path.name
    record = json.loads((one.path / "run.json").read_text())
    (part,) = record["parts"]
    assert part["experiment"] == "primal"
    assert part["paths"]["backbone.fc"] == "encoder.fc"


def test_each_seed_begins_with_its_own(experiment: Make, trained: Train) -> None:
    result = trained(experiment(text(seeds="0..2", fields="train head.** { }")))
    first = next(result.path.parent.glob("first-*"))
    for seed in range(3):
        before, after = load_state(first, seed), load_state(result.path, seed)
        assert torch.equal(before["encoder.fc.weight"], after["backbone.fc.weight"])


@pytest.mark.parametrize("count", [1, 3, 4])
def test_it_goes_on_in_either(experiment: Make, goes_on: GoesOn, count: int) -> None:
    own = experiment(text())
    goes_on(own, count)


def test_weights_that_diverged_are_refused(experiment: Make, trained: Train) -> None:
    with pytest.raises(RunError) as caught:
        trained(experiment(text(optimizer="sgd(lr = 1e38)", fields="optimizer = sgd(lr = 0.1)")))
    assert caught.value.error.code == "N0811"


def test_what_is_emitted_begins_afresh(experiment: Make) -> None:
    graph = experiment(text()).graph
    assert "begins as `first.encoder` ends" in emit(graph)
    torch.manual_seed(0)
    assert module_class(graph)()(torch.zeros(4, 2)).shape == (4, 2)
    child = graph_data(graph)
    assert '"begins": {"experiment": "first", "path": "encoder"}' in json.dumps(child)


def test_what_was_pruned_stays_zero_and_further_constraints_begin_from_it(
    experiment: Make, trained: Train
) -> None:
    given = text(f"{SHARED}\n  constrain backbone.repeat[0].f.weight: low_rank(2)")
    given = given.replace("  epochs    = 3", "  stages = [fit(epochs = 2), prune(density = 0.5)]")
    given = given.replace("  epochs  = 2", "  stages = [fit(epochs = 1)]\n  train head.** { }")
    result = trained(experiment(given))
    found = load_state(result.path, 3)
    first = load_state(next(result.path.parent.glob("first-*")), 3)
    zeros = first["encoder.repeat.1.f.weight"] == 0
    assert zeros.any()
    assert not found["backbone.repeat.1.f.weight"][zeros].any()
    names = [key for key in found if key.startswith("backbone.repeat.0.f.weight_")]
    one, other = (found[name] for name in names)
    before = first["encoder.repeat.0.f.weight"]
    u, s, v = torch.linalg.svd(before)
    product = one @ other if one.shape[1] == other.shape[0] else one @ other.T
    assert torch.allclose(product, u[:, :2] * s[:2] @ v[:2], atol=1e-5)
