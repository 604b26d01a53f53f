"""Losses and metrics as expressions: bit for bit what a plain script computes, alone and stacked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.stack import stackable
from nnspec.compiler.runtime.streams import Streams
from nnspec.compiler.runtime.trials import Trial
from nnspec.dsl.diagnostics import RunError

Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

NETWORK = """
network auto(code: int = 4) {{
  input  image: real[8, 8]
  hidden = image -> flatten -> dense(16) as stem -> tanh
  mean = hidden -> dense(code) as centre
  log_variance = hidden -> dense(code) as spread
  output reconstruction: real[8, 8] = mean -> dense(64) as decode -> reshape([8, 8])
  output digit = hidden -> dense(10) as head
}}
experiment both {{
  network   = auto
  data      = digits(test = 0.2, validation = 0.1, scale = "unit")
  loss      = {loss}
  learn     = backprop
  optimizer = adam(lr = 0.01)
  {fields}
}}
"""
LOSS = (
    "mean_squared_error(reconstruction, image) + 0.1 * kl(mean, log_variance)"
    " + cross_entropy(digit, label) + 0.01 * sum(square(centre.weight)) / rows"
)


class Auto(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 16)
        self.centre = nn.Linear(16, 4)
        self.spread = nn.Linear(16, 4)
        self.decode = nn.Linear(4, 64)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        hidden = torch.tanh(self.stem(image.flatten(1)))
        mean, spread = self.centre(hidden), self.spread(hidden)
        return self.decode(mean).reshape(-1, 8, 8), self.head(hidden), mean, spread


def losses_by_hand(net: Auto, image: Tensor, label: Tensor, rows: int) -> Tensor:
    reconstruction, digit, mean, spread = net(image)
    error = F.mse_loss(reconstruction, image, reduction="none").flatten(1).mean(1)
    divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(-1)
    named = F.cross_entropy(digit, label, reduction="none")
    return error + 0.1 * divergence + named + 0.01 * net.centre.weight.square().sum() / rows


def train_by_hand(experiment: Experiment, seed: int, epochs: int) -> tuple[Auto, list[float]]:
    part = data.load(experiment.data, Path(".")).train
    image, label = part.inputs["image"], part.targets
    torch.manual_seed(seed)
    net = Auto()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    means: list[float] = []
    for _ in range(epochs):
        found: list[Tensor] = []
        for index in torch.randperm(len(label)).split(64):
            optimizer.zero_grad()
            loss = losses_by_hand(net, image[index], label[index], len(label)).mean()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        means.append(torch.stack(found).mean().item())
    return net, means


def test_bit_identical_to_a_plain_script(experiment: Make, trained: Train) -> None:
    metrics = "metrics = [accuracy(digit, label), kl(mean, log_variance)]"
    own = experiment(NETWORK.format(loss=LOSS, fields=f'epochs = 2\n  seed_mode = "torch"\n  {metrics}'))
    result = trained(own)
    net, means = train_by_hand(own, 0, 2)
    found = load_state(result.path, 0)
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items())
    assert [row["loss"] for row in result.history] == means

    splits = data.load(own.data, Path("."))
    for name in ("train", "validation", "test"):
        part: Any = getattr(splits, name)
        image, label = part.inputs["image"], part.targets
        with torch.no_grad():
            _, digit, mean, spread = net(image)
            expected = losses_by_hand(net, image, label, splits.train.rows).double().mean().item()
            divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(-1)
        scores = result.seeds[0].metrics
        assert scores[f"{name}.loss"] == pytest.approx(expected, rel=1e-6)
        right = (digit.argmax(1) == label).double().mean().item()
        assert scores[f"{name}.accuracy(digit, label)"] == right
        expected = divergence.double().mean().item()
        assert scores[f"{name}.kl(mean, log_variance)"] == pytest.approx(expected, rel=1e-6)


def test_a_word_laid_on_its_values_is_that_word(experiment: Make, trained: Train) -> None:
    """`cross_entropy` and `cross_entropy(digit, label)` differ in rounding alone: one is torch's fused mean."""
    text = """
network m {{
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(10) as head
}}
experiment e {{
  network = m
  data = digits
  loss = {loss}
  learn = backprop
  epochs = 2
  metrics = [{metric}]
}}
"""
    a = trained(experiment(text.format(loss="cross_entropy(smoothing = 0.1)", metric="accuracy")))
    own = experiment(
        text.format(loss="cross_entropy(digit, label, smoothing = 0.1)", metric="accuracy(digit, label)")
    )
    b = trained(own)
    one, other = (load_state(result.path, 0) for result in (a, b))
    assert all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)
    assert a.seeds[0].metrics["accuracy"] == b.seeds[0].metrics["accuracy(digit, label)"]
    assert a.seeds[0].confusion == b.seeds[0].confusion


