"""Coordinate descent over finite values: what it ends at, what it never leaves, and what it leaves alone."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import nnspec
from nnspec.compiler.emit.packed import packed
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[4]
  output y: real[3] = x -> dense(5) as hidden {extra} -> tanh -> dense(3) as head
  initialize every dense.*: uniform(-1.5, 1.5)
  {lines} }}
experiment e {{ network = n
  data = iris(scale = "standard")
  loss = cross_entropy
  learn = coordinate_descent({options})
  batch = {batch}
  {more}
  epochs = 4 }}
"""
PLAIN = {"extra": "", "lines": "", "options": "values = [-1, 0, 1]", "batch": "none", "more": ""}
SPEC = Path(__file__).parents[3] / "specs" / "rules" / "ternary_flowers.nnspec"
Begun = Callable[[str], LearningGroup]


def text(**facts: str) -> str:
    return TEXT.format(**(PLAIN | facts))


def sweep(group: LearningGroup) -> float:
    return float(group.rule.step(group, group.learner.plan.train, group.learner.streams))


def loss_of(group: LearningGroup) -> float:
    with torch.no_grad():
        return float(group.mean_loss(group.learner.plan.train))


def in_set(group: LearningGroup, values: list[float]) -> bool:
    wanted = torch.tensor(values)
    return all(bool(torch.isin(p.detach(), wanted).all()) for p in group.parameters)


def test_the_loss_never_rises_and_weights_stay_in_the_set(begun: Begun) -> None:
    group = begun(text(options="values = [-1, -0.25, 0.5]"))
    losses: list[float] = []
    for _ in range(4):
        losses.append(sweep(group))
        assert in_set(group, [-1.0, -0.25, 0.5])
        assert loss_of(group) <= losses[-1]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.1


def test_it_ends_where_no_single_weight_can_be_better(begun: Begun) -> None:
    group = begun(text())
    before = sweep(group)
    while (now := sweep(group)) < before:
        before = now
    best = loss_of(group)
    for parameter in group.parameters:
        flat = parameter.data.view(-1)
        for place in range(flat.numel()):
            own = float(flat[place])
            for value in (-1.0, 0.0, 1.0):
                flat[place] = value
                assert loss_of(group) >= best
            flat[place] = own


