"""Teleportation: outputs stay, the gradient gets steeper, and by as much as a closed form allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.symmetry.draws import random_state
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import largest_change
from nnspec.compiler.symmetry.teleport import teleport
from nnspec.compiler.tensors import learned_keys
from nnspec.spec import load

SPEC = """
network small {
  input  x: real[2]
  output y = x -> dense(6) -> relu -> dense(4) -> dense(4) -> leaky_relu -> dense(2)
}

experiment run {
  network   = small
  data      = circles(samples = 60, noise = 0.1)
  loss      = cross_entropy
  learn     = backprop
  optimizer = sgd(lr = 0.05)
  epochs    = 40
  batch     = none
}
"""


def test_the_gradient_gets_steeper_and_the_outputs_stay() -> None:
    plan = prepare(load(SPEC).experiment().fitted, Path())
    found = find("teleport").run(
        Subject(graph=plan.graph, experiment=plan.experiment, plan=plan), {"train": 5}
    )
    norms, losses = found.data["norms"], found.data["losses"]
    assert norms == sorted(norms) and norms[-1] > 1.5 * norms[0]
    assert losses["teleported"][0] == pytest.approx(losses["from the start"][0], rel=1e-9)
    assert losses["teleported"][-1] < losses["from the start"][-1]  # a steeper first-order decrease


def test_the_orbit_of_one_unit_is_climbed_to_its_end() -> None:
    """Of y = v relu(u x), scaled (s u, v / s), the squared norm g_u^2 / s^2 + g_v^2 s^2 is convex in log s: its
    largest value for |log s| <= reach is at an end."""
    text = "network one {\n  input x: real[1]\n  output y = x -> dense(1, bias = false) -> relu -> dense(1, bias = false)\n}\n"
    graph = load(text).network().graph
    u, v, x, t = 0.7, -1.3, 2.0, 0.5
    state = {"dense.weight": torch.tensor([[u]]), "dense_2.weight": torch.tensor([[v]])}

    def loss(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return ((given["dense_2.weight"] * (given["dense.weight"] * x).relu() - t) ** 2).sum() / 2

    found = teleport(symmetry_group(graph), state, loss, learned_keys(graph), steps=200, rate=0.1, reach=1.0)
    error = v * u * x - t
    ends = [
        ((error * v * x / s) ** 2 + (error * u * x * s) ** 2) ** 0.5 for s in (2.718281828**-1, 2.718281828)
    ]
    assert found.norms[0] == pytest.approx(((error * v * x) ** 2 + (error * u * x) ** 2) ** 0.5, rel=1e-6)
    assert found.norms[-1] == pytest.approx(max(ends), rel=1e-3)
    assert list(found.norms) == sorted(set(found.norms))  # at the end no step is taken that gains nothing


def test_every_family_of_wires_is_moved_without_a_change_of_the_function() -> None:
    graph = load(SPEC).network().graph
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)

    def loss(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum((tensor**4).sum() for tensor in given.values())

    found = teleport(group, state, loss, learned_keys(graph), steps=5)
    assert largest_change(graph, group, state, found.state, 0) < 1e-12
    assert all(not torch.equal(found.state[key], state[key]) for key in state if key != "dense_4.bias")


@pytest.mark.parametrize(
    "constraint", ["symmetric", "circulant", "toeplitz", "low_rank(2)", "mask((i, j) => abs(i - j) <= 1)"]
)
def test_weights_that_a_constraint_makes_of_other_numbers_move_too(constraint: str) -> None:
    text = SPEC.replace("-> dense(4) -> dense(4) ->", "-> dense(4) -> dense(4) as b ->")
    text = text.replace("-> dense(2)\n", f"-> dense(2)\n  constrain b.weight: {constraint}\n", 1)
    plan = prepare(load(text).experiment().fitted, Path())
    subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
    found = find("teleport").run(subject, {"train": 2, "steps": 5}).data
    assert found["norms"][-1] > found["norms"][0]
    assert found["losses"]["teleported"][0] == pytest.approx(found["losses"]["from the start"][0], rel=1e-9)


def test_a_system_without_scales_has_nowhere_to_go() -> None:
    text = """use library.dynamics
network ring {
  input  x: real[2]
  state  h: real[4]
  connect x -> h
  connect h -> h except self
  dynamics rate(tanh)
  output y: real[2] = h -> dense(2)
}
""" + SPEC[SPEC.index("experiment") :].replace("small", "ring")
    plan = prepare(load(text).experiment().fitted, Path())
    subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
    found = find("teleport").run(subject, {"train": 2})
    assert "nowhere on the orbit" in found.summary and len(found.data["norms"]) == 1
