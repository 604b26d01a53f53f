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


def test_what_settles_is_not_mentioned(tmp_path: Path) -> None:
    assert not trained(tmp_path, "0.1", ", solve = anderson").doubts


def test_other_warnings_are_shown() -> None:
    with pytest.warns(RuntimeWarning, match="something else"), Unsettled().watching():
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
