"""Stages, `train` blocks and restarts against loops written by hand, and going on inside each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune as torch_prune

from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.runtime import data, masks
from nnspec.compiler.runtime.results import Progress, RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.stack import SMALL
from nnspec.dsl.diagnostics import RunError

Make = Callable[..., Experiment]
Train = Callable[..., RunResult]
TORCH = 'seed_mode = "torch"'

SMALL_NET = """
network small {{
  input  x: real[2]
  output y: real[2] = x -> dense(16) as fc1 -> tanh -> dense(16) as fc2 -> tanh -> dense(2) as head
}}
experiment e {{
  network   = small
  data      = moons(samples = 200, test = 0.2, validation = 0.2)
  loss      = cross_entropy
  learn     = backprop
  batch     = 32
  metrics   = [accuracy]
  {fields}
}}
"""


@pytest.fixture
def moons(experiment: Callable[[str], Experiment]) -> Make:
    """`moons("epochs = 2", ...)`: a small net on the two moons with these fields."""

    def made(*fields: str) -> Experiment:
        if not any(field.startswith("optimizer") for field in fields):
            fields = (*fields, "optimizer = adam(lr = 0.01)")
        return experiment(SMALL_NET.format(fields="\n  ".join(fields)))

    return made


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, 16)
        self.fc2 = nn.Linear(16, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


class ByHand:
    """What a plain script does, stage by stage."""

    def __init__(self, own: Experiment, seed: int) -> None:
        train = data.load(own.data, Path(".")).train
        self.x, self.label = train.inputs["point"], train.targets
        torch.manual_seed(seed)
        self.net = Net()
        self.masks: dict[str, torch.Tensor] = {}

    def batches(self, epochs: int) -> Any:
        for _ in range(epochs):
            order = torch.randperm(len(self.x))
            for start in range(0, len(self.x), 32):
                yield order[start : start + 32]

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self.net(self.x[index]), self.label[index])

    def fit(self, epochs: int, lr: float, names: tuple[str, ...] = ("fc1", "fc2", "head")) -> None:
        parameters = [p for n, p in self.net.named_parameters() if n.split(".")[0] in names]
        optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
        for index in self.batches(epochs):
            self.net.zero_grad()
            self.loss(index).backward()
            optimizer.step()
            self.lay()

    def lay(self) -> None:
        with torch.no_grad():
            for name, mask in self.masks.items():
                self.net.get_parameter(name).mul_(mask)

    def prune(self, density: float) -> None:
        """The masks of `torch.nn.utils.prune`, laid on the weights."""
        modules = [(m, "weight") for m in (self.net.fc1, self.net.fc2, self.net.head)]
        torch_prune.global_unstructured(modules, torch_prune.L1Unstructured, amount=1 - density)
        for name in ("fc1", "fc2", "head"):
            module = self.net.get_submodule(name)
            self.masks[f"{name}.weight"] = module.get_buffer("weight_mask").clone()
            torch_prune.remove(module, "weight")
        self.lay()


def equal(found: dict[str, torch.Tensor], net: nn.Module) -> bool:
    return all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items())


def interrupt_after(count: int) -> Callable[[Progress], None]:
    told: list[Progress] = []

    def tell(progress: Progress) -> None:
        told.append(progress)
        if len(told) == count:
            raise KeyboardInterrupt

    return tell


# ------------------------------------------------------------------------------------------------- stages


STAGES = "stages = [fit(epochs = 2), prune(density = 0.25), fit(epochs = 2, lr = 0.003)]"


def test_pruning_in_stages_is_what_a_script_does(moons: Make, trained: Train) -> None:
    own = moons(STAGES, TORCH, "seeds = 3")
    found = load_state(trained(own).path, 3)
    hand = ByHand(own, 3)
    hand.fit(2, 0.01)
    hand.prune(0.25)
    hand.fit(2, 0.003)
    assert equal(found, hand.net)


def test_freezing_is_what_a_script_does(moons: Make, trained: Train) -> None:
    stages = "stages = [fit(epochs = 2), freeze([fc1.*, fc2.weight]), unfreeze(fc2.*), fit(epochs = 2)]"
    own = moons(stages, TORCH, "seeds = 3")
    found = load_state(trained(own).path, 3)
    hand = ByHand(own, 3)
    hand.fit(2, 0.01)
    hand.fit(2, 0.01, ("fc2", "head"))
    assert equal(found, hand.net)


def test_another_optimizer_rule_and_batch(moons: Make, trained: Train) -> None:
    stages = "stages = [fit(steps = 5), fit(epochs = 1, optimizer = sgd(lr = 0.1), batch = 64)]"
    own = moons(stages, TORCH)
    result = trained(own)
    assert [(row["stage"], row["epoch"], row["step"]) for row in result.history] == [
        (1, 1, 4),
        (1, 2, 5),
        (2, 3, 7),
    ]
    hand = ByHand(own, 0)
    adam = torch.optim.Adam(hand.net.parameters(), lr=0.01, fused=True)
    sgd = torch.optim.SGD(hand.net.parameters(), lr=0.1, fused=True)
    orders = [torch.randperm(len(hand.x)) for _ in range(3)]
    batches = [*orders[0].split(32), orders[1].split(32)[0], *orders[2].split(64)]
    for step, index in enumerate(batches):
        optimizer = adam if step < 5 else sgd
        hand.net.zero_grad()
        hand.loss(index).backward()
        optimizer.step()
    assert equal(load_state(result.path, 0), hand.net)


def test_a_schedule_spans_its_stage(moons: Make, trained: Train) -> None:
    """With `final = 0` the rate falls to nothing in each stage, and begins anew in the next."""
    fields = ("schedule = linear", TORCH)
    own = moons("stages = [fit(steps = 4), fit(steps = 8)]", *fields)
    hand = ByHand(own, 0)
    order, other, third = (torch.randperm(len(hand.x)).split(32) for _ in range(3))
    for steps, batches in ((4, order), (8, (*other, *third))):
        optimizer = torch.optim.Adam(hand.net.parameters(), lr=0.01, fused=True)
        for step, index in enumerate(batches):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
            hand.net.zero_grad()
            hand.loss(index).backward()
            optimizer.step()
    assert equal(load_state(trained(own).path, 0), hand.net)


def test_rows_after_pruning_are_measured(moons: Make, trained: Train) -> None:
    result = trained(moons("stages = [fit(epochs = 1), prune(density = 0.1)]"))
    assert [(row["stage"], row["epoch"], row["loss"] is None) for row in result.history] == [
        (1, 1, False),
        (2, 1, True),
    ]
    state = load_state(result.path, 0)
    weights = torch.cat([state[f"{name}.weight"].flatten() for name in ("fc1", "fc2", "head")])
    assert int(weights.count_nonzero()) == round(0.1 * weights.numel())
    assert result.seeds[0].metrics["test.loss"] == result.history[-1]["test"]["loss"]
    assert result.seeds[0].status == "finished"


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("by", ["magnitude", "random"])
def test_pruning_keeps_the_density_and_brings_nothing_back(scope: str, by: str) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(size, generator=generator) for name, size in (("a", 100), ("b", 50), ("c", 5))}
    first = {name: tensor.clone() for name, tensor in state.items()}
    found: dict[str, torch.Tensor] = {}
    for density in (0.5, 0.2):
        options = {"density": density, "by": by, "scope": scope, "select": ("a", "b")}
        choice = Choice(family="stage", name="prune", arguments=tuple(options.items()))
        before, found = found, masks.prune(choice, state, found, torch.Generator().manual_seed(1))
        masks.lay(state, found)
        kept = [int(state[name].count_nonzero()) for name in ("a", "b")]
        assert sum(kept) == round(density * 150)
        assert scope == "global" or kept == [round(density * 100), round(density * 50)]
        assert all(bool((found[name] >= mask).all()) for name, mask in before.items())
    assert set(found) == {"a", "b"}
    if by == "magnitude":
        left = {name: first[name].abs()[~mask].min() for name, mask in found.items()}
        gone = {name: first[name].abs()[mask].max() for name, mask in found.items()}
        assert all(left[name] > gone[name] for name in found)
        assert scope == "layer" or min(left.values()) > max(gone.values())


@pytest.mark.parametrize("seeds", ["0", "0..1"], ids=["one", "stacked"])
def test_pruning_under_a_mask_counts_what_is_there(trained: Train, experiment: Any, seeds: str) -> None:
    """Half of the 240 entries off the diagonal are kept, those of greatest magnitude, and the diagonal stays out."""
    fields = f"stages = [fit(epochs = 1), prune(density = 0.5, select = fc2.weight), fit(epochs = 1)]\n  seeds = {seeds}"
    text = SMALL_NET.format(fields=f"{fields}\n  optimizer = adam(lr = 0.01)")
    text = text.replace("as head\n", "as head\n  constrain fc2.weight: mask((i, j) => i != j)\n")
    result = trained(experiment(text))
    weight = load_state(result.path, 0)["fc2.weight"]
    assert int((weight != 0).sum()) == 120 and not weight.diagonal().any()


def test_nothing_revives_what_is_pruned(moons: Make, trained: Train) -> None:
    """Momentum and decay move every entry; those removed stay exactly zero."""
    stages = 'stages = [fit(epochs = 2), prune(density = 0.2, by = "random"), fit(epochs = 3)]'
    own = moons(stages, "optimizer = adamw(lr = 0.05, weight_decay = 0.1)")
    state = load_state(trained(own).path, 0)
    weights = torch.cat([state[f"{name}.weight"].flatten() for name in ("fc1", "fc2", "head")])
    assert int((weights == 0).sum()) == weights.numel() - round(0.2 * weights.numel())


def test_a_stage_hands_on_its_best_weights(moons: Make, trained: Train) -> None:
    """With early stopping a stage ends by itself, and the next one begins with what it kept."""
    fields = ('save = "best"', "stop = early(patience = 2)", "optimizer = sgd(lr = 3)")
    whole = trained(moons("stages = [fit(epochs = 30), prune(density = 1)]", *fields))
    first = [row for row in whole.history if row["stage"] == 1]
    best = min(row["validation"]["loss"] for row in first)
    assert len(first) < 30 and first[-1]["validation"]["loss"] > best
    assert whole.history[-1]["validation"]["loss"] == best


ALL = """stages = [
    fit(epochs = 2),
    prune(density = 0.5, by = "random"),
    fit(epochs = 2),
    freeze(fc1.*),
    prune(density = 0.3),
    fit(epochs = 2, optimizer = momentum(lr = 0.01)),
  ]"""


@pytest.mark.parametrize("mode", ["streams", "torch"])
@pytest.mark.parametrize("seeds", ["0", "0..1"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_a_run_goes_on_inside_any_stage(
    moons: Make, trained: Train, tmp_path: Path, mode: str, seeds: str, count: int
) -> None:
    own = moons(ALL, f"seeds = {seeds}", f'seed_mode = "{mode}"')
    whole = trained(own, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(own, out=tmp_path / "broken", on_progress=interrupt_after(count))
    resumed = trained(own, out=tmp_path / "broken", resume=True)
    assert resumed.history == whole.history
    for seed in own.seeds:
        one, other = load_state(whole.path, seed), load_state(resumed.path, seed)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_networks_at_once_are_what_they_are_alone(moons: Make, trained: Train, tmp_path: Path) -> None:
    together = trained(moons(ALL, "seeds = 0..2", 'precision = "float64"'), out=tmp_path / "a")
    assert (together.path / "stack.safetensors").exists()
    for seed in range(3):
        alone = trained(moons(ALL, f"seeds = {seed}", 'precision = "float64"'), out=tmp_path / "b")
        one, other = load_state(together.path, seed), load_state(alone.path, seed)
        assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-9) for name in one)
        assert all(torch.equal(one[name] == 0, other[name] == 0) for name in one)


# ----------------------------------------------------------------------------------------- `train` blocks


BLOCKS = """epochs = 4
  train head.** {
    optimizer = sgd(lr = 0.1)
    every     = 2
  }
  train rest {
    during = 0.25..0.75
  }"""


def test_blocks_are_what_a_script_does(moons: Make, trained: Train) -> None:
    own = moons(BLOCKS, TORCH, "seeds = 2")
    found = load_state(trained(own).path, 2)
    hand = ByHand(own, 2)
    head = torch.optim.SGD(hand.net.head.parameters(), lr=0.1, fused=True)
    rest = torch.optim.Adam([*hand.net.fc1.parameters(), *hand.net.fc2.parameters()], lr=0.01, fused=True)
    for step, index in enumerate(hand.batches(4)):
        for due, optimizer in ((step % 2 == 0, head), (4 <= step < 12, rest)):
            if due:
                hand.net.zero_grad()
                hand.loss(index).backward()
                optimizer.step()
    assert equal(found, hand.net)


def test_what_no_block_selects_is_frozen(moons: Make, trained: Train) -> None:
    own = moons("epochs = 2", "train head.weight { }", TORCH)
    found = load_state(trained(own).path, 0)
    torch.manual_seed(0)
    before = Net().state_dict()
    changed = {name for name in found if not torch.equal(found[name], before[name])}
    assert changed == {"head.weight"}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seeds", ["0", "0..1"])
def test_blocks_resume(moons: Make, trained: Train, tmp_path: Path, count: int, seeds: str) -> None:
    own = moons(BLOCKS, f"seeds = {seeds}")
    whole = trained(own, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(own, out=tmp_path / "broken", on_progress=interrupt_after(count))
    resumed = trained(own, out=tmp_path / "broken", resume=True)
    assert resumed.history == whole.history
    one, other = load_state(whole.path, 0), load_state(resumed.path, 0)
    assert all(torch.equal(one[name], other[name]) for name in one)


# ----------------------------------------------------------------------------------------------- restarts


@pytest.mark.parametrize("small", [SMALL, 0])
def test_restarts_keep_the_best(
    moons: Make, trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    """At once (`small` as it is) and one after another."""
    monkeypatch.setattr("nnspec.compiler.runtime.stack.SMALL", small)
    monkeypatch.setattr("nnspec.compiler.runtime.stack.stackable.__defaults__", (small,))
    own = moons("epochs = 3", "seeds = [0, 4]", "restarts = 3", "select = max(validation.accuracy)")
    result = trained(own)
    assert len(result.trials) == 6 and len(result.seeds) == 2
    for seed in result.seeds:
        tries = [t for t in result.trials if t.seed == seed.seed]
        scores = [t.metrics["validation.accuracy"] for t in tries]
        assert len({t.metrics["train.loss"] for t in tries}) == 3
        assert seed.restart == scores.index(max(scores))
        assert seed.metrics == tries[seed.restart].metrics
        net = Net()
        net.load_state_dict(load_state(result.path, seed.seed))
        test = data.load(own.data, Path(".")).test
        assert test is not None
        right = (net(test.inputs["point"]).argmax(1) == test.targets).double().mean()
        assert seed.metrics["accuracy"] == right.item()
    assert result.mean["accuracy"] == sum(s.metrics["accuracy"] for s in result.seeds) / 2
    record = json.loads((result.path / "run.json").read_text())
    assert record["selected"] == {str(seed.seed): seed.restart for seed in result.seeds}
    assert [len(own["restarts"]) for own in result.json()["seeds"]] == [3, 3]


def test_the_first_restart_is_the_seed_alone(moons: Make, trained: Train, tmp_path: Path) -> None:
    several = trained(moons("epochs = 2", "restarts = 2", 'precision = "float64"'), out=tmp_path / "a")
    alone = trained(moons("epochs = 2", 'precision = "float64"'), out=tmp_path / "b")
    assert several.trials[0].metrics["train.loss"] == pytest.approx(
        alone.seeds[0].metrics["train.loss"], 1e-9
    )


def test_restarts_resume(moons: Make, trained: Train, tmp_path: Path) -> None:
    own = moons("epochs = 3", "restarts = 2", "stop = early")  # one after another
    whole = trained(own, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(own, out=tmp_path / "broken", on_progress=interrupt_after(5))
    resumed = trained(own, out=tmp_path / "broken", resume=True)
    assert resumed.history == whole.history and resumed.trials == whole.trials


def test_a_network_without_weights_is_refused(experiment: Make, trained: Train) -> None:
    text = SMALL_NET.format(fields="epochs = 1").replace(
        "dense(16) as fc1 -> tanh -> dense(16) as fc2", "tanh"
    )
    own = experiment(text.replace(" -> dense(2) as head", ""))
    with pytest.raises(RunError) as caught:
        trained(own)
    assert caught.value.error.code == "N0638"


# ------------------------------------------------------------------------------------- a loss for each block


ADVERSARIES = """
layer critic {
  input  x: real[n]
  output score: real[1] = x -> dense(8) as hidden -> tanh -> dense(1) as out
}
network rivals {
  input  point: real[2]
  shared judge = critic
  output made: real[2] = point -> dense(2) as maker
  output real_score: real[1] = point -> judge
  output made_score: real[1] = made -> judge
}
experiment e {
  network   = rivals
  data      = moons(samples = 200, test = 0.2)
  loss      = softplus(-made_score) -> sum
  learn     = backprop
  optimizer = adam(lr = 0.01)
  epochs    = 3
  batch     = 32
  seed_mode = "torch"
  train judge.** {
    loss = softplus(-real_score) + softplus(made_score) -> sum
    optimizer = sgd(lr = 0.1)
  }
  train rest { }
}
"""


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.hidden(x)))


class Rivals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.judge = Critic()
        self.maker = nn.Linear(2, 2)


def test_adversaries_are_what_a_script_does(experiment: Callable[[str], Experiment], trained: Train) -> None:
    own = experiment(ADVERSARIES)
    found = load_state(trained(own).path, 0)
    x = data.load(own.data, Path(".")).train.inputs["point"]
    torch.manual_seed(0)
    net = Rivals()
    judge = torch.optim.SGD(net.judge.parameters(), lr=0.1, fused=True)
    maker = torch.optim.Adam(net.maker.parameters(), lr=0.01, fused=True)
    for _ in range(3):
        for index in torch.randperm(len(x)).split(32):
            point = x[index]
            net.zero_grad()
            apart = functional.softplus(-net.judge(point)) + functional.softplus(net.judge(net.maker(point)))
            apart.sum(-1).mean().backward()
            judge.step()
            net.zero_grad()
            functional.softplus(-net.judge(net.maker(point))).sum(-1).mean().backward()
            maker.step()
    assert all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items())
