"""Feedback: learned, sparse, of modules, through layers; two forward passes; and what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import MLP, ByHand, direction, gradient
from torch.nn import functional

from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.learner import Learner

Begun = Callable[..., LearningGroup]

CONV = """
rule through_layers {{
  feedback B: module -> post via conv2d(kernel = 3, padding = "same", dilation = 2, groups = 2) = normal(std = 0.2)
  error = B(module.error) * post.derivative
  update weight -= error * pre
  update bias -= error
}}
layer features {{
  input x: real[1, 8, 8]
  output y = x -> conv2d(4, kernel = 3, padding = 1) as one -> tanh -> conv2d(6, kernel = 3, padding = 1) as two -> tanh
}}
network n {{ input x: real[8, 8]
  output y: real[10] = x -> reshape([1, 8, 8]) -> features -> flatten -> dense(10) as head }}
experiment e {{ network = n
  data = digits(train = 0.02, test = 0.9)
  loss = cross_entropy
  learn = {rule}
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""


def test_learned_feedback_steps_with_the_weights_and_becomes_their_transpose(begun: Begun) -> None:
    """Kolen and Pollack: W - B shrinks by 1 - lr * decay at every step, whatever the errors are."""
    group = begun(MLP.format(rule="kolen_pollack(decay = 0.5)"))
    own, found = ByHand(group), direction(group)
    feedback = group.learner.feedback["kolen_pollack.B.b.weight.learned"]
    error = (own.error @ group.learner.feedback["kolen_pollack.B.c.weight.learned"]) * own.slopes[1]
    wished = error.T @ own.pres[1] / own.rows
    torch.testing.assert_close(found["b.weight"], wished + 0.5 * own.state["b.weight"])
    torch.testing.assert_close(feedback.grad, wished + 0.5 * feedback)
    weight = dict(zip(group.names, group.parameters, strict=True))["b.weight"]
    before = (weight - feedback).detach().clone()
    for _ in range(3):
        group.rule.step(group, group.learner.plan.train, group.learner.streams)
    torch.testing.assert_close((weight - feedback).detach(), before * 0.95**3)


def test_sparse_feedback_keeps_a_share(begun: Begun) -> None:
    group = begun(MLP.format(rule="sparse_dfa(density = 0.4)").replace("dense(5)", "dense(500)"))
    direction(group)
    drawn = group.learner.feedback
    kept = drawn["sparse_dfa.B.a#0.2"] < 0.4
    assert kept.shape == (500, 2) and 0.35 < kept.double().mean() < 0.45
    state = dict(zip(group.names, group.parameters, strict=True))
    x = group.learner.plan.train.inputs[0]
    with torch.no_grad():
        slope = 1 - torch.tanh(x @ state["a.weight"].T + state["a.bias"]) ** 2
        error = functional.softmax(group.network(*group.learner.plan.train.inputs), -1)
        error -= functional.one_hot(group.learner.plan.train.target, 2)
        own = (error @ (drawn["sparse_dfa.B.a#0.1"] * kept).T) * slope
    torch.testing.assert_close(direction(group)["a.weight"], own.T @ x / len(x))


@pytest.mark.parametrize("rule", ["modular_dfa", "through_layers"])
def test_modules_hear_the_exact_error_at_their_end(begun: Begun, rule: str) -> None:
    """The last layer of a module, and one by itself, learn exactly; those inside hear that error through feedback."""
    group = begun(CONV.format(rule=rule))
    found, exact = direction(group), gradient(group)
    for layer in ("head", "features.two"):
        torch.testing.assert_close(found[f"{layer}.weight"], exact[f"{layer}.weight"])
        torch.testing.assert_close(found[f"{layer}.bias"], exact[f"{layer}.bias"])
    state = {name: p.detach() for name, p in zip(group.names, group.parameters, strict=True)}
    batch = group.learner.plan.train
    x = batch.inputs[0].unsqueeze(1)
    one = torch.tanh(
        functional.conv2d(x, state["features.one.weight"], state["features.one.bias"], padding=1)
    )
    two = torch.tanh(
        functional.conv2d(one, state["features.two.weight"], state["features.two.bias"], padding=1)
    )
    two.requires_grad_()
    drive = two.flatten(1) @ state["head.weight"].T + state["head.bias"]
    (error,) = torch.autograd.grad(functional.cross_entropy(drive, batch.target, reduction="sum"), two)
    (feedback,) = group.learner.feedback.values()
    if rule == "modular_dfa":
        sent = (error.flatten(1) @ feedback.T).view_as(one)
    else:
        assert feedback.shape == (4, 3, 3, 3)
        sent = functional.conv2d(error, feedback, padding="same", dilation=2, groups=2)
    wanted = torch.nn.grad.conv2d_weight(x, (4, 1, 3, 3), sent * (1 - one**2), padding=1) / batch.rows
    torch.testing.assert_close(found["features.one.weight"], wanted)
    torch.testing.assert_close(found["features.one.bias"], (sent * (1 - one**2)).sum((0, 2, 3)) / batch.rows)


def test_forward_forward_descends_the_loss_of_each_layer(begun: Begun) -> None:
    text = MLP.format(rule='forward_forward(threshold = 0.3, shuffled = "x")')
    group = begun(text)
    other = begun(text)
    found = direction(group)
    order = other.learner.streams.permutation("shuffle of inputs", 32)
    x = other.learner.plan.train.inputs[0]
    false = x.clone()
    false[order] = x[order.roll(1)]
    assert not (false == x).all(1).any()
    state = dict(zip(other.names, other.parameters, strict=True))
    true_value, false_value = x, false
    for layer, act in (("a", torch.tanh), ("b", torch.relu), ("c", lambda v: v)):
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        true_value = act(true_value.detach() @ weight.T + bias)
        false_value = act(false_value.detach() @ weight.T + bias)
        loss = functional.softplus(0.3 - true_value.square().mean(1))
        loss = (loss + functional.softplus(false_value.square().mean(1) - 0.3)).mean()
        size = weight.shape[0] / 2  # the rule leaves out the 2 / n of the mean square's derivative
        for key, wanted in zip(("weight", "bias"), torch.autograd.grad(loss, (weight, bias)), strict=True):
            torch.testing.assert_close(found[f"{layer}.{key}"], wanted * size)


def test_a_checkpoint_keeps_feedback(begun: Begun) -> None:
    """A learner that goes on from a snapshot has the feedback of the one that was captured, learned parts too."""
    group = begun(MLP.format(rule="kolen_pollack").replace("sgd(lr = 0.1)", "adam(lr = 0.1)"))
    learner = group.learner
    for _ in range(2):
        group.rule.step(group, learner.plan.train, learner.streams)
    snapshot = learner.capture()
    other = Learner(learner.plan, learner.plan.trials[0])
    other.restore(snapshot)
    for each in (learner.groups[0], other.groups[0]):
        each.network.train()
        each.rule.step(each, learner.plan.train, each.learner.streams)
    for name, tensor in learner.feedback.items():
        assert torch.equal(tensor, other.feedback[name])
    for mine, theirs in zip(group.parameters, other.groups[0].parameters, strict=True):
        assert torch.equal(mine, theirs)


def test_targets_come_back_through_learned_inverses(begun: Begun) -> None:
    group = begun(MLP.format(rule="difference_target_propagation(noise = 0.001)"))
    own, found = ByHand(group), direction(group)
    inverse = {
        layer: group.learner.feedback[f"difference_target_propagation.G.{layer}.weight.learned"]
        for layer in "abc"
    }
    errors = [own.error]
    for layer in "cb":  # the activation is not on the way back
        errors.insert(0, errors[0] @ inverse[layer].detach())
    for layer, pre, error, slope in zip("abc", own.pres, errors, own.slopes, strict=True):
        torch.testing.assert_close(found[f"{layer}.weight"], (error * slope).T @ pre / own.rows)
    for layer, pre, post in zip("abc", own.pres, own.posts, strict=True):
        gradient_ = inverse[layer].grad
        assert gradient_ is not None
        wished = post.T @ (pre - post @ inverse[layer].detach()) / own.rows
        torch.testing.assert_close(gradient_, -wished, rtol=0.05, atol=0.005)  # up to the noise


def test_inverses_restore_what_comes_in(begun: Begun) -> None:
    """The learned inverse of a layer that loses nothing: post G is pre again."""
    text = MLP.format(rule="difference_target_propagation(noise = 0.05)")
    group = begun(
        text.replace("-> tanh -> dense(4) as b -> relu ", "").replace("sgd(lr = 0.1)", "adam(lr = 0.01)")
    )
    for _ in range(500):
        group.rule.step(group, group.learner.plan.train, group.learner.streams)
    weight = dict(zip(group.names, group.parameters, strict=True))
    x = group.learner.plan.train.inputs[0]
    centred = x - x.mean(0)
    inverse = group.learner.feedback["difference_target_propagation.G.a.weight.learned"].detach()
    restored = centred @ weight["a.weight"].detach().T @ inverse
    assert (restored - centred).square().mean() < 0.2 * centred.square().mean()
