"""Why states did not settle: the spectral radius beside that of the whole Jacobian, and the advice for each case."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import nnspec
from nnspec.compiler.checks.loops import loops
from nnspec.compiler.checks.motion import Motion, settled
from nnspec.compiler.checks.motions import motions_of
from nnspec.compiler.checks.spectra import jacobian, spectrum
from nnspec.compiler.checks.unsettled import Reason, Settling, reason, ritz_values
from nnspec.compiler.emit.load import initial_state
from nnspec.compiler.ir import Graph

SPEC = """
use library.dynamics
network net {
  input  x: real[4]
  state  h: real[5]
  state  o: real[3]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec
  dynamics WORDS
  output y = o
}
"""
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def begun(words: str, gain: float) -> tuple[Graph, dict[str, torch.Tensor]]:
    """A network whose recurrent weights are a symmetric matrix with the largest eigenvalue `gain` in size, and its sign."""
    graph = nnspec.load(SPEC.replace("WORDS", words)).network().graph
    state = dict(initial_state(graph, 0))
    drawn = torch.randn(8, 8, generator=torch.Generator().manual_seed(2))
    square = drawn @ drawn.T
    linear: Any = torch.linalg
    state["rec.weight"] = gain * square / linear.eigvalsh(square).max()
    return graph, state


def look(words: str, gain: float, steps: int, tolerance: float = 1e-6) -> Reason | None:
    graph, state = begun(words, gain)
    return reason(graph, state, (X,), Settling(steps, tolerance))


@pytest.mark.parametrize(
    ("words", "gain", "steps", "said"),
    [
        ("rate(tanh)", 0.9, 8, "take more steps: "),
        ("rate(tanh)", -6.0, 40, "take `damping = 0.25`, with which "),
        ("leaky(tanh, solve = euler(dt = 0.05))", 0.3, 60, "; or `dt = 0.2`"),
        ("leaky(identity, solve = euler(dt = 2.5))", 0.2, 20, "take `dt = 1.2`"),
        (
            "leaky(identity, solve = euler(dt = 0.2))",
            1.4,
            20,
            "no `dt` from 0.02 to 0.8 brought them to rest in 200 steps",
        ),
        ("leaky(hard_sigmoid, solve = euler(dt = 0.2))", 3.0, 200, "bound the states with `clip`"),
        ("rate(tanh, solve = anderson)", 0.9, 3, "more `steps` or a larger `memory`"),
    ],
)
def test_the_advice_is_that_for_the_case(words: str, gain: float, steps: int, said: str) -> None:
    found = look(words, gain, steps)
    assert found is not None and said in found.advice, found


def test_what_settles_has_no_reason() -> None:
    assert look("rate(tanh)", 0.3, 60) is None


@pytest.mark.parametrize(
    ("words", "gain"),
    [
        ("rate(tanh)", -2.0),
        ("leaky(tanh, solve = euler(dt = 0.3))", 0.8),
        ("rate(tanh, clip = [-0.3, 0.3])", 0.9),
    ],
)
def test_the_radius_is_that_of_the_whole_jacobian(words: str, gain: float) -> None:
    graph, state = begun(words, gain)
    (placed,) = loops(graph)
    motion = motions_of(graph, placed, state, (X.double(),))(torch.arange(3))
    states, _ = settled(motion, motion.start, 12, 0.0)
    found = (1 + motion.stride * ritz_values(motion, states)).abs().amax(1)
    free = motion.free(states)
    for row, slopes in enumerate(jacobian(motion, states)):
        inner = slopes[free[row]][:, free[row]]
        expected = max(spectrum(inner, motion.form, motion.stride).step_radius, 1 - motion.stride)
        assert float(found[row]) == pytest.approx(expected, rel=1e-6)


def test_the_steps_that_are_advised_are_enough() -> None:
    graph, state = begun("rate(tanh)", 0.9)
    found = reason(graph, state, (X,), Settling(30, 1e-6))
    assert found is not None
    steps = int(found.advice.split("take more steps: ")[1].split()[0])
    (placed,) = loops(graph)
    motion: Motion = motions_of(graph, placed, state, (X.double(),))(torch.arange(3))
    assert float(settled(motion, motion.start, steps, 0.0)[1].max()) < 1e-6
    assert float(settled(motion, motion.start, steps - 20, 0.0)[1].max()) > 1e-6
