"""The rules of the library against the same equations by hand in torch, written with every index."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import MLP, ByHand, direction

from nnspec.compiler.runtime.group import LearningGroup
from nnspec.dsl.standard import rules

Begun = Callable[..., LearningGroup]

ONE_LAYER = """
network n {{ input x: real[8, 8]
  output y: real[10] = x -> flatten -> dense(10) as d {act} }}
experiment e {{ network = n
  data = digits(train = 0.1, test = 0.9)
  loss = mean_squared_error
  learn = {rule}
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""


def test_sanger(begun: Begun) -> None:
    group = begun(MLP.format(rule="sanger"))
    own, found = ByHand(group), direction(group)
    for layer, pre, post in zip("abc", own.pres, own.posts, strict=True):
        weight = own.state[f"{layer}.weight"]
        wished = torch.zeros(own.rows, *weight.shape, dtype=weight.dtype)
        for i in range(weight.shape[0]):
            explained = sum(post[:, k, None] * weight[k] for k in range(i + 1))
            wished[:, i] = post[:, i, None] * (pre - explained)
        torch.testing.assert_close(found[f"{layer}.weight"], -wished.mean(0))


def test_bcm(begun: Begun) -> None:
    group = begun(MLP.format(rule="bcm"))
    own, found = ByHand(group), direction(group)
    for layer, pre, post in zip("abc", own.pres, own.posts, strict=True):
        theta = post.square().mean(0)
        wished = torch.einsum("no,ni->oi", post * (post - theta), pre) / own.rows
        torch.testing.assert_close(found[f"{layer}.weight"], -wished)


@pytest.mark.parametrize("act", ["", "-> tanh"])
def test_delta(begun: Begun, act: str) -> None:
    group = begun(ONE_LAYER.format(rule="delta", act=act))
    batch = group.learner.plan.train
    x, state = batch.inputs[0].flatten(1), dict(zip(group.names, group.parameters, strict=True))
    with torch.no_grad():
        drive = x @ state["d.weight"].T + state["d.bias"]
        y = torch.tanh(drive) if act else drive
        target = torch.nn.functional.one_hot(batch.target, 10).double()
        error = 2 * (y - target) / 10 * (1 - y**2 if act else 1)  # the loss is the mean over the outputs
    found = direction(group)
    torch.testing.assert_close(found["d.weight"], error.T @ x / batch.rows)
    torch.testing.assert_close(found["d.bias"], error.mean(0))


def test_perceptron(begun: Begun) -> None:
    group = begun(ONE_LAYER.format(rule="perceptron", act=""))
    batch = group.learner.plan.train
    x, state = batch.inputs[0].flatten(1), dict(zip(group.names, group.parameters, strict=True))
    with torch.no_grad():
        fires = (x @ state["d.weight"].T + state["d.bias"] > 0).double()
    error = torch.nn.functional.one_hot(batch.target, 10) - fires
    torch.testing.assert_close(direction(group)["d.weight"], -error.T @ x / batch.rows)


@pytest.mark.parametrize("name", ["usf", "brsf", "frsf"])
def test_sign_concordant_feedback(begun: Begun, name: str) -> None:
    """Errors come back through M * sign(W); M is 0.3, or |normal| drawn once, or drawn anew at every step."""
    group = begun(MLP.format(rule=f"{name}(scale = 0.3)"))
    own, first = ByHand(group), direction(group)
    second = direction(group)
    assert torch.equal(first["a.weight"], second["a.weight"]) == (name != "brsf")
    torch.testing.assert_close(first["c.weight"], own.error.T @ own.pres[2] / own.rows)
    if name == "brsf":
        assert not group.learner.feedback
        return
    magnitudes = {
        layer: torch.tensor(0.3)
        if name == "usf"
        else group.learner.feedback[f"frsf.B.{layer}.weight.1"].abs()
        for layer in "bc"
    }
    error = own.error
    for layer, slope in (("c", own.slopes[1]), ("b", own.slopes[0])):
        error = (error @ (magnitudes[layer] * own.state[f"{layer}.weight"].sign())) * slope
    torch.testing.assert_close(first["a.weight"], error.T @ own.pres[0] / own.rows)


def test_node_perturbation_is_the_gradient_on_average(begun: Begun) -> None:
    """The mean of k directions; with 11 noisy units the relative error is about sqrt(11 / (40 k)): here 0.02."""
    group = begun(MLP.format(rule="node_perturbation(sigma = 0.001)"))
    exact = begun(MLP.format(rule="backprop_written"))
    wanted = torch.cat([v.flatten() for v in direction(exact).values()])
    total = torch.zeros_like(wanted)
    for _ in range(800):
        total += torch.cat([v.flatten() for v in direction(group).values()]) / 800
    assert torch.cosine_similarity(total, wanted, dim=0) > 0.99
    assert total.norm() == pytest.approx(wanted.norm().item(), rel=0.1)


def test_every_rule_of_the_library_is_tested() -> None:
    here = {
        "hebb",
        "oja",
        "backprop_written",
        "fa",
        "dfa",
        "sanger",
        "bcm",
        "delta",
        "perceptron",
        "usf",
        "brsf",
    }
    here |= {"deep", "equilibrium", "contrastive_hebbian"}  # in ../test_deep.py and ../test_equilibrium.py
    here |= {
        "frsf",
        "node_perturbation",
        "kolen_pollack",
        "sparse_dfa",
        "modular_dfa",
        "forward_forward",
        "predictive_coding",
        "difference_target_propagation",
    }
    assert {name for name, part in rules().items() if part == "rules"} == here


def test_predictive_coding(begun: Begun) -> None:
    """Values that descend the energy by hand, then the derivative of the energy by the weights."""
    group = begun(MLP.format(rule="predictive_coding(steps = 7, rate = 0.2)"))
    own, found = ByHand(group), direction(group)
    x1, x2 = (post.clone() for post in own.posts[:2])
    w = own.state
    label = torch.nn.functional.one_hot(own.label, 2)
    for _ in range(8):
        drives = [own.x @ w["a.weight"].T + w["a.bias"], x1 @ w["b.weight"].T + w["b.bias"]]
        errors = [x1 - torch.tanh(drives[0]), x2 - torch.relu(drives[1])]
        output = torch.softmax(x2 @ w["c.weight"].T + w["c.bias"], 1) - label
        last = (errors, drives, x1, x2, output)
        x1 = x1 - 0.2 * (errors[0] - (errors[1] * (drives[1] > 0)) @ w["b.weight"])
        x2 = x2 - 0.2 * (errors[1] + output @ w["c.weight"])
    errors, drives, x1, x2, output = last
    first = errors[0] * (1 - torch.tanh(drives[0]) ** 2)
    torch.testing.assert_close(found["a.weight"], -first.T @ own.x / own.rows)
    torch.testing.assert_close(found["b.weight"], -(errors[1] * (drives[1] > 0)).T @ x1 / own.rows)
    torch.testing.assert_close(found["c.weight"], output.T @ x2 / own.rows)
    torch.testing.assert_close(found["a.bias"], -first.mean(0))


def test_predictive_coding_is_near_the_gradient(begun: Begun) -> None:
    """With errors as small as one step in makes them, the direction is the gradient's in the layer that they reach."""
    found = direction(begun(MLP.format(rule="predictive_coding(steps = 1, rate = 0.01)")))
    exact = direction(begun(MLP.format(rule="backprop_written")))
    for layer in "bc":
        own, wanted = found[f"{layer}.weight"].flatten(), exact[f"{layer}.weight"].flatten()
        assert torch.cosine_similarity(own, wanted, dim=0) > 0.999
