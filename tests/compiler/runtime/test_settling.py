"""Training says once, in the end, that states or their gradients did not settle."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import nnspec
from nnspec.compiler.runtime.settling import Unsettled

SPEC = """
network deq {
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> equilibrium((z, x) => tanh(SIZE * z + x), shape = [64]WORDS) -> dense(10)
}
experiment e {
  network   = deq
  data      = digits(train = 0.05, test = 0.1)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.003)
  epochs    = 1
}
"""


def trained(folder: Path, size: str, words: str = "") -> Any:
    text = SPEC.replace("SIZE", size).replace("WORDS", words)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # none is left to the terminal
        return nnspec.load(text).experiment().train(out=folder)


def test_states_and_gradients_that_do_not_settle_are_told(tmp_path: Path) -> None:
    result = trained(tmp_path, "0.95", ", solve = fixed_point(steps = 3)")
    assert [error.code for error in result.doubts] == ["N0720", "N0721"]
    states, gradients = (str(error.message) for error in result.doubts)
    assert "seed 0" in states and "1e-06 after 3 steps" in states
    assert "1e-06 after 50 steps" in gradients
    again = nnspec.load(SPEC.replace("SIZE", "0.95").replace("WORDS", ", solve = fixed_point(steps = 3)"))
    kept = again.experiment().train(out=tmp_path, resume=True)
    assert [str(error.message) for error in kept.doubts] == [states, gradients]


RULE = """
use library.dynamics
network neurons {
  input x: real[2]
  state h: real[4]
  state o: real[1]
  connect x -> h as feed
  connect h <-> o as rec
  dynamics rate(tanh, solve = fixed_point(steps = 60, tolerance = 0.0001))
  output y = o
  initialize rec.weight: normal(std = 0.6)
}
experiment e {
  network   = neurons
  data      = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
  loss      = mean_squared_error
  learn     = equilibrium(free_steps = STEPS)
  optimizer = sgd(lr = 0.001)
  epochs    = 3
  batch     = none
}
"""


def test_free_phases_that_do_not_settle_are_told_with_what_would_help(tmp_path: Path) -> None:
    (doubt,) = nnspec.load(RULE.replace("STEPS", "3")).experiment().train(out=tmp_path).doubts
    assert doubt.code == "N0720" and doubt.help is not None
    assert "seed 0: 3 times the states of `free` were not settled to 0.001 after 3 steps" in doubt.message
    assert "a step has a spectral radius of 0." in doubt.message
    steps = int(doubt.help.split("take more steps: ")[1].split()[0])
    assert 3 < steps < 60
    assert not nnspec.load(RULE.replace("STEPS", str(steps + 10))).experiment().train(out=tmp_path).doubts


def test_nudged_phases_that_do_not_settle_are_told(tmp_path: Path) -> None:
    text = RULE.replace(
        "free_steps = STEPS", "free_steps = 60, beta = 20"
    )  # beta times the slope is above 1: a cycle
    (doubt,) = nnspec.load(text).experiment().train(out=tmp_path).doubts
    assert doubt.code == "N0720" and doubt.help is not None and "take a smaller nudge" in doubt.help
    assert (
        "the states of `nudged` were not settled to 0.1 of the way that the nudge moved them" in doubt.message
    )


def test_phases_that_do_not_settle_are_told_in_one_warning(tmp_path: Path) -> None:
    text = RULE.replace("free_steps = STEPS", "free_steps = 3, beta = 20").replace("steps = 60", "steps = 4")
    (doubt,) = nnspec.load(text).experiment().train(out=tmp_path).doubts
    at = [doubt.message.index(part) for part in ("network's own", "states of `free`", "states of `nudged`")]
    assert at == sorted(at) and doubt.message.count("seed 0") == 1
    assert "smaller nudge" in (doubt.help or "") and "take more steps" in (doubt.help or "")


def test_what_settles_is_not_mentioned(tmp_path: Path) -> None:
    assert not trained(tmp_path, "0.1", ", solve = anderson").doubts


def test_other_warnings_are_shown() -> None:
    with pytest.warns(RuntimeWarning, match="something else"), Unsettled().watching():
        warnings.warn("something else", RuntimeWarning, stacklevel=1)


SEEDS = """
network deq {
  input  x: real[2]
  z = x -> dense(6) -> equilibrium((z, x) => tanh((z -> dense(6, bias = false)) + x), shape = [6]WORDS)
  output y: real[1] = z -> dense(1)
  initialize every dense.weight: normal(std = 0.3)
}
experiment e {
  network   = deq
  data      = xor(samples = 32, test = 0.0)
  loss      = binary_cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.01)
  batch     = 8
  epochs    = 4
  seeds     = 0..2
}
"""


@pytest.mark.parametrize(
    ("words", "together"),
    [
        ("", True),
        (", solve = anderson", False),
        (", solve = broyden(steps = 20), gradient = phantom(3)", True),
    ],
)
def test_seeds_at_once_are_seeds_alone(tmp_path: Path, words: str, together: bool) -> None:
    from nnspec.compiler.emit.loops import alike_in_both_forms

    text = SEEDS.replace("WORDS", words)
    assert alike_in_both_forms(nnspec.load(text).network().graph) is together
    company = nnspec.load(text).experiment().train(out=tmp_path)
    alone = nnspec.load(text.replace("0..2", "1")).experiment().train(out=tmp_path)
    assert company.seeds[1].metrics["loss"] == pytest.approx(alone.seeds[0].metrics["loss"], rel=1e-5)
