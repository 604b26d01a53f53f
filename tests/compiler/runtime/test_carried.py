"""Training on under other constraints, and from pruned weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nnspec.compiler.emit.load import effective_weight
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import instances
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state

Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

TEXT = """
network small {{
  input  x: real[2]
  output y: real[2] = x -> dense(8) as fc1 -> tanh -> dense(8) as fc2 -> tanh -> dense(2) as head
}}
experiment first {{
  network   = small
  data      = moons(samples = 100, test = 0.2)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.01)
  seeds     = {seeds}
  {first}
}}
experiment second = first {{
  network   = trained(first)
  optimizer = sgd(lr = {lr})
  epochs    = 1
  {second}
}}
"""


def text(first: str = "epochs = 3", second: str = "", lr: str = "1e-30", seeds: str = "0") -> str:
    return TEXT.format(first=first, second=second, lr=lr, seeds=seeds)


def in_use(own: Experiment, state: dict[str, Tensor]) -> Tensor:
    found = next(found for found in instances(own.graph.root) if found.path == "fc2")
    return effective_weight(found.primitive.weights[0], "fc2", state).detach()


def both(experiment: Make, trained: Train, given: str) -> tuple[Tensor, Tensor]:
    """The weight of `fc2` in use after either training."""
    own = experiment(given)
    result = trained(own)
    first = next(result.path.parent.glob("first-*"))
    assert own.start is not None
    return in_use(own.start, load_state(first, 0)), in_use(own, load_state(result.path, 0))


def nearest_of_rank(weight: Tensor, rank: int) -> Tensor:
    linalg: Any = torch.linalg
    outer, values, inner = linalg.svd(weight)
    return outer[:, :rank] @ torch.diag(values[:rank]) @ inner[:rank]


def test_a_sparse_weight_keeps_trained_entries(experiment: Make, trained: Train) -> None:
    before, after = both(experiment, trained, text(second="constrain fc2.weight: sparse(0.3)"))
    assert int((after != 0).sum()) == round(0.3 * 64)
    assert torch.equal(after, before.where(after != 0, 0))


def test_a_low_rank_weight_is_the_nearest_one(experiment: Make, trained: Train) -> None:
    before, after = both(experiment, trained, text(second="constrain fc2.weight: low_rank(2)"))
    torch.testing.assert_close(after, nearest_of_rank(before, 2))


def test_what_was_constrained_goes_on_from_the_weight_in_use(experiment: Make, trained: Train) -> None:
    first = "epochs = 3\n  constrain fc2.weight: low_rank(3)"
    before, after = both(experiment, trained, text(first=first, second="constrain fc2.weight: sparse(0.5)"))
    linalg: Any = torch.linalg
    assert linalg.matrix_rank(before) == 3
    assert int((after != 0).sum()) == 32
    assert torch.equal(after, before.where(after != 0, 0))


def test_values_are_laid_on_the_weight_in_use(experiment: Make, trained: Train) -> None:
    given = text(first="epochs = 3\n  constrain fc2.weight: low_rank(4)")
    given = given.replace("epochs    = 1", "epochs    = 1\n  constrain fc2.weight: binary")
    before, after = both(experiment, trained, given)
    assert torch.equal(after, before.sign())


def test_drawn_masks_are_carried(experiment: Make, trained: Train) -> None:
    given = text(first="epochs = 3\n  constrain fc2.weight: sparse(0.3)", lr="0.1")
    before, after = both(experiment, trained, given)
    assert torch.equal(before != 0, after != 0)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("seeds", ["0", "0..1"])
@pytest.mark.parametrize("second", ["", "constrain fc2.weight: sparse(0.5)"])
def test_what_was_pruned_stays_zero(experiment: Make, trained: Train, seeds: str, second: str) -> None:
    first = "stages = [fit(epochs = 2), prune(density = 0.2, select = fc2.weight), fit(epochs = 1)]"
    own = text(first=first, second=second, lr="0.1", seeds=seeds).replace(
        "epochs    = 1", "stages = [fit(epochs = 1)]"
    )
    before, after = both(experiment, trained, own)
    assert int((before != 0).sum()) == round(0.2 * 64)
    assert not (after[before == 0] != 0).any()
    assert not torch.equal(before, after)


def test_what_is_pruned_again_counts_it(experiment: Make, trained: Train) -> None:
    first = "stages = [fit(epochs = 2), prune(density = 0.5, select = fc2.weight), fit(epochs = 1)]"
    own = text(first=first, lr="0.1").replace(
        "epochs    = 1", "stages = [prune(density = 0.25, select = fc2.weight), fit(epochs = 1)]"
    )
    before, after = both(experiment, trained, own)
    assert int((after != 0).sum()) == 16
    assert not (after[before == 0] != 0).any()
