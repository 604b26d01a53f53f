"""Labels made wrong on purpose: how many, which, and where they stay right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.data.field import Splits
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag, RunError
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[{inputs}]
  output y: real[{outputs}] = x -> dense({outputs}) }}
experiment e {{ network = n
  data = {data}
  loss = {loss}
  learn = backprop
  epochs = 1 }}
"""


def checked(data: str, **facts: Any) -> tuple[Bag, Any]:
    bag = Bag()
    own = {"inputs": 4, "outputs": 3, "loss": "cross_entropy"} | facts
    found = check(Source("test.nnspec", TEXT.format(data=data, **own)), bag)
    return bag, found.experiments[-1] if found.experiments else None


def loaded(text: str) -> Splits:
    bag, experiment = checked(text)
    assert not bag.failed, list(bag)
    return data.load(experiment.data, Path("."))


@pytest.mark.parametrize("rate", [0.1, 0.45, 1.0])
def test_the_fraction_is_exact_and_no_label_stays_right_by_luck(rate: float) -> None:
    found = loaded(f"iris(corrupt = symmetric({rate}), validation = 0.1)")
    clean = loaded("iris(validation = 0.1)")
    assert found.train.true is not None and found.validation is not None and found.test is not None
    assert int((found.train.targets != found.train.true).sum()) == round(rate * found.train.rows)
    assert torch.equal(found.train.true, clean.train.targets)
    assert clean.validation is not None and clean.test is not None and clean.train.true is None
    assert torch.equal(found.validation.targets, clean.validation.targets)
    assert torch.equal(found.test.targets, clean.test.targets)
    assert found.identity != clean.identity


def test_wrong_labels_are_each_as_likely() -> None:
    found = loaded("blobs(samples = 60000, centers = 3, features = 4, corrupt = symmetric(0.6))").train
    assert found.true is not None
    for label in range(3):
        given = found.targets[found.true == label]
        shares = np.bincount(given.numpy(), minlength=3) / len(given)
        wanted = [0.4 if other == label else 0.3 for other in range(3)]
        assert shares == pytest.approx(wanted, abs=0.02)


def test_pairs_flip_to_the_next_class() -> None:
    found = loaded("iris(corrupt = pairflip(0.3))").train
    assert found.true is not None
    wrong = found.targets != found.true
    assert torch.equal(found.targets[wrong], (found.true[wrong] + 1) % 3)


def test_its_seed_is_its_own() -> None:
    one, same, other = (loaded(f"iris(corrupt = symmetric(0.5, seed = {seed}))").train for seed in (0, 0, 1))
    assert torch.equal(one.targets, same.targets) and not torch.equal(one.targets, other.targets)
    assert one.true is not None and other.true is not None and torch.equal(one.true, other.true)


def test_batches_carry_the_true_labels() -> None:
    _, experiment = checked("iris(corrupt = symmetric(0.5))")
    train = prepare(experiment, Path("."), "cpu").train
    rows = torch.tensor([5, 3])
    assert train.true is not None
    taken = train.take(rows).true
    assert taken is not None and torch.equal(taken, train.true[rows])


def test_numbers_are_no_labels() -> None:
    bag, _ = checked("diabetes(corrupt = symmetric(0.5))", inputs=10, outputs=1, loss="mean_squared_error")
    assert [error.code for error in bag] == ["N0304"]
    assert "holds numbers" in repr(next(iter(bag)))


def test_a_file_of_numbers_is_refused_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,t\n1,0.5\n2,0.25\n3,0.1\n4,0.7\n5,0.6\n")
    text = 'csv("a.csv", target = "t", corrupt = symmetric(0.5))'
    _, experiment = checked(text, inputs=1, outputs=1, loss="mean_squared_error")
    with pytest.raises(RunError) as caught:
        data.load(experiment.data, tmp_path)
    assert caught.value.error.code == "N0717"
