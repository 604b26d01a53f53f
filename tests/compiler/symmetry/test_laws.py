"""Conserved quantities: the known counts, laws that hold along gradients, and drift in proportion to the rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from symmetric_nets import NETS, net

from nnspec.compiler.emit.load import function
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.conserved import drifts
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.symmetry.draws import idealised, random_inputs, random_state
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.laws import conserved, independent
from nnspec.compiler.tensors import learned_keys
from nnspec.spec import load

Build = Callable[..., Graph]


def counted(graph: Graph) -> tuple[int, int]:
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    laws = conserved(group, state)
    return sum(len(law.values(state)) for law in laws), independent(laws, state, list(learned_keys(graph)))


def marcotte(m: int, r: int, n: int) -> int:
    """Independent laws of a product U V' of m x r and r x n (arXiv 2307.00144, Proposition 4.2)."""
    if n + m >= r:
        return r * (r + 1) // 2
    return (n + m) * (2 * r + 1 - (n + m)) // 2


def test_one_law_for_each_relu_unit(build: Build) -> None:
    graph = build(net("output y = x -> dense(5) -> relu -> dense(6) -> relu -> dense(3)"))
    assert counted(graph) == (11, 11)


@pytest.mark.parametrize(("n", "r", "m"), [(4, 3, 5), (4, 6, 3), (2, 5, 1), (3, 3, 3)])
def test_a_symmetric_matrix_for_each_linear_wire(build: Build, n: int, r: int, m: int) -> None:
    body = f"output y = x -> dense({r}, bias = false) -> dense({m}, bias = false)"
    laws, rank = counted(build(net(body, f"real[{n}]")))
    assert laws == r * (r + 1) // 2
    assert rank == marcotte(m, r, n)


def test_a_tanh_network_has_none(build: Build) -> None:
    assert counted(build(NETS["tanh"])) == (0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "relu",
        "linear",
        "residual",
        "twice",
        "batchnorm",
        "layernorm",
        "rmsnorm with gain",
        "heads",
        "convolution",
    ],
)
def test_laws_do_not_change_along_the_gradient(build: Build, name: str) -> None:
    """d/dt law = <grad law, -grad loss> = 0, for the loss of random targets, in training."""
    graph = idealised(build(NETS[name]))
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    laws = conserved(group, state)
    assert laws
    keys = list(learned_keys(graph))
    forward = function(graph)
    inputs = random_inputs(graph, 16, 0)
    learned = {key: state[key].clone().requires_grad_() for key in keys}
    outputs = forward({**state, **learned}, *inputs, training=True)
    loss = ((outputs - torch.randn_like(outputs)) ** 2).mean()
    slopes = dict(
        zip(keys, torch.autograd.grad(loss, list(learned.values()), allow_unused=True), strict=True)
    )
    steepness = sum(float(slope.norm()) ** 2 for slope in slopes.values() if slope is not None) ** 0.5
    for law in laws:
        values = law.values({**state, **learned})
        for value in values:
            own = torch.autograd.grad(value, list(learned.values()), retain_graph=True, allow_unused=True)
            pairs = [(a, slopes[k]) for a, k in zip(own, keys, strict=True)]
            change = sum(float((a * b).sum()) for a, b in pairs if a is not None and b is not None)
            size = sum(float(a.norm()) ** 2 for a, _ in pairs if a is not None) ** 0.5
            assert abs(change) <= 1e-11 * size * steepness, law.formula


SPEC = """
network small {{
  input  x: real[2]
  output y = x -> dense(6) -> relu -> dense(5) -> dense(2)
}}

experiment run {{
  network   = small
  data      = circles(samples = 100, noise = 0.1)
  loss      = cross_entropy
  learn     = backprop
  optimizer = {optimizer}
  epochs    = {epochs}
  batch     = none
}}
"""


def drift_of(optimizer: str, steps: int) -> dict[str, float]:
    """The largest drift of each wire over a training with the whole set in each step."""
    text = SPEC.format(optimizer=optimizer, epochs=steps)
    plan = prepare(load(text).experiment().fitted, Path())
    group = symmetry_group(plan.graph)
    laws = conserved(group, random_state(plan.graph, group, 0))
    found = drifts(plan, laws, steps, 0)
    assert found["steps"][-1] == steps
    return {name: own[-1] for name, own in found["laws"].items()}


def test_drift_is_in_proportion_to_the_learning_rate() -> None:
    coarse, fine = drift_of("sgd(lr = 0.01)", 100), drift_of("sgd(lr = 0.005)", 200)
    assert {name.split("(")[-1] for name in coarse} == {"scale)", "linear)"}
    for name, own in coarse.items():
        assert own > 1e-6
        assert own / fine[name] == pytest.approx(2, rel=0.05)


def test_adam_does_not_keep_the_laws() -> None:
    adam, sgd = drift_of("adam(lr = 0.02)", 100), drift_of("sgd(lr = 0.02)", 100)
    assert min(adam.values()) > 20 * max(sgd.values())
