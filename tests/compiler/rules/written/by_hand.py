"""A network with two hidden layers, every value of it by hand in torch, and the direction of a rule in it."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from nnspec.compiler.runtime.group import LearningGroup

MLP = """
network n {{ input x: real[2]
  output y: real[2] = x -> dense(5) as a -> tanh -> dense(4) as b -> relu -> dense(2) as c }}
experiment e {{ network = n
  data = moons(samples = 40)
  loss = cross_entropy
  learn = {rule}
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""


def direction(group: LearningGroup) -> dict[str, torch.Tensor]:
    """The direction of the rule, by state-dict key."""
    group.rule.direction(group, group.learner.plan.train, group.learner.streams)
    return {name: _grad(p).clone() for name, p in zip(group.names, group.parameters, strict=True)}


def _grad(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def gradient(group: LearningGroup) -> dict[str, torch.Tensor]:
    """The gradient of the mean loss by reverse-mode differentiation of the module."""
    group.network.zero_grad()
    loss: Any = group.mean_loss(group.learner.plan.train)
    loss.backward()
    return {name: _grad(p).clone() for name, p in zip(group.names, group.parameters, strict=True)}


class ByHand:
    """The two-hidden-layer network of `MLP`, every value of it, by hand."""

    def __init__(self, group: LearningGroup, instead: dict[str, torch.Tensor] | None = None) -> None:
        """`instead` gives weights in force that are not those stored."""
        self.state = {name: p.detach() for name, p in zip(group.names, group.parameters, strict=True)}
        self.state |= instead or {}
        batch = group.learner.plan.train
        self.x, self.label = batch.inputs[0], batch.target
        self.drives: list[torch.Tensor] = []
        self.posts: list[torch.Tensor] = []
        self.pres: list[torch.Tensor] = []
        value = self.x
        for layer, act in (("a", torch.tanh), ("b", torch.relu), ("c", lambda v: v)):
            self.pres.append(value)
            self.drives.append(value @ self.state[f"{layer}.weight"].T + self.state[f"{layer}.bias"])
            value = act(self.drives[-1])
            self.posts.append(value)
        self.error = functional.softmax(value, -1) - functional.one_hot(self.label, 2)
        self.slopes = [1 - self.posts[0] ** 2, (self.drives[1] > 0).double(), torch.ones_like(value)]
        self.rows = len(self.label)
