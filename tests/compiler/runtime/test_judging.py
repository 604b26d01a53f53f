"""Ways to judge a trained network, each against the same thing done by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.seeds import stream_seed

Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

NETWORK = """
constraint soft_sign {{
  w => tanh(3 * w)
}}
network net {{
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(16) as fc1 -> tanh {more}-> dense(10) as head
  constrain fc1.weight: {constraint}
}}
experiment e {{
  network  = net
  data     = digits(test = 0.2, validation = 0.1, scale = "unit")
  loss     = {loss}
  learn    = backprop
  epochs   = 2
  seeds    = {seeds}
  metrics  = [accuracy]
  evaluate = {evaluate}
}}
"""


def spec(**given: str) -> str:
    fields = {"more": "", "constraint": "binary", "loss": "cross_entropy", "seeds": "0", "evaluate": "[hard]"}
    return NETWORK.format(**{**fields, **given})


@pytest.mark.parametrize("seeds", ["3", "[3, 4]"])
@pytest.mark.parametrize(
    "loss", ["cross_entropy", "cross_entropy(digit, label) + 0.01 * mean(square(fc1.weight))"]
)
def test_hard_is_what_the_constrained_weights_compute(
    experiment: Make, trained: Train, seeds: str, loss: str
) -> None:
    own = experiment(spec(evaluate="[surrogate, hard]", seeds=seeds, loss=loss))
    result = trained(own)
    splits = data.load(own.data, Path("."))
    for found in result.seeds:
        state = load_state(result.path, found.seed)
        signs = torch.where(state["fc1.weight"] >= 0, 1.0, -1.0)
        for name in ("train", "validation", "test"):
            part: Any = getattr(splits, name)
            hidden = torch.tanh(F.linear(part.inputs["image"].flatten(1), signs, state["fc1.bias"]))
            output = F.linear(hidden, state["head.weight"], state["head.bias"])
            right = (output.argmax(1) == part.targets).double().mean().item()
            expected = F.cross_entropy(output, part.targets).item() + (0.01 if "square" in loss else 0)
            assert found.metrics[f"hard.{name}.accuracy"] == right
            assert found.metrics[f"hard.{name}.loss"] == pytest.approx(expected, rel=1e-5)
            assert found.metrics[f"surrogate.{name}.loss"] == found.metrics[f"{name}.loss"]
        assert found.metrics["hard.accuracy"] == found.metrics["hard.test.accuracy"]
    assert list(result.shown)[:2] == ["surrogate.loss", "surrogate.accuracy"]
    assert "hard.accuracy" in result.json()["seeds"][0]["metrics"]


def test_samples_are_the_mean_over_draws(experiment: Make, trained: Train) -> None:
    """Each draw has masks of its own; all else stands as in evaluation."""
    text = spec(more="-> batchnorm -> dropout(0.4) ", evaluate="samples(3)")
    own = experiment(text)
    result = trained(own)
    state = load_state(result.path, 0)
    splits = data.load(own.data, Path("."))
    signs = torch.where(state["fc1.weight"] >= 0, 1.0, -1.0)
    torch.manual_seed(stream_seed(0, "evaluate"))
    drawn: list[float] = []
    for _ in range(3):
        for name in ("train", "validation", "test"):
            part: Any = getattr(splits, name)
            hidden = torch.tanh(F.linear(part.inputs["image"].flatten(1), signs, state["fc1.bias"]))
            norm = (state[f"batchnorm.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
            masked = F.dropout(F.batch_norm(hidden, *norm), 0.4, training=True)
            output = F.linear(masked, state["head.weight"], state["head.bias"])
            if name == "test":
                drawn.append((output.argmax(1) == part.targets).double().mean().item())
    assert len(set(drawn)) > 1
    assert result.seeds[0].metrics["samples(3).accuracy"] == pytest.approx(sum(drawn) / 3)
    assert result.seeds[0].metrics["accuracy"] != result.seeds[0].metrics["samples(3).accuracy"]


def test_ways_are_judged_once_a_run_and_resumed_with_it(experiment: Make, trained: Train) -> None:
    own = experiment(spec(more="-> dropout(0.4) ", evaluate="[samples(2)]"))
    whole = trained(own)

    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(own, on_progress=interrupt)
    assert trained(own, resume=True).seeds[0].metrics == whole.seeds[0].metrics
