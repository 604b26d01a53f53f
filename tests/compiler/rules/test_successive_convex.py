"""Successive convex approximation: minima of surrogates that are written out here, and descent as its special case."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.plan import Batch
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

TEXT = """
network n {{ input x: real[4]
  output y: real[{outputs}] = x -> {body}
  {lines} }}
experiment e {{ network = n
  data = {data}
  loss = {loss}
  learn = successive_convex({options})
  optimizer = sgd(lr = 0.5)
  batch = 20
  precision = "float64"
  epochs = 2 }}
"""
FLOWERS = {
    "data": 'iris(scale = "standard")',
    "outputs": "3",
    "body": "dense(5) -> tanh -> dense(3)",
    "loss": "cross_entropy",
    "lines": "",
    "options": "tau = 0.3, l2 = 0.02",
}
NUMBERS = FLOWERS | {
    "data": "gaussian_teacher(inputs = 4, outputs = 2, hidden = 3)",
    "outputs": "2",
    "body": "dense(5) -> tanh -> dense(2)",
    "loss": "mean_squared_error",
}
Begun = Callable[[str], LearningGroup]


def text(**facts: str) -> str:
    return TEXT.format(**(FLOWERS | facts))


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def minimum(group: LearningGroup, batch: Batch) -> Tensor:
    """Where the surrogate is least, as the direction of the next step says."""
    at = flat(group.parameters)
    group.rule.direction(group, batch, group.learner.streams)
    return at - flat([p.grad for p in group.parameters if p.grad is not None])


def outputs_at(group: LearningGroup, batch: Batch, at: Tensor) -> Callable[[Tensor], Tensor]:
    """The outputs of a batch, linear in the weights about `at`: by forward derivatives."""
    pieces = [p.numel() for p in group.parameters]
    shapes = [p.shape for p in group.parameters]

    def network(w: Tensor) -> Tensor:
        own = {n: v.view(s) for n, v, s in zip(group.names, w.split(pieces), shapes, strict=True)}
        return functional_call(group.network, own, batch.inputs)

    def linear(w: Tensor) -> Tensor:
        value, change = jvp(network, (at,), (w - at,))
        return value + change

    return linear


def loss_of(group: LearningGroup, outputs: Tensor, batch: Batch) -> Tensor:
    if group.learner.plan.experiment.loss.name == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, batch.target)
    return (outputs - batch.target).square().mean()


@pytest.mark.parametrize("lines", ["", "constrain every dense.weight: l2(0.7)"])
@pytest.mark.parametrize("facts", [FLOWERS, NUMBERS], ids=["classes", "numbers"])
def test_steps_lead_to_the_minimum_of_the_surrogate(begun: Begun, facts: dict[str, str], lines: str) -> None:
    """Where its gradient, found by differentiating it as the paper writes it, is zero: three steps long."""
    group = begun(text(**facts | {"lines": lines}))
    train = group.learner.plan.train
    past: list[tuple[float, Callable[[Tensor], Tensor], Batch]] = []
    mean_slope: Tensor | None = None
    for step in range(1, 4):
        batch = train.between(20 * step, 20 * step + 20)
        at, rho = flat(group.parameters), step**-0.6
        linear = outputs_at(group, batch, at)
        found = minimum(group, batch).requires_grad_()
        sizes = zip(group.names, group.parameters, strict=True)
        decayed = [torch.full((p.numel(),), float(n.endswith("weight"))) for n, p in sizes]
        penalty = 0.7 * at * torch.cat(decayed) if lines else torch.zeros_like(at)
        past = [(weight * (1 - rho), old, rows) for weight, old, rows in past] + [(rho, linear, batch)]
        if facts is NUMBERS:
            surrogate = sum((w * loss_of(group, old(found), rows) for w, old, rows in past), found.sum() * 0)
        else:
            surrogate = rho * loss_of(group, linear(found), batch)
            if mean_slope is not None:
                surrogate = surrogate + (1 - rho) * mean_slope @ (found - at)
        surrogate = surrogate + penalty @ (found - at) + 0.3 * (found - at).square().sum() / 2
        surrogate = surrogate + 0.02 * found.square().sum() / 2
        (slope,) = torch.autograd.grad(surrogate, found)
        assert float(slope.norm()) < 1e-7
        start = at.clone().requires_grad_()
        (own,) = torch.autograd.grad(loss_of(group, linear(start), batch), start)
        mean_slope = rho * own if mean_slope is None else (1 - rho) * mean_slope + rho * own
        group.optimizer.step()
        torch.testing.assert_close(flat(group.parameters), at + 0.5 * (found.detach() - at))


def test_a_linear_network_is_solved_in_one_step(begun: Begun) -> None:
    """Ridge regression in closed form, from the normal equations."""
    facts = NUMBERS | {"body": "dense(2)", "options": "tau = 1e-9, l2 = 0.05"}
    group = begun(text(**facts))
    train = group.learner.plan.train
    found = minimum(group, train)
    (x,) = train.inputs
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    gram = ones.T @ ones / len(x) + 0.05 * torch.eye(5, dtype=x.dtype)  # the loss is the mean of two outputs
    wanted = torch.linalg.solve(gram, ones.T @ train.target / len(x))
    torch.testing.assert_close(found, torch.cat([wanted[:4].T.flatten(), wanted[4]]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("facts", [FLOWERS, NUMBERS], ids=["classes", "numbers"])
def test_each_block_is_the_minimum_with_the_others_fixed(begun: Begun, facts: dict[str, str]) -> None:
    group = begun(text(**facts | {"options": "tau = 0.3, l2 = 0.02, blocks = 3"}))
    batch = group.learner.plan.train.between(0, 20)
    at = flat(group.parameters)
    linear = outputs_at(group, batch, at)
    other = begun(text(**facts | {"options": "tau = 0.3, l2 = 0.02, blocks = 3"}))
    order = other.learner.streams.permutation("blocks", len(at))
    found = minimum(group, batch)
    for block in order.tensor_split(3):
        w = at.clone()
        w[block] = found[block]
        w.requires_grad_()
        surrogate = loss_of(group, linear(w), batch) + 0.3 * (w - at).square().sum() / 2
        surrogate = surrogate + 0.02 * w.square().sum() / 2
        (slope,) = torch.autograd.grad(surrogate, w)
        assert float(slope[block].norm()) < 1e-7


def test_with_all_linear_it_is_averaged_gradient_descent(begun: Begun) -> None:
    group = begun(text(options='linearise = "all", tau = 0.4'))
    train = group.learner.plan.train
    w, mean_slope = flat(group.parameters), torch.zeros(1, dtype=torch.float64)
    for step in range(1, 6):
        batch = train.between(20 * step - 20, 20 * step)
        own = flat(list(torch.autograd.grad(group.mean_loss(batch), group.parameters)))
        rho = step**-0.6
        mean_slope = (1 - rho) * mean_slope + rho * own
        w = w - 0.5 * mean_slope / 0.4
        group.rule.step(group, batch, group.learner.streams)
        torch.testing.assert_close(flat(group.parameters), w, rtol=1e-10, atol=1e-12)


def test_a_run_that_goes_on_remembers_its_surrogate(begun: Begun) -> None:
    one, other = begun(text(**NUMBERS)), begun(text(**NUMBERS))
    train = one.learner.plan.train
    for step in range(4):
        if step == 2:
            other.learner.restore(one.learner.capture())
            other = other.learner.groups[0]
        batch = train.between(20 * step, 20 * step + 20)
        one.rule.step(one, batch, one.learner.streams)
        if step >= 2:
            other.rule.step(other, batch, other.learner.streams)
    assert torch.equal(flat(one.parameters), flat(other.parameters))


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({"body": "dense(5) -> batchnorm -> dense(3)"}, ["N0742"]),
        ({"body": "dense(5) -> dropout(0.2) -> dense(3)"}, ["N0746"]),
        ({"loss": "hinge"}, ["N0747"]),
        ({"loss": "cross_entropy(y, label) + sum(y)"}, ["N0747"]),
        ({"body": "dense(900) -> tanh -> dense(3)"}, ["N0748"]),
        ({"body": "dense(900) -> dropout(0.2) -> dense(3)", "options": 'linearise = "all"'}, []),
    ],
)
def test_what_is_refused(facts: dict[str, str], codes: list[str]) -> None:
    bag = Bag()
    check(Source("test.nnspec", text(**facts)), bag)
    assert [error.code for error in bag] == codes


SETTLED = """
use library.dynamics
network n {{ input x: real[4]
  state h: real[6] = {start}
  connect x -> h as feed
  connect h -> h as rec except self
  dynamics rate(tanh, solve = fixed_point(steps = 300, damping = 0.5, tolerance = 1e-8))
  output y: real[3] = h -> dense(3) }}
"""


def settled(start: str) -> str:
    return SETTLED.format(start=start) + "experiment e" + text().partition("experiment e")[2]


def test_outputs_may_be_what_states_settle_to(begun: Begun) -> None:
    group = begun(settled("0.1"))
    batch = group.learner.plan.train.between(0, 20)
    at = flat(group.parameters)
    pieces, shapes = [p.numel() for p in group.parameters], [p.shape for p in group.parameters]

    def loss(w: Tensor) -> Tensor:
        own = {n: v.view(s) for n, v, s in zip(group.names, w.split(pieces), shapes, strict=True)}
        return loss_of(group, functional_call(group.network, own, batch.inputs), batch)

    start = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(start), start)
    found = minimum(group, batch)
    assert float(slope @ (found - at)) < 0  # a direction of descent
    assert float(loss(at + 0.1 * (found - at)).detach()) < float(loss(at).detach())


def test_states_that_begin_anywhere_are_refused() -> None:
    bag = Bag()
    check(Source("test.nnspec", settled("uniform(0, 0.1)")), bag)
    assert [error.code for error in bag] == ["N0746"]
