"""Weights from files: which tensor begins as which, what is refused, and what a run's name depends on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.dsl.diagnostics import RunError

Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

TEXT = """
layer encoder {{
  input  x: real[n]
  output y: real[8] = x -> dense(8) as fc -> batchnorm as norm -> tanh
}}
network small {{
  input  x: real[2]
  output y: real[2] = x -> encoder as backbone -> dense(2) as head
}}
experiment e {{
  network = small
  data    = moons(samples = 200, test = 0.2)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 1
  {seeds}
  train head.** {{ }}
  {lines}
}}
"""


def text(*lines: str, seeds: str = "seeds = 0") -> str:
    return TEXT.format(lines="\n  ".join(lines), seeds=seeds)


@pytest.fixture
def file(tmp_path: Path) -> dict[str, torch.Tensor]:
    """A file `f.safetensors` of a backbone, its names without `backbone.` before them."""
    torch.manual_seed(5)
    tensors = {
        "fc.weight": torch.randn(8, 2),
        "fc.bias": torch.randn(8),
        "norm.weight": torch.rand(8),
        "norm.bias": torch.randn(8),
        "norm.running_mean": torch.randn(8),
        "norm.running_var": torch.rand(8),
        "norm.num_batches_tracked": torch.tensor(7),
    }
    save_file(tensors, tmp_path / "f.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "g.safetensors")
    return tensors


PARAMETERS = ("fc.weight", "fc.bias", "norm.weight", "norm.bias")


@pytest.mark.parametrize(
    "line", ['load("f.safetensors", prefix = "")', 'load("g.safetensors", prefix = "model.")']
)
@pytest.mark.parametrize("seeds", ["seeds = 0", "seeds = 0..1"])
def test_a_part_begins_as_the_file_says(
    experiment: Make, trained: Train, file: dict[str, torch.Tensor], line: str, seeds: str
) -> None:
    own = experiment(text(f"initialize backbone.**: {line}", seeds=seeds))
    result = trained(own)
    for seed in own.seeds:
        found = load_state(result.path, seed)
        assert all(torch.equal(found[f"backbone.{name}"], file[name]) for name in PARAMETERS)
    assert any("running_mean" in key for key, _ in own.loads[0].names)


def test_running_statistics_begin_there_too(
    experiment: Make, trained: Train, file: dict[str, torch.Tensor]
) -> None:
    own = experiment(text('initialize backbone.**: load("f.safetensors", prefix = "")'))
    without = experiment(
        text('initialize backbone.**: load("f.safetensors", prefix = "")').replace("epochs  = 1", "steps = 1")
    )
    found = load_state(trained(without).path, 0)["backbone.norm.running_mean"]
    assert not torch.equal(found, file["norm.running_mean"])  # one step of momentum away
    assert (found - file["norm.running_mean"]).abs().max() < 0.5
    assert own.loads


def test_names_are_those_of_the_network(experiment: Make, trained: Train, tmp_path: Path) -> None:
    weight = torch.randn(8, 2)
    save_file({"backbone.fc.weight": weight}, tmp_path / "whole.safetensors")
    result = trained(experiment(text('initialize backbone.fc.weight: load("whole.safetensors")')))
    assert torch.equal(load_state(result.path, 0)["backbone.fc.weight"], weight)


def test_later_lines_win(
    experiment: Make, trained: Train, file: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    weight = torch.randn(8, 2)
    save_file({"backbone.fc.weight": weight}, tmp_path / "whole.safetensors")
    lines = (
        'initialize backbone.**: load("f.safetensors", prefix = "")',
        'initialize backbone.fc.weight: load("whole.safetensors")',
    )
    found = load_state(trained(experiment(text(*lines))).path, 0)
    assert torch.equal(found["backbone.fc.weight"], weight)
    assert torch.equal(found["backbone.fc.bias"], file["fc.bias"])


def test_other_weights_are_another_run(
    experiment: Make, trained: Train, file: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    own = experiment(text('initialize backbone.**: load("f.safetensors", prefix = "")'))
    first = trained(own).path
    save_file(file | {"fc.bias": torch.zeros(8)}, tmp_path / "f.safetensors")
    assert trained(own).path != first


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ('load("f.safetensors")', "N0812", "no `backbone.fc.weight`"),
        ('load("wrong.safetensors", prefix = "")', "N0812", "`fc.weight` is [2, 8]"),
        ('load("missing.safetensors")', "N0701", ""),
        ('load("../f.safetensors")', None, ""),
        ('load("broken.safetensors")', "N0813", ""),
    ],
)
def test_what_does_not_fit_is_listed(
    experiment: Make,
    trained: Train,
    file: dict[str, torch.Tensor],
    tmp_path: Path,
    line: str,
    code: str | None,
    says: str,
) -> None:
    save_file(file | {"fc.weight": torch.zeros(2, 8)}, tmp_path / "wrong.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    with pytest.raises(RunError) as caught:
        trained(experiment(text(f"initialize backbone.**: {line}")))
    assert code is None or caught.value.error.code == code
    assert says in str(caught.value.error.message)
