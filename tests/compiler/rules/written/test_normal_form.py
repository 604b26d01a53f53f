"""The normal form: what separates is computed as matrix products, and what does not is refused or asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from by_hand import MLP, ByHand, direction
from torch.utils._python_dispatch import TorchDispatchMode

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

Begun = Callable[..., LearningGroup]

# One weight and every sample and unit of a layer with 7 sources and 11 targets, by index: what a rule must come to.
CASES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "post * pre": lambda x, y, d, w: y * x,
    "(post - drive / 2) * (pre + 1)": lambda x, y, d, w: (y - d / 2) * (x + 1),
    "post ^ 2 * weight": lambda x, y, d, w: y**2 * w,
    "pre * weight ^ 3 / 2": lambda x, y, d, w: x * w**3 / 2,
    "0.1 * weight": lambda x, y, d, w: 0.1 * w + 0 * x * y,
    "tanh(post + drive) * abs(pre) * sign(weight)": lambda x, y, d, w: torch.tanh(y + d) * x.abs() * w.sign(),
    "(post - post * weight) * (pre - weight)": lambda x, y, d, w: (y - y * w) * (x - w),
    "where(drive > 0, post, 0.5) * pre": lambda x, y, d, w: torch.where(d > 0, y, 0.5) * x,
    "(drive > 0) * pre - post": lambda x, y, d, w: (d > 0) * x - y + 0 * x,
    "sum(post) * post * pre": lambda x, y, d, w: y.sum(1, keepdim=True) * y * x,
    "mean(pre ^ 2) * pre": lambda x, y, d, w: (x**2).mean(2, keepdim=True) * x + 0 * y,
    "(post - average(post)) * (pre - average(pre))": lambda x, y, d, w: (y - y.mean(0)) * (x - x.mean(0)),
    "incoming(pre ^ 2) * pre": lambda x, y, d, w: (x**2 * w).sum(2, keepdim=True) * x + 0 * y,
    "post * outgoing(post)": lambda x, y, d, w: y * (y * w).sum(1, keepdim=True),
    "running(post) * pre": lambda x, y, d, w: y.cumsum(1) * x,
    "post * running(drive * weight)": lambda x, y, d, w: y * (d * w).cumsum(1),
    "(post + pre) ^ 2": lambda x, y, d, w: (y + x) ** 2,
    "pre / (1 + pre ^ 2) / (2 + post ^ 2)": lambda x, y, d, w: x / (1 + x**2) / (2 + y**2),
    "dense(tanh(post * pre))": lambda x, y, d, w: torch.tanh(y * x),
    "2 * dense(abs(post - pre * weight)) * post": lambda x, y, d, w: 2 * (y - x * w).abs() * y,
    "where(sum(post) > average(post), post, 1) * pre": lambda x, y, d, w: (
        torch.where(y.sum(1, keepdim=True) > y.mean(0), y, 1.0) * x
    ),
    "loss * post * pre": lambda x, y, d, w: None,  # with the losses: below
}

ONE = """
rule own {{
  update weight += {equation}
}}
network n {{ input x: real[8, 8]
  flat = x -> flatten
  seven = flat[20..26]
  output y: real[11] = seven -> dense(11, bias = false) as d -> tanh }}
