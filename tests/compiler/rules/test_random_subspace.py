"""Random bases: the mean of the direction, and workers that agree bit by bit without sending a basis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nnspec.compiler.pipeline import check
from nnspec.compiler.rules import random_subspace as subspace
from nnspec.compiler.rules.backprop import gradient
from nnspec.compiler.rules.flat import flat_gradient, lay
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[2]
  output y: real[2] = x -> dense(6) as first -> tanh -> dense(2) as second }}
experiment e {{ network = n
  data = moons(samples = 120)
  loss = cross_entropy
  learn = random_subspace({options})
  optimizer = sgd(lr = 0.5, momentum = 0.9)
  batch = 31
  precision = "float64"
  steps = 7 }}
"""
Begun = Callable[[str], LearningGroup]


def flat(group: LearningGroup) -> Tensor:
    return torch.cat([p.detach().flatten() for p in group.parameters])


def directed(group: LearningGroup) -> Tensor:
    group.rule.direction(group, group.learner.plan.train, group.learner.streams)
    return torch.cat([p.grad.flatten() for p in group.parameters if p.grad is not None])


@pytest.mark.parametrize(
    ("distribution", "compartments", "sizes"),
    [
        ("normal", "1", (32,)),
        ("uniform", "1", (32,)),
        ("rademacher", "3", (10, 11, 11)),
        ("normal", '"layer"', (18, 14)),
    ],
)
def test_the_mean_direction_is_the_gradient_scaled(
    begun: Begun, distribution: str, compartments: str, sizes: tuple[int, ...]
) -> None:
    """E[P P'] = d_k / D_k in each compartment; of 1,500 draws the mean is known to 6%."""
    options = f'dim = 6, distribution = "{distribution}", compartments = {compartments}'
    group = begun(TEXT.format(options=options))
    total = torch.zeros(32, dtype=torch.float64)
    count = 1500
    for step in range(count):
        group.learner.step = step
        total += directed(group) / count
    gradient(group, group.learner.plan.train)
    wanted = flat_gradient(group)
    pieces = torch.cat([torch.full((size,), 6 / len(sizes) / size) for size in sizes]) * wanted
    assert float((total - pieces).norm() / pieces.norm()) < 0.15
    scale = torch.dot(total, pieces) / pieces.dot(pieces)
    assert float(scale) == pytest.approx(1.0, abs=0.06)


def test_a_basis_has_entries_of_variance_one_over_its_width() -> None:
    for distribution in ("normal", "uniform", "rademacher"):
        like = torch.zeros(1, dtype=torch.float64)
        found = torch.cat(list(subspace.basis(subspace.Key(1, 2, 3, 4), 200, 500, distribution, like)))
        assert found.shape == (200, 500)
        assert float(found.mean()) == pytest.approx(0.0, abs=1e-3)
        assert float(found.var()) == pytest.approx(1 / 500, rel=0.02)


def test_a_basis_is_its_keys_alone_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    like = torch.zeros(1)
    keys = [
        subspace.Key(*key) for key in [(1, 2, 3, 4), (0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)]
    ]
    whole = [torch.cat(list(subspace.basis(key, 8, 64, "normal", like))) for key in keys]
    assert all(not torch.equal(whole[0], other) for other in whole[1:])
    monkeypatch.setattr(subspace, "_BLOCK", 128)
    blocks = list(subspace.basis(keys[0], 8, 64, "normal", like))
    assert len(blocks) == 4 and torch.equal(torch.cat(blocks), whole[0])


def test_a_fixed_basis_never_leaves_its_subspace(begun: Begun) -> None:
    group = begun(TEXT.format(options='dim = 5, redraw = "never"'))
    start = flat(group)
    moves: list[Tensor] = []
    for step in range(12):
        group.learner.step = step
        group.rule.step(group, group.learner.plan.train, group.learner.streams)
        moves.append(flat(group) - start)
    assert int(torch.linalg.matrix_rank(torch.stack(moves), rtol=1e-9)) == 5


def test_redrawn_bases_leave_every_subspace(begun: Begun) -> None:
    group = begun(TEXT.format(options="dim = 5"))
    start = flat(group)
    moves: list[Tensor] = []
    for step in range(12):
        group.learner.step = step
        group.rule.step(group, group.learner.plan.train, group.learner.streams)
        moves.append(flat(group) - start)
    assert int(torch.linalg.matrix_rank(torch.stack(moves), rtol=1e-9)) == 12


def test_two_workers_that_exchange_coordinates_agree_bit_by_bit(begun: Begun) -> None:
    """Each has its own copy of the weights and its own part of the batch, and is sent 6 numbers a step."""
    text = TEXT.format(options='dim = 6, compartments = "layer", workers = 2')
    workers, together = [begun(text), begun(text)], begun(text)
    train = together.learner.plan.train
    for step in range(20):
        batch = train.between(3 * step, 3 * step + 31)
        sent: list[list[Tensor]] = []
        for number, own in enumerate(workers):
            own.learner.step = step
            share = batch.between(0, 15) if number == 0 else batch.between(15, 31)
            gradient(own, share)
            sent.append(subspace.project(own, flat_gradient(own), number))
        for own in workers:
            lay(own, subspace.combine(own, sent))
            own.optimizer.step()
        together.learner.step = step
        together.rule.step(together, batch, together.learner.streams)
    assert sum(own.numel() for own in sent[0]) == 6
    assert torch.equal(flat(workers[0]), flat(workers[1]))
    assert torch.equal(flat(workers[0]), flat(together))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("dim = 33", "N0740"),
        ('dim = 1, compartments = "layer"', "N0741"),
        ("dim = 4, compartments = 5", "N0741"),
    ],
)
def test_what_is_refused(options: str, code: str) -> None:
    bag = Bag()
    check(Source("test.nnspec", TEXT.format(options=options)), bag)
    assert [error.code for error in bag] == [code]