def test_stacked_seeds_learn_what_they_learn_alone(experiment: Make, trained: Train, tmp_path: Path) -> None:
    metrics = 'metrics = [accuracy(digit, label), kl(mean, log_variance)]\n  precision = "float64"'
    own = experiment(NETWORK.format(loss=LOSS, fields=f"epochs = 2\n  seeds = [2, 5]\n  {metrics}"))
    assert stackable(prepare(own, tmp_path, "cpu"))
    together = trained(own)
    for index, seed in enumerate((2, 5)):
        alone = trained(own.replace(seeds=(seed,)))
        state, other = load_state(together.path, seed), load_state(alone.path, seed)
        assert all(torch.allclose(state[n], other[n], rtol=1e-9, atol=1e-12) for n in other)
        assert together.seeds[index].metrics == pytest.approx(alone.seeds[0].metrics, rel=1e-9)
        assert together.seeds[index].confusion == alone.seeds[0].confusion


def test_weight_perturbation_learns_from_an_expression(experiment: Make, trained: Train) -> None:
    fields = "epochs = 20\n  metrics = [accuracy(digit, label)]"
    text = NETWORK.format(loss=LOSS, fields=fields)
    result = trained(
        experiment(text.replace("learn     = backprop", "learn     = weight_perturbation(samples = 4)"))
    )
    assert result.history[-1]["loss"] < 0.9 * result.history[0]["loss"]


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precisions(experiment: Make, trained: Train, precision: str) -> None:
    fields = f'epochs = 2\n  precision = "{precision}"'
    plain = trained(experiment(NETWORK.format(loss=LOSS, fields="epochs = 2")))
    result = trained(experiment(NETWORK.format(loss=LOSS, fields=fields)))
    assert result.seeds[0].metrics["loss"] == pytest.approx(plain.seeds[0].metrics["loss"], rel=0.05)


def test_resumes_to_the_same_numbers(experiment: Make, trained: Train) -> None:
    own = experiment(NETWORK.format(loss=LOSS, fields="epochs = 4\n  metrics = [accuracy(digit, label)]"))
    whole = trained(own)
    expected = load_state(whole.path, 0)
    seen: list[Any] = []

    def interrupt(progress: Any) -> None:
        seen.append(progress)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(own, on_progress=interrupt)
    result = trained(own, resume=True)
    assert result.resumed
    found = load_state(result.path, 0)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert result.seeds[0].metrics == whole.seeds[0].metrics


SIAMESE = """
network pairs {{
  input  left: real[4]
  input  right: real[4]
  shared enc = dense(3)
  z = left -> enc -> tanh
  output other: real[3] = right -> enc -> tanh
}}
experiment contrast {{
  network = pairs
  data    = npz("pairs.npz")
  loss    = {loss}
  learn   = backprop
  batch   = 8
  steps   = 1
  shuffle = false
}}
"""


def test_a_contrastive_loss_over_files(experiment: Make, trained: Train, tmp_path: Path) -> None:
    """InfoNCE (van den Oord and others, 2018): the right partner among all partners of the batch. The fields
    of a file are known only when it is read."""
    import numpy

    draw = numpy.random.default_rng(0)
    left = draw.normal(size=(20, 4)).astype("float32")
    right = (left + 0.1 * draw.normal(size=(20, 4))).astype("float32")
    numpy.savez(tmp_path / "pairs.npz", left=left, right=right, same=numpy.arange(20.0))
    text = SIAMESE.format(loss="cross_entropy(sum(z * all(other), axis = -1) / 0.5, row)")
    text = text.replace(
        'npz("pairs.npz")', 'npz("pairs.npz", input = ["left", "right"], target = "same", test = 0)'
    )
    own = experiment(text)
    result = trained(own)
    state = load_state(result.path, 0)

    torch.manual_seed(0)
    plan = prepare(own, tmp_path, "cpu")
    Streams(Trial(0, 0), "streams", plan.device).begin("init")
    enc = nn.Linear(4, 3)
    batch = plan.train.between(0, 8)
    z, other = (torch.tanh(enc(x)) for x in batch.inputs)
    loss = F.cross_entropy(z @ other.T / 0.5, torch.arange(8))
    assert result.history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    optimizer = torch.optim.Adam(enc.parameters(), lr=0.001)
    loss.backward()
    optimizer.step()
    assert torch.allclose(state["enc.weight"], enc.weight, atol=1e-6)


def test_effective_weights_are_read_through_their_constraints(experiment: Make, tmp_path: Path) -> None:
    text = """
network m {
  input  x: real[8, 8]
  flat = x -> flatten
  hidden = flat -> dense(8) as fc1 -> tanh
  output y: real[64] = hidden -> dense(64) as fc2
  constrain fc1.weight: binary
  constrain fc2.weight: tied(fc1.weight, transpose = true)
}
experiment e {
  network = m
  data = digits
  loss = mean_squared_error(y, flat) + sum(fc1.weight) + 10 * sum(fc2.weight)
  learn = backprop
  epochs = 1
}
"""
    learner = Learner(prepare(experiment(text), tmp_path, "cpu"), Trial(0, 0))
    batch = learner.plan.train.between(0, 3)
    signs = torch.where(learner.network.state_dict()["fc1.weight"] >= 0, 1.0, -1.0)
    network: Any = learner.network
    flat = batch.inputs[0].flatten(1)
    y = F.linear(torch.tanh(F.linear(flat, signs, network.fc1.bias)), signs.t(), network.fc2.bias)
    expected = (y - flat).square().mean() + 11 * signs.sum()
    assert learner.groups[0].mean_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("seeds", ["0", "0..2"])