def test_a_sweep_visits_each_weight_once(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    group = begun(text())
    calls: list[int] = []
    own = group.mean_loss
    monkeypatch.setattr(group, "mean_loss", lambda batch: (calls.append(1), own(batch))[1])
    sweep(group)
    count = sum(p.numel() for p in group.parameters)
    assert len(calls) == 1 + 2 * count


def test_a_step_may_visit_few(begun: Begun) -> None:
    group = begun(text(options="values = [-1, 0, 1], coordinates = 3"))
    with torch.no_grad():
        for parameter in group.parameters:
            parameter.copy_(parameter.round())
    before = [p.detach().clone() for p in group.parameters]
    sweep(group)
    moved = sum(int((p != was).sum()) for p, was in zip(group.parameters, before, strict=True))
    assert moved <= 3


def test_values_are_those_of_the_constraint(begun: Begun) -> None:
    lines = """constrain hidden.weight: ternary(threshold = 0.6)
  constrain head.weight: values([-0.5, 0.5])"""
    group = begun(text(lines=lines))
    network = group.network
    inputs = group.learner.plan.train.inputs
    before: Tensor = network(*inputs).detach()
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    group.options = {**group.options, "coordinates": 0}
    sweep(group)  # weights move to the values that the network used them with; biases to their nearest
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(weights[name])
    torch.testing.assert_close(network(*inputs).detach(), before, rtol=0, atol=0)
    group.options = {**group.options, "coordinates": None}
    sweep(group)
    hidden, head = network.get_parameter("hidden.weight"), network.get_parameter("head.weight")
    assert set(hidden.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert set(head.unique().tolist()) <= {-0.5, 0.5}


def test_what_a_mask_removes_is_no_coordinate(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "constrain hidden.weight: ternary & mask((i, j) => (i + j) % 2 == 0)"
    group = begun(text(lines=lines, options="values = [-1, 1]"))
    calls: list[int] = []
    own = group.mean_loss
    monkeypatch.setattr(group, "mean_loss", lambda batch: (calls.append(1), own(batch))[1])
    sweep(group)
    assert len(calls) == 1 + 2 * 10 + (5 + 15 + 3)  # three values, and two of the rest


def test_forwards_of_a_step_draw_the_same(begun: Begun) -> None:
    group = begun(text(extra="-> dropout(0.3)"))
    draws = group.draws()
    first = sweep(group)
    group.draw_again(draws)
    after = group.learner.notes.means()["after"]
    assert loss_of(group) == pytest.approx(after, rel=1e-6)
    assert after < first


def test_pruned_weights_stay_away(experiment: Callable[[str], Experiment], tmp_path: Path) -> None:
    more = "stages = [fit(epochs = 2), prune(density = 0.5), fit(epochs = 2)]"
    own = experiment(text(more=more, options="values = [-1, 1]").replace("  epochs = 4 }", "}"))
    plan = prepare(own, tmp_path, "cpu")
    learner = Learner(plan, plan.trials[0])
    learner.epoch()
    learner.enter(1)
    learner.epoch()
    assert sum(int(removed.sum()) for removed in learner.masks.values()) == 17  # of 20 + 15
    for name, removed in learner.masks.items():
        weight = learner.state[name]
        assert bool((weight[removed] == 0).all())
        assert bool((weight[~removed].abs() == 1).all())


def test_mean_of_five_splits_of_irises(tmp_path: Path) -> None:
    found: list[float] = []
    written = SPEC.read_text(encoding="utf-8").replace("0..4", "0")
    for split in range(5):
        file = tmp_path / f"split_{split}.nnspec"
        file.write_text(written.replace("iris(", f"iris(seed = {split}, "), encoding="utf-8")
        result = nnspec.load(file).experiment("one_at_a_time").train(out=tmp_path)
        losses = [row["loss"] for row in result.history]
        assert losses == sorted(losses, reverse=True)
        found.append(result.mean["accuracy"])
    assert sum(found) / 5 >= 0.9


def test_packed_it_is_exactly_the_same(experiment: Callable[[str], Experiment], tmp_path: Path) -> None:
    own = experiment(text(lines="constrain every dense.weight: ternary"))
    plan = prepare(own, tmp_path, "cpu")
    learner = Learner(plan, plan.trials[0])
    learner.epoch()
    made = packed(plan.graph, learner.network.state_dict(), "flowers.safetensors")
    (tmp_path / "flowers.safetensors").write_bytes(made.data)
    (tmp_path / "flowers.py").write_text(made.text, encoding="utf-8")
    again = runpy.run_path(str(tmp_path / "flowers.py"))["load"](str(tmp_path / "flowers.safetensors"))
    learner.network.eval()
    assert torch.equal(again(*plan.train.inputs), learner.network(*plan.train.inputs))
    sizes = {name: now for name, _, _, now in made.rows}
    assert sizes["hidden.weight"] == 20 // 4 + 3 * 4  # two bits an entry, three values


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({"options": ""}, ["N0743"]),
        ({"lines": "constrain hidden.weight: low_rank(2)"}, ["N0744"]),
        ({"lines": "constrain hidden.weight: nonnegative"}, ["N0744"]),
        ({"lines": 'constrain hidden.weight: binary(scale = "tensor")'}, ["N0744"]),
        ({"lines": "constrain hidden.weight: l1(0.1)"}, ["N0744"]),
        ({"lines": "constrain hidden.weight: l2(0.1)"}, []),
        ({"more": "optimizer = sgd(lr = 0.1)"}, ["N0745"]),
        ({"options": "values = [1, 1]"}, ["N0304"]),
    ],
)
def test_what_is_refused(facts: dict[str, str], codes: list[str]) -> None:
    bag = Bag()
    found = check(Source("test.nnspec", text(**facts)), bag)
    assert [error.code for error in bag] == codes
    assert bool(found.experiments) == (codes in ([], ["N0745"]))
