"""Experiments on digits and exclusive or, and training into a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.results import Progress, RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.train import train

DIGITS = """
network mlp(width: int = 32) {{
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(width) as fc1 -> relu -> dense(10) as head
}}
experiment digits_mlp {{
  network = mlp
  data    = digits(test = 0.2, validation = 0.1)
  loss    = cross_entropy
  learn   = backprop
  metrics = [accuracy]
  {fields}
}}
"""

XOR = """
network small {{
  input  x: real[2]
  output y: real[1] = x -> dense(4) as hidden -> tanh -> dense(1) as head
}}
experiment xor_small {{
  network = small
  data    = xor(samples = 40, test = 0.2)
  loss    = binary_cross_entropy
  learn   = backprop
  metrics = [accuracy]
  {fields}
}}
"""


@pytest.fixture
def digits(experiment: Callable[[str], Experiment]) -> Callable[..., Experiment]:
    """`digits("epochs = 2", ...)`: an MLP on digits with these fields."""
    return lambda *fields: experiment(DIGITS.format(fields="\n  ".join(fields)))


@pytest.fixture
def xor(experiment: Callable[[str], Experiment]) -> Callable[..., Experiment]:
    """`xor("epochs = 2", ...)`: a net of 2-4-1 on exclusive or with these fields."""
    return lambda *fields: experiment(XOR.format(fields="\n  ".join(fields)))


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., RunResult]:
    """`trained(experiment, ...)`: train it in a temporary folder, on the CPU."""

    def run(own: Experiment, **options: Any) -> RunResult:
        options = {"root": tmp_path, "out": tmp_path / "runs", "device": "cpu", **options}
        return train(own, **options)

    return run


@pytest.fixture
def goes_on(trained: Callable[..., RunResult], tmp_path: Path) -> Callable[[Experiment, int], None]:
    """`goes_on(experiment, count)`: broken off after `count` rows and resumed, a run is what it is unbroken."""

    def hold(own: Experiment, count: int) -> None:
        whole = trained(own, out=tmp_path / "whole")
        told: list[Progress] = []

        def stop(progress: Progress) -> None:
            told.append(progress)
            if len(told) == count:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            trained(own, out=tmp_path / "broken", on_progress=stop)
        resumed = trained(own, out=tmp_path / "broken", resume=True)
        assert resumed.history == whole.history
        for seed in own.seeds:
            one, other = load_state(whole.path, seed), load_state(resumed.path, seed)
            assert all(torch.equal(one[name], other[name]) for name in one)

    return hold