def test_a_loss_without_gradient_is_told(experiment: Make, trained: Train, seeds: str) -> None:
    text = """
network m {{
  input  x: real[2]
  output y: real[2] = x -> dense(4) -> tanh -> dense(2)
}}
experiment e {{
  network = m
  data = xor(samples = 100)
  loss = mean(where(y > 0, 1.0, 0.0))
  learn = {learn}
  epochs = 2
  seeds = {seeds}
}}
"""
    with pytest.raises(RunError) as found:
        trained(experiment(text.format(learn="backprop", seeds=seeds)))
    error = found.value.error
    assert error.code == "N0633" and error.span is not None and error.span.text.startswith("mean(where")
    result = trained(experiment(text.format(learn="weight_perturbation(sigma = 0.5)", seeds=seeds)))
    assert result.history


@pytest.mark.parametrize("metric", ["accuracy", "accuracy(digit, label)"])
def test_what_early_stopping_watches_is_measured(experiment: Make, trained: Train, metric: str) -> None:
    text = """
network m {{
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(10)
}}
experiment e {{
  network = m
  data    = digits(validation = 0.1)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 2
  stop    = early(patience = 2, metric = {metric})
}}
"""
    result = trained(experiment(text.format(metric=metric)))
    assert metric in result.history[-1]["validation"]


WEIGHTS = """
layer mixing(width: int) {{
  input  x: real[n]
  parameter mix: real[width] = normal(std = 1)
  output y: real[width] = (x -> dense(width) as fc) * mix
}}
network net {{
  input  x: real[2]
  output kind: real[2] = x -> mixing(2) as first
}}
experiment e {{
  network = net
  data    = moons(samples = 60, test = 0.2, validation = 0.2)
  loss    = {loss}
  learn   = backprop
  epochs  = 1
  metrics = [mean(first.mix), mean_squared_error(kind, first.mix)]
  restarts = 2
  select  = min(validation.mean(first.mix))
}}
"""
Four = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
MIXED: dict[str, Four] = {  # of what the network gives, two weights, and labels
    "sum(square(first.mix))": lambda kind, mix, weight, label: mix.square().sum(),
    "cross_entropy(first.mix, label)": lambda kind, mix, weight, label: F.cross_entropy(
        mix.expand(len(label), 2), label
    ),
    "sum(square(concat(kind, first.mix)))": lambda kind, mix, weight, label: (
        kind.square().sum(1).mean() + mix.square().sum()
    ),
    "mean_squared_error(kind, first.mix)": lambda kind, mix, weight, label: F.mse_loss(
        kind, mix.expand_as(kind)
    ),
    "sum(kind * first.fc.weight)": lambda kind, mix, weight, label: (
        (kind[:, None, :] * weight).sum((1, 2)).mean()
    ),
    "mean(first.mix * all(kind))": lambda kind, mix, weight, label: (mix * kind).mean(),
}


@pytest.mark.parametrize("loss", MIXED)
def test_weights_meet_values_of_samples(experiment: Make, trained: Train, tmp_path: Path, loss: str) -> None:
    own = experiment(WEIGHTS.format(loss=loss))
    learner = Learner(prepare(own, tmp_path, "cpu"), Trial(0, 0))
    batch = learner.plan.train.between(0, 5)
    state = learner.state
    kind = learner.network(batch.inputs[0])
    expected = MIXED[loss](kind, state["first.mix"], state["first.fc.weight"], batch.target)
    assert learner.groups[0].mean_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    scores = learner.scores()["train"][0]
    assert scores["mean(first.mix)"] == pytest.approx(state["first.mix"].mean().item(), rel=1e-5)
    result = trained(own)
    metrics = result.seeds[0].metrics
    assert metrics["validation.mean(first.mix)"] == min(
        trial.metrics["validation.mean(first.mix)"] for trial in result.trials
    )


def test_a_metric_is_a_value(experiment: Make, trained: Train) -> None:
    text = WEIGHTS.format(loss="cross_entropy(kind, label)")
    text = text.replace("output kind", "gap = x -> dense(1) as other -> squeeze\n  output kind")
    given = text.replace("metrics = [", "metrics = [gap, mean(gap), ")
    metrics = trained(experiment(given)).seeds[0].metrics
    assert metrics["gap"] == metrics["mean(gap)"]
