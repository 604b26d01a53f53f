"""Directions of rules written as equations, against autograd and against the same rule by hand in torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import MLP, ByHand, direction, gradient

from nnspec.compiler.runtime.group import LearningGroup

Begun = Callable[..., LearningGroup]

# A residual convolutional network with binary weights, a shared block, batch normalisation and a learned activation.
BINARY = """
activation bent(learn slope: real = 0.25) { x => where(x > 0, x, slope * x) }
layer block(width: int) {
  input x: real[width, h, w]
  inner = x -> conv2d(width, kernel = 3, padding = 1) -> batchnorm -> bent
  output y = x + (inner -> conv2d(width, kernel = 3, padding = 1, groups = 2))
}
network n {
  input x: real[8, 8]
  shared mix = conv2d(4, kernel = 1, bias = false)
  h = x -> reshape([1, 8, 8]) -> conv2d(4, kernel = 3, padding = 1) as stem -> tanh -> repeat(2) { block(4) }
  g = (h -> mix -> tanh) -> mix
  output y: real[10] = g -> flatten -> dense(10) as head
  constrain every conv2d.weight: binary
}
experiment e { network = n
  data = digits(test = 0.9)
  loss = cross_entropy
  learn = backprop_written
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }
"""


@pytest.mark.parametrize(
    "text", [MLP.format(rule="backprop_written"), BINARY], ids=["mlp", "binary residual conv"]
)
def test_backprop_as_an_equation_is_the_gradient(begun: Begun, text: str) -> None:
    group = begun(text)
    found, exact = direction(group), gradient(group)
    for name, own in exact.items():
        torch.testing.assert_close(found[name], own, rtol=1e-9, atol=1e-12)
    both = [torch.cat([v.flatten() for v in each.values()]) for each in (found, exact)]
    assert torch.cosine_similarity(*both, dim=0) > 1 - 1e-12


def test_running_statistics_move_as_those_of_the_module(begun: Begun) -> None:
    ours, theirs = begun(BINARY), begun(BINARY)
    direction(ours)
    theirs.mean_loss(theirs.learner.plan.train)
    for (name, mine), (_, other) in zip(
        ours.network.named_buffers(), theirs.network.named_buffers(), strict=True
    ):
        if "running" in name:
            torch.testing.assert_close(mine, other)


def test_hebb_and_oja(begun: Begun) -> None:
    hebb, oja = begun(MLP.format(rule="hebb")), begun(MLP.format(rule="oja"))
    own = ByHand(hebb)
    found, decayed = direction(hebb), direction(oja)
    for layer, pre, post in zip("abc", own.pres, own.posts, strict=True):
        every = torch.einsum("no,ni->noi", post, pre)
        torch.testing.assert_close(found[f"{layer}.weight"], -every.mean(0))
        shrink = post.square()[:, :, None] * own.state[f"{layer}.weight"]
        torch.testing.assert_close(decayed[f"{layer}.weight"], -(every - shrink).mean(0))
        assert not found[f"{layer}.bias"].any()


def test_feedback_alignment(begun: Begun) -> None:
    group = begun(MLP.format(rule="fa"))
    own, found = ByHand(group), direction(group)
    kept = group.learner.feedback
    feedback = {layer: kept[f"fa.B.{layer}.weight.1"] for layer in "bc"}  # nothing goes back into the input
    errors = [own.error]
    for layer, slope in (("c", own.slopes[1]), ("b", own.slopes[0])):
        errors.insert(0, (errors[0] @ feedback[layer]) * slope)
    for layer, pre, error in zip("abc", own.pres, errors, strict=True):
        torch.testing.assert_close(found[f"{layer}.weight"], error.T @ pre / own.rows)
        torch.testing.assert_close(found[f"{layer}.bias"], error.mean(0))


def test_direct_feedback_alignment(begun: Begun) -> None:
    group = begun(MLP.format(rule="dfa(scale = 0.5)"))
    own, found = ByHand(group), direction(group)
    kept = group.learner.feedback
    assert set(kept) == {"dfa.B.a#0.1", "dfa.B.b#1.1"}  # the last layer hears the error as it is
    errors = [
        own.error @ kept["dfa.B.a#0.1"].T * own.slopes[0],
        own.error @ kept["dfa.B.b#1.1"].T * own.slopes[1],
        own.error,
    ]
    for layer, pre, error in zip("abc", own.pres, errors, strict=True):
        torch.testing.assert_close(found[f"{layer}.weight"], error.T @ pre / own.rows)


def test_feedback_is_the_same_for_a_seed_and_another_for_another(begun: Begun) -> None:
    text = MLP.format(rule="fa")
    first, again, other = begun(text), begun(text), begun(text, seed=1)
    for group in (first, again, other):
        direction(group)
    same = [
        torch.equal(a, b)
        for a, b in zip(first.learner.feedback.values(), again.learner.feedback.values(), strict=True)
    ]
    apart = [
        torch.equal(a, b)
        for a, b in zip(first.learner.feedback.values(), other.learner.feedback.values(), strict=True)
    ]
    assert all(same) and not any(apart)
