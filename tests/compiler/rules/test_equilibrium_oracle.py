"""The equations themselves: what equilibrium propagation gives, by how it nudges and how symmetric the weights are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from equilibrium_oracle import Net, cosine, estimate, random_net, relative_error, symmetric_estimate

BETA = 0.1


def cases(asymmetry: float, gain: float = 0.4) -> Iterator[tuple[Net, Any, Any]]:
    for seed in range(5):
        net = random_net(seed, asymmetry, gain)
        draw = np.random.default_rng(100 + seed)
        yield net, draw.normal(size=(16, 8)), np.tanh(draw.normal(size=(16, 4)))


def scores(asymmetry: float, nudge: str, back: bool, beta: float = BETA) -> tuple[float, float]:
    """The mean cosine with the exact gradient, and the mean relative error, over five networks."""
    pairs = [(estimate(net, x, y, beta, nudge, back), net.exact(x, y)) for net, x, y in cases(asymmetry)]
    found = [(cosine(a, b), relative_error(a, b)) for a, b in pairs]
    return tuple(np.mean(found, axis=0))


def test_the_exact_gradient_is_that_of_differences() -> None:
    net, x, y = next(cases(1.0))
    exact = net.exact(x, y)

    def cost(W: Any) -> float:
        other = replace(net, W=W)
        return float((other.error(other.settle(x), y) ** 2).sum() / (2 * len(x)))

    for place in ((19, 3), (2, 17), (5, 5)):
        step = np.zeros_like(net.W)
        step[place] = 1e-5
        assert (cost(net.W + step) - cost(net.W - step)) / 2e-5 == pytest.approx(exact[place], rel=1e-6)


def test_one_neuron_climbs_to_its_target() -> None:
    """The sign: s = tanh(b) below its target needs a greater bias, so dC/d(drive) is negative."""
    net = Net(np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1), 1)
    x, y = np.full((1, 1), 0.2), np.full((1, 1), 0.9)
    rest = net.settle(x)
    assert net.nudged(x, y, rest, 0.1, False) > rest


@pytest.mark.parametrize("asymmetry", [0, 0.3, 0.7, 1.0])
def test_the_transposed_deviation_gives_the_gradient_at_any_asymmetry(asymmetry: float) -> None:
    one, centered, circle = (scores(asymmetry, way, True) for way in ("one_sided", "centered", "holomorphic"))
    assert one[0] > 0.997 and 0.02 < one[1] < 0.1
    assert centered[0] > 0.9999 and centered[1] < 0.015
    assert circle[1] < 1e-5


def test_without_it_the_bias_grows_with_asymmetry() -> None:
    plain = [scores(asymmetry, "centered", False)[0] for asymmetry in (0, 0.3, 0.7, 1.0)]
    assert plain == sorted(plain, reverse=True)
    assert plain[0] > 0.9999 and 0.88 < plain[-1] < 0.95
    assert scores(1.0, "centered", False, beta=0.01)[0] < 0.95  # no small nudge cures it


def test_orders_of_the_nudge() -> None:
    """The error is O(beta) on one side, O(beta^2) centered."""
    for way, order in (("one_sided", 1), ("centered", 2)):
        large, small = (scores(1.0, way, True, beta)[1] for beta in (0.1, 0.05))
        assert large / small == pytest.approx(2**order, rel=0.1)


def test_hidden_units_of_an_acyclic_graph_hear_nothing_but_by_the_way_back() -> None:
    net, x, y = next(cases(1.0))
    net = replace(net, W=np.tril(net.W, -1))
    exact, plain, back = net.exact(x, y), *(estimate(net, x, y, BETA, "centered", b) for b in (False, True))
    assert not plain[: -net.outputs].any() and exact[1 : -net.outputs].any()
    assert cosine(back, exact) > 0.999


def test_symmetric_weights_count_each_pair_once() -> None:
    net, x, y = next(cases(0.0))
    exact = net.exact(x, y)
    tied = exact + exact.T
    np.fill_diagonal(tied, 0)
    assert cosine(symmetric_estimate(net, x, y, 0.01), tied) > 0.99999
    assert relative_error(symmetric_estimate(net, x, y, 0.01), tied) < 1e-3
