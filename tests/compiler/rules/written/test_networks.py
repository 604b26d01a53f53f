"""Rules in networks with several outputs, with layers that have losses and buffers of their own, and with states."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from by_hand import direction, gradient
from torch.nn import functional

from nnspec.compiler.runtime.group import LearningGroup

Begun = Callable[..., LearningGroup]

EXPERIMENT = """
experiment e {{ network = n
  data = moons(samples = 40)
  loss = {loss}
  learn = {rule}
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""

TWO = """
network n { input x: real[2]
  h = x -> dense(5) as a -> tanh
  output left: real[2] = h -> dense(2) as b
  output right: real[3] = h -> dense(3) as c }
"""
BOTH = "cross_entropy(left, label) + 0.5 * mean(right ^ 2)"


@pytest.mark.parametrize("rule", ["backprop_written", "direct(scale = 0)"])
def test_several_outputs_each_hear_their_own_error(begun: Begun, rule: str) -> None:
    """At a synapse that gives an output, `output.error` is that output's; with no feedback, nothing reaches the hidden ones."""
    own = """rule direct(scale: real = 1.0) {
      feedback B: output -> post = normal(std = scale)
      error = B(output.error) * post.derivative
      update weight -= error * pre
      update bias -= error }
    """
    group = begun(own + TWO + EXPERIMENT.format(rule=rule, loss=BOTH))
    found, exact = direction(group), gradient(group)
    for name, value in exact.items():
        hidden = name.startswith("a.") and rule != "backprop_written"
        torch.testing.assert_close(found[name], torch.zeros_like(value) if hidden else value)


def test_feedback_of_several_outputs_carries_them_end_to_end(begun: Begun) -> None:
    group = begun(TWO + EXPERIMENT.format(rule="dfa(scale = 0.5)", loss=BOTH))
    state = {name: p.detach() for name, p in zip(group.names, group.parameters, strict=True)}
    batch = group.learner.plan.train
    x = batch.inputs[0]
    h = torch.tanh(x @ state["a.weight"].T + state["a.bias"])
    left = h @ state["b.weight"].T + state["b.bias"]
    right = h @ state["c.weight"].T + state["c.bias"]
    errors = torch.cat(
        [functional.softmax(left, -1) - functional.one_hot(batch.target, 2), 0.5 * 2 * right / 3], 1
    )
    found = direction(group)
    (feedback,) = group.learner.feedback.values()
    assert feedback.shape == (5, 5)
    error = errors @ feedback.T * (1 - h**2)
    torch.testing.assert_close(found["a.weight"], error.T @ x / batch.rows)
    torch.testing.assert_close(found["c.weight"], errors[:, 2:].T @ h / batch.rows)


def test_what_a_loss_reads_inside_changes_nothing_of_post(begun: Begun) -> None:
    """A loss or a metric that names a value in the middle of a layer leaves `post` behind its activation."""
    text = """network n { input x: real[2]
      drive = x -> dense(5) as a
      output y: real[2] = drive -> tanh -> dense(2) as b }
    """
    plain = begun(text + EXPERIMENT.format(rule="hebb", loss="cross_entropy(y, label)"))
    reading = begun(
        text + EXPERIMENT.format(rule="hebb", loss="cross_entropy(y, label) + 0 * mean(drive ^ 2)")
    )
    for own, other in zip(direction(plain).values(), direction(reading).values(), strict=True):
        torch.testing.assert_close(own, other)


CHARGED = """
layer charged(rate: real = 0.2) {
  input x: real[width]
  buffer centre: real[width] = zeros
  update centre = (1 - rate) * centre + rate * x
  z = (x - centre) -> dense(4) as inner
  penalty size = 0.3 * mean(z ^ 2)
  output y = z -> tanh }
network n { input x: real[2]
  output y: real[2] = x -> dense(5) as a -> tanh -> batchnorm(affine = false) -> charged as c -> dropout(0.3) -> dense(2) as b }
"""


def seed() -> None:
    """Let the next draws be the same."""
    torch.manual_seed(3)


def charged(rule: str, loss: str = "cross_entropy") -> str:
    """A layer with a buffer and a penalty of its own, behind running statistics and before a draw."""
    return CHARGED + EXPERIMENT.format(rule=rule, loss=loss)


def test_penalties_of_layers_are_followed_with_their_exact_gradient(begun: Begun) -> None:
    """As an equation backprop is then the whole gradient; Hebb is what it was, and the gradient of the penalty."""
    written, exact = begun(charged("backprop_written")), begun(charged("backprop"))
    seed()
    found = direction(written)
    seed()
    for name, value in gradient(exact).items():
        torch.testing.assert_close(found[name], value)
    hebb = begun(charged("hebb"))
    free = begun(charged("hebb").replace("0.3 * mean", "0 * mean"))
    by_penalty = begun(charged("backprop", "0 * cross_entropy(y, label)"))
    seed()
    own = direction(hebb)
    seed()
    plain = direction(free)
    seed()
    for name, value in gradient(by_penalty).items():
        torch.testing.assert_close(own[name] - plain[name], value)
    assert own["c.inner.weight"].sub(plain["c.inner.weight"]).abs().max() > 1e-3
    assert "c.size" in written.learner.layer_penalties.means()


def test_buffers_of_layers_move_as_those_of_the_module(begun: Begun) -> None:
    text = (
        charged("two_phases")
        + """rule two_phases {
      phase first = forward
      phase second = forward(noise = 0.1)
      update weight += first.post * second.pre
      update rest -= first.rest.error }
    """
    )
    ours, theirs = begun(text), begun(text)
    for _ in range(3):
        direction(ours)
        theirs.network(*theirs.learner.plan.train.inputs)
    pairs = zip(ours.network.named_buffers(), theirs.network.named_buffers(), strict=True)
    for (name, mine), (_, other) in pairs:
        torch.testing.assert_close(mine, other, msg=name)
    assert dict(ours.network.named_buffers())["c.centre"].abs().max() > 0


NEURONS = """
use library.dynamics
network n { input x: real[2]
  state h: real[6]
  state o: real[2]
  connect x -> h as feed
  connect h <-> o as out
  connect h -> h as rec except self
  dynamics rate(tanh, solve = fixed_point(steps = 400, tolerance = 1e-14))
  output y = o }
"""


def settled(group: LearningGroup) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    """The weights in force, the input and the states at rest, by hand."""
    state = {name: p.detach() for name, p in zip(group.names, group.parameters, strict=True)}
    state["rec.weight"] = state["rec.weight"] * (1 - torch.eye(6, dtype=torch.double))
    x = group.learner.plan.train.inputs[0]
    h, o = x.new_zeros(len(x), 6), x.new_zeros(len(x), 2)
    for _ in range(400):
        drive = x @ state["feed.weight"].T + o @ state["out.weight"] + h @ state["rec.weight"].T
        above = h @ state["out.weight"].T
        h, o = torch.tanh(drive + state["h.bias"]), torch.tanh(above + state["o.bias"])
    return state, x, h, o


def test_rules_of_pre_and_post_read_what_states_settle_to(begun: Begun) -> None:
    """A weight that is used both ways has two uses, and each of them learns; Hebb wishes the same of both."""
    text = NEURONS + EXPERIMENT.format(rule="{rule}", loss="cross_entropy")
    hebb, oja = (begun(text.replace("{rule}", rule)) for rule in ("hebb", "oja"))
    state, x, h, o = settled(hebb)
    outer = {"feed.weight": h.T @ x, "out.weight": o.T @ h, "rec.weight": h.T @ h * (1 - torch.eye(6))}
    found = direction(hebb)
    for name, value in outer.items():
        torch.testing.assert_close(found[name], -value / len(x))
    shrink = {
        name: (post**2).sum(0)[:, None] * state[name]
        for name, post in (("feed.weight", h), ("out.weight", o), ("rec.weight", h))
    }
    both = 2 * outer["out.weight"] - shrink["out.weight"] - (h**2).sum(0) * state["out.weight"]
    found = direction(oja)
    for name in ("feed.weight", "rec.weight"):
        torch.testing.assert_close(found[name], -(outer[name] - shrink[name]) / len(x))
    torch.testing.assert_close(found["out.weight"], -both / len(x))


def test_running_sums_along_the_units_of_each_end(begun: Begun) -> None:
    group = begun(NEURONS + EXPERIMENT.format(rule="sanger", loss="cross_entropy"))
    state, x, h, o = settled(group)
    w = state["out.weight"]
    there = o.T @ h - (o.T @ o).tril() @ w
    back = h.T @ o - (h.T @ h).tril() @ w.T
    torch.testing.assert_close(direction(group)["out.weight"], -(there + back.T) / len(x))
