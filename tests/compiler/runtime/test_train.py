"""Training against loops written by hand, and what can go wrong in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime import data, memory, schedules
from nnspec.compiler.runtime.results import Progress, RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.dsl.diagnostics import Bag, RunError
from nnspec.dsl.source import Source

Make = Callable[..., Experiment]
Train = Callable[..., RunResult]


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fc1(image.flatten(1))))


def by_hand(own: Experiment, seed: int, epochs: int, factor: Callable[[int], float]) -> nn.Module:
    """What a plain script does."""
    train = data.load(own.data, Path(".")).train
    image, label = train.inputs["image"], train.targets
    torch.manual_seed(seed)
    net = Mlp()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(image))
        for start in range(0, len(image), 64):
            index = order[start : start + 64]
            optimizer.param_groups[0]["lr"] = 0.01 * factor(step)
            optimizer.zero_grad()
            functional.cross_entropy(net(image[index]), label[index]).backward()
            optimizer.step()
            step += 1
    return net


@pytest.mark.parametrize("schedule", ["none", "cosine(warmup = 5)"])
def test_bit_identical_to_a_plain_script(digits: Make, trained: Train, schedule: str) -> None:
    fields = ("epochs = 2", "seeds = 3", 'seed_mode = "torch"', "optimizer = adam(lr = 0.01)")
    own = digits(*fields, f"schedule = {schedule}")
    result = trained(own)
    steps = result.history[-1]["step"]
    net = by_hand(own, 3, 2, schedules.build(own.schedule, steps))
    found = load_state(result.path, 3)
    assert all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items())


def test_scores_are_those_of_the_kept_weights(digits: Make, trained: Train) -> None:
    own = digits("epochs = 2", "seeds = 0")
    result = trained(own)
    net = Mlp()
    net.load_state_dict(load_state(result.path, 0))
    test = data.load(own.data, Path(".")).test
    assert test is not None
    output = net(test.inputs["image"])
    metrics = result.seeds[0].metrics
    assert metrics["accuracy"] == (output.argmax(1) == test.targets).double().mean().item()
    loss = functional.cross_entropy(output.double(), test.targets).item()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["test.loss"] == metrics["loss"] == result.history[-1]["test"]["loss"]
    table = torch.zeros(10, 10, dtype=torch.int64)
    for wanted, found in zip(test.targets.tolist(), output.argmax(1).tolist(), strict=True):
        table[wanted, found] += 1
    assert result.seeds[0].confusion == tuple(map(tuple, table.tolist()))


def test_torch_is_left_as_it_was(digits: Make, trained: Train) -> None:
    before = torch.get_rng_state()
    trained(digits("epochs = 1"))
    assert torch.equal(torch.get_rng_state(), before)


def test_streams_do_not_depend_on_each_other(digits: Make, trained: Train) -> None:
    """The first epoch sees the same initial weights whether or not the data are shuffled."""
    shuffled = trained(digits("steps = 1", "batch = none"))
    ordered = trained(digits("steps = 1", "batch = none", "shuffle = false"))
    a, b = (load_state(result.path, 0) for result in (shuffled, ordered))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_steps_end_within_an_epoch(digits: Make, trained: Train) -> None:
    result = trained(digits("steps = 25", "batch = 64"))  # an epoch has 20 steps
    assert [(row["epoch"], row["step"]) for row in result.history] == [(1, 20), (2, 25)]


def test_json_and_mean(digits: Make, trained: Train) -> None:
    result = trained(digits("epochs = 1", "seeds = 0..1", "stop = early"))
    found = result.json()
    assert set(found) == {"seeds", "mean", "run"}
    assert [own["seed"] for own in found["seeds"]] == [0, 1]
    accuracies = [own["metrics"]["accuracy"] for own in found["seeds"]]
    assert found["mean"]["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert result.deviation["accuracy"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / math.sqrt(2))
    assert Path(found["run"]).is_dir()


def test_progress_is_told_after_each_epoch(digits: Make, trained: Train) -> None:
    told: list[Progress] = []
    trained(digits("epochs = 2", "seeds = 0..1", "stop = early"), on_progress=told.append)
    assert [(own.seeds, own.epoch) for own in told] == [((0,), 1), ((0,), 2), ((1,), 1), ((1,), 2)]
    assert [own.fraction for own in told] == [0.25, 0.5, 0.75, 1.0]


# ------------------------------------------------------------------------------------------ early stopping


def test_stops_when_nothing_gets_better(digits: Make, trained: Train) -> None:
    fields = ("epochs = 60", "stop = early(patience = 2)", 'save = "best"', "optimizer = adam(lr = 0.05)")
    result = trained(digits(*fields))
    own = result.seeds[0]
    assert own.status == "stopped" and own.epochs < 60
    values = [row["validation"]["loss"] for row in result.history]
    assert values.index(min(values)) + 1 == own.best_epoch == own.epochs - 2
    assert own.metrics["validation.loss"] == min(values)


def test_watches_a_metric_that_is_better_higher(digits: Make, trained: Train) -> None:
    result = trained(digits("epochs = 60", "stop = early(patience = 3, metric = accuracy)"))
    values = [row["validation"]["accuracy"] for row in result.history]
    assert all(value <= max(values[:-3]) for value in values[-3:])


def test_needs_a_validation_part() -> None:
    text = """
    network n { input x: real[2]
      output y: real[2] = x -> dense(2) }
    experiment e { network = n
      data = moons(samples = 50, test = 0.2)
      loss = cross_entropy
      learn = backprop
      epochs = 2
      save = "best" }
    """
    bag = Bag()
    check(Source("test.nnspec", text), bag)
    assert [error.code for error in bag] == ["N0619"]


def test_a_table_cannot_get_better(digits: Make, trained: Train) -> None:
    with pytest.raises(RunError) as failure:
        trained(digits("epochs = 2", "stop = early(metric = confusion)"))
    assert failure.value.error.code == "N0808"


# ---------------------------------------------------------------------------------------------- precision


def test_double_precision(digits: Make, trained: Train) -> None:
    single = trained(digits("epochs = 1"))
    double = trained(digits("epochs = 1", 'precision = "float64"'))
    assert load_state(double.path, 0)["fc1.weight"].dtype == torch.float64
    assert double.seeds[0].metrics["loss"] == pytest.approx(single.seeds[0].metrics["loss"], rel=1e-4)
    assert double.seeds[0].metrics["loss"] != single.seeds[0].metrics["loss"]


def test_mixed_precision_keeps_weights_whole(digits: Make, trained: Train) -> None:
    single = trained(digits("epochs = 3"))
    mixed = trained(digits("epochs = 3", 'precision = "bfloat16"'))
    assert load_state(mixed.path, 0)["fc1.weight"].dtype == torch.float32
    assert mixed.seeds[0].metrics["loss"] == pytest.approx(single.seeds[0].metrics["loss"], rel=0.02)


# ---------------------------------------------------------------------------------------------- constraints


def test_binary_network_trains(digits: Make, experiment: Make, trained: Train) -> None:
    text = """
    network n { input image: real[8, 8]
      output digit: real[10] = image -> flatten -> dense(64) as fc1 -> batchnorm -> relu -> dense(10)
      constrain fc1.weight: binary }
    experiment e { network = n
      data = digits(test = 0.2)
      loss = cross_entropy
      learn = LEARN
      optimizer = adam(lr = 0.01)
      metrics = [accuracy]
      epochs = 10 }
    """
    result = trained(experiment(text.replace("LEARN", "backprop")))
    assert result.seeds[0].metrics["accuracy"] > 0.9
    state = load_state(result.path, 0)
    kept, bias = torch.where(state["fc1.weight"] >= 0, 1.0, -1.0), state["fc1.bias"]
    test = data.load(experiment(text.replace("LEARN", "backprop")).data, Path(".")).test
    assert test is not None
    hidden = functional.linear(test.inputs["image"].flatten(1), kept, bias)
    names = {name.split(".")[0] for name in state}
    norm, head = (next(n for n in names if n.startswith(stem)) for stem in ("batchnorm", "dense"))
    mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    hidden = functional.batch_norm(
        hidden, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], False
    )
    output = functional.linear(hidden.relu(), state[f"{head}.weight"], state[f"{head}.bias"])
    accuracy = (output.argmax(1) == test.targets).double().mean().item()
    assert accuracy == result.seeds[0].metrics["accuracy"]


# ------------------------------------------------------------------------------------------- what goes wrong


def test_divergence_says_where_and_keeps_the_run(digits: Make, trained: Train) -> None:
    result = trained(digits("epochs = 5", "optimizer = sgd(lr = 1e30)"))
    own = result.seeds[0]
    assert own.status == "diverged" and own.metrics == {}
    assert own.problem is not None and ("`fc1" in own.problem or "`head" in own.problem)
    error = result.problems[0]
    assert error.code == "N0801" and "seed 0" in error.message and "epoch 1" in error.message
    assert all(tensor.isfinite().all() for tensor in load_state(result.path, 0).values())


def test_other_seeds_go_on(xor: Make, trained: Train) -> None:
    """One of four seeds trained at once begins with an infinite weight."""
    own = xor("epochs = 3", "seeds = 0..3", "optimizer = sgd(lr = 0.1)")
    from nnspec.compiler.runtime import stack

    before = stack.Stack._initial

    def poisoned(self: stack.Stack) -> dict[str, torch.Tensor]:
        state = before(self)
        with torch.no_grad():
            state["hidden.weight"][2, 0, 0] = float("inf")
        return state

    stack.Stack._initial = poisoned
    try:
        result = trained(own)
    finally:
        stack.Stack._initial = before
    assert [seed.status for seed in result.seeds] == ["finished", "finished", "diverged", "finished"]
    alone = trained(own.replace(seeds=(3,)))
    assert result.seeds[3].metrics["loss"] == pytest.approx(alone.seeds[0].metrics["loss"], abs=1e-5)
    assert {row["seed"] for row in result.history} == {0, 1, 3}
    assert "loss" in result.mean


def test_memory_is_said_before_it_is_taken(
    digits: Make, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = digits("epochs = 1", "optimizer = adam(lr = 0.1)")
    count = 64 * 32 + 32 + 32 * 10 + 10
    monkeypatch.setattr(memory, "available_memory", lambda device: count * 4 * 7 - 1)
    with pytest.raises(RunError) as failure:
        trained(own)
    assert failure.value.error.code == "N0805"
    monkeypatch.setattr(memory, "available_memory", lambda device: count * 4 * 7)
    trained(own)


def test_a_last_batch_of_one_row(experiment: Make, trained: Train) -> None:
    text = """
    network n { input x: real[2]
      output y: real[2] = x -> dense(4) -> batchnorm -> relu -> dense(2) }
    experiment e { network = n
      data = moons(samples = 50, test = 0.02)
      loss = cross_entropy
      learn = backprop
      batch = BATCH
      epochs = 1 }
    """
    with pytest.raises(RunError) as failure:
        trained(experiment(text.replace("BATCH", "16")))
    assert failure.value.error.code == "N0809"
    assert failure.value.error.help == "write `batch = 17`"
    trained(experiment(text.replace("BATCH", "17")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_device(digits: Make, trained: Train) -> None:
    with pytest.raises(RunError) as failure:
        trained(digits("epochs = 1"), device="cuda")
    assert failure.value.error.code == "N0820"
    assert trained(digits("epochs = 1"), device="auto").environment["device"].startswith(("cpu", "mps"))