experiment e {{ network = n
  data = digits(train = 0.01, test = 0.9)
  loss = mean(y ^ 2)
  learn = own
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }}
"""


@pytest.mark.parametrize("equation", CASES)
def test_an_equation_is_the_mean_over_samples_of_itself(begun: Begun, equation: str) -> None:
    group = begun(ONE.format(equation=equation))
    (weight,) = (parameter.detach() for parameter in group.parameters)
    x = group.learner.plan.train.inputs[0].flatten(1)[:, None, 20:27]
    drive = (x * weight).sum(2, keepdim=True)
    post = torch.tanh(drive)
    wished = CASES[equation](x, post, drive, weight)
    if wished is None:
        wished = (post**2).mean(1, keepdim=True) * post * x
    found = direction(group)["d.weight"]
    torch.testing.assert_close(found, -wished.expand(len(x), 11, 7).mean(0))


@contextmanager
def largest_tensor() -> Generator[list[int]]:
    """Note the number of entries of the largest tensor that any operation makes."""
    found = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for item in made if isinstance(made, tuple | list) else (made,):
                if isinstance(item, torch.Tensor):
                    found[0] = max(found[0], item.numel())
            return made

    with Watch():
        yield found


@pytest.mark.parametrize(
    ("equation", "separates"),
    [
        ("post * (pre - post * weight)", True),
        ("post * pre - post * running(post * weight)", True),
        ("(post - average(post)) * tanh(pre) * sign(weight)", True),
        ("dense(post * pre)", False),
    ],
)
def test_no_tensor_of_samples_times_synapses(begun: Begun, equation: str, separates: bool) -> None:
    text = (
        ONE.format(equation=equation)
        .replace("= seven ->", "= flat ->")
        .replace("train = 0.01", "train = 0.05")
    )
    group = begun(text.replace("real[11]", "real[100]").replace("dense(11", "dense(100"))
    with largest_tensor() as found:
        direction(group)
    rows = group.learner.plan.train.rows
    assert (found[0] < rows * 100 * 64) == separates
    assert not separates or found[0] <= max(rows * 100, 100 * 64, 100 * 100)


@pytest.mark.parametrize(
    ("equation", "term"),
    [
        ("tanh(post * pre)", "tanh(post * pre)"),
        ("post * pre + sqrt(pre ^ 2 + post ^ 2)", "sqrt(pre^2 + post^2)"),
        ("tanh(weight * pre)", "tanh(weight * pre)"),
        ("1 / (post + pre)", "(post + pre) ^ (-1)"),
        ("(weight > loss) * pre", "(weight) > (loss)"),
    ],
)
def test_a_term_that_does_not_separate_is_refused_and_shown(equation: str, term: str) -> None:
    bag = Bag()
    check(
        Source("test.nnspec", MLP.format(rule="own") + f"rule own {{\n update weight += {equation}\n}}\n"),
        bag,
    )
    (error,) = bag
    assert error.code == "N0683" and term in str(error.message)


def test_shared_weights_sum_over_their_uses(begun: Begun) -> None:
    text = MLP.format(rule="hebb").replace(
        "output y: real[2] = x -> dense(5) as a -> tanh -> dense(4) as b -> relu -> dense(2) as c",
        "shared a = dense(2)\n  output y: real[2] = (x -> a -> tanh) -> a",
    )
    group = begun(text)
    state = {name: p.detach() for name, p in zip(group.names, group.parameters, strict=True)}
    x = group.learner.plan.train.inputs[0]
    h = torch.tanh(x @ state["a.weight"].T + state["a.bias"])
    y = h @ state["a.weight"].T + state["a.bias"]
    torch.testing.assert_close(direction(group)["a.weight"], -(h.T @ x + y.T @ h) / len(x))


def test_directions_are_pulled_back_through_constraints(begun: Begun) -> None:
    """w = f(v): the direction of v is that of w times f'(v), and entries that a mask removes have none."""
    text = MLP.format(rule="hebb").replace(
        "as c }", "as c\n constrain a.weight: squashed\n constrain b.weight: mask((i, j) => i == j) }"
    )
    group = begun("constraint squashed { w => tanh(w) }\n" + text)
    state = {name: p.detach() for name, p in zip(group.names, group.parameters, strict=True)}
    own = ByHand(
        group, {"a.weight": torch.tanh(state["a.weight"]), "b.weight": state["b.weight"] * torch.eye(4, 5)}
    )
    found = direction(group)
    wished = own.posts[0].T @ own.pres[0] / own.rows
    torch.testing.assert_close(found["a.weight"], -wished * (1 - torch.tanh(state["a.weight"]) ** 2))
    wished = own.posts[1].T @ own.pres[1] / own.rows
    torch.testing.assert_close(found["b.weight"], -wished * torch.eye(4, 5))
