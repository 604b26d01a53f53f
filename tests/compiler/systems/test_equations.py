"""What the equations of dynamics come to, against the same written by hand in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nnspec.compiler.emit.load import module
from nnspec.compiler.emit.system import system
from nnspec.compiler.ir import Graph

States = dict[str, Tensor]
RANDOM = torch.Generator


class Run:
    """A network with generic weights at generic states, and what its equation gives there."""

    def __init__(self, graph: Graph, *shape: int) -> None:
        random = RANDOM().manual_seed(1)
        net = module(graph).double()
        for parameter in net.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random, dtype=torch.float64) / 2
        self.x = torch.randn(6, *shape, generator=random, dtype=torch.float64)
        run = system(graph)
        weights = run.weights(net.state_dict())
        given = run.begin(weights, self.x)
        starts = run.start(given)
        drawn = tuple(torch.rand(s.shape, generator=random, dtype=torch.float64) * 1.4 - 0.2 for s in starts)
        self.states: States = dict(zip(run.states, drawn, strict=True))
        self.found: States = dict(zip(run.states, run.step(given, drawn), strict=True))
        self.w: dict[str, Tensor] = {name: value.detach() for name, value in weights.items()}

    def check(self, **expected: Tensor) -> None:
        assert set(expected) == set(self.found)
        for name, value in expected.items():
            torch.testing.assert_close(self.found[name], value, rtol=1e-12, atol=1e-12)


def cat(states: States, *names: str) -> Tensor:
    return torch.cat([states[name].flatten(1) for name in names], dim=1)


def rho(x: Tensor) -> Tensor:
    return x.clamp(0, 1)


def slope(x: Tensor) -> Tensor:
    return ((x >= 0) & (x <= 1)).double()


COMPLETE = """
use library.dynamics
network n {
  input  x: real[3]
  state  h: real[4]
  state  o: real[2]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec where (i, j) => i < j
  dynamics DYNAMICS
  output y = o
}
"""
LAYERED = """
use library.dynamics
network n {
  input  x: real[3]
  state  h: real[4]
  state  o: real[2]
  connect x -> h as first
  connect h <-> o as second
  connect h <-> h as inner
  dynamics DYNAMICS
  output y = o
}
"""


def test_a_rate_network_with_a_mask(build: Callable[..., Graph]) -> None:
    run = Run(build(COMPLETE.replace("DYNAMICS", "rate(tanh)")), 3)
    earlier = torch.ones(6, 6).tril(-1)  # row j, column i < j
    drive = run.x @ run.w["feed.weight"].T + cat(run.states, "h", "o") @ (run.w["rec.weight"] * earlier).T
    assert not torch.equal(earlier, torch.ones(6, 6).triu(1))
    run.check(h=torch.tanh(drive[:, :4] + run.w["h.bias"]), o=torch.tanh(drive[:, 4:] + run.w["o.bias"]))


def test_units_that_leak_what_they_send(build: Callable[..., Graph]) -> None:
    """Farinha et al. 2020: ds_i/dt = sum_j W_ji s_j - s_i sum_j W_ij, without self loops."""
    run = Run(build(COMPLETE.replace("DYNAMICS", "deep").replace("i < j", "i != j")), 3)
    s = cat(run.states, "h", "o")
    weight = run.w["rec.weight"] * (1 - torch.eye(6))  # from the column to the row
    bias = torch.cat([run.w["h.bias"], run.w["o.bias"]])
    rate = run.x @ run.w["feed.weight"].T + s @ weight.T + bias - s * weight.sum(0)
    run.check(h=rate[:, :4], o=rate[:, 4:])


def energy(run: Run, states: States) -> Tensor:
    """The energy of Scellier and Bengio (2017), equation 1: each pair of units counts once."""
    inner = run.w["inner.weight"].triu(1)
    h, o = states["h"], states["o"]
    total = (h.square().sum() + o.square().sum()) / 2
    total = total - (rho(h) * run.w["h.bias"]).sum() - (rho(o) * run.w["o.bias"]).sum()
    total = total - (rho(h) * (rho(run.x) @ run.w["first.weight"].T)).sum()
    total = total - (rho(o) * (rho(h) @ run.w["second.weight"].T)).sum()
    return total - torch.einsum("bi,ij,bj->", rho(h), inner, rho(h))


def test_an_energy_is_descended(build: Callable[..., Graph]) -> None:
    run = Run(build(LAYERED.replace("DYNAMICS", "hopfield(hard_sigmoid)")), 3)
    at = {name: value.clone().requires_grad_() for name, value in run.states.items()}
    h, o = torch.autograd.grad(energy(run, at), (at["h"], at["o"]))
    run.check(h=-h, o=-o)


def test_leaky_units_descend_it_too(build: Callable[..., Graph]) -> None:
    run = Run(build(LAYERED.replace("DYNAMICS", "leaky(hard_sigmoid, tau = 2.0)")), 3)
    at = {name: value.clone().requires_grad_() for name, value in run.states.items()}
    h, o = torch.autograd.grad(energy(run, at), (at["h"], at["o"]))
    run.check(h=-h / 2, o=-o / 2)


def test_layers_lead_back_by_their_transpose(build: Callable[..., Graph]) -> None:
    text = """
dynamics linear { s' = drive - s }
network n {
  input  x: real[1, 4, 4]
  state  a: real[2, 4, 4]
  state  b: real[3, 2, 2]
  state  o: real[2]
  connect x -> a as first via conv2d(2, kernel = 3, padding = 1)
  connect a <-> b as second via conv2d(3, kernel = 3, padding = 1) -> avgpool(2)
  connect b <-> o as top
  dynamics linear
  output y = o
}
"""
    run = Run(build(text), 1, 4, 4)
    a, b, o = (run.states[name] for name in ("a", "b", "o"))

    def up(value: Tensor) -> Tensor:
        return F.avg_pool2d(F.conv2d(value, run.w["second.weight"], padding=1), 2)

    at = a.clone().requires_grad_()
    (back,) = torch.autograd.grad(up(at), at, b)
    drive = F.conv2d(run.x, run.w["first.weight"], padding=1) + back
    top = run.w["top.weight"]
    run.check(
        a=drive + run.w["a.bias"] - a,
        b=up(a) + (o @ top).reshape(b.shape) + run.w["b.bias"] - b,
        o=b.flatten(1) @ top.T + run.w["o.bias"] - o,
    )


def test_a_definition_reads_what_it_likes(build: Callable[..., Graph]) -> None:
    """Parts with names, a drive of its own, what leaves a unit, the slope of a function of the language."""
    text = """
activation bent(k: real = 3) { x => x + k * sin(x) }
dynamics mixed(f: activation, gain: real = 0.5) {
  sent = f(s)
  drive = incoming(sent * s) - gain * outgoing(sent)
  s = bias + drive * derivative(f, s) + incoming(2) + sent
}
network n {
  input  x: real[3]
  state  h: real[4]
  state  o: real[2]
  connect [x, h] -> [h, o] as up
  connect o <-> h as down
  dynamics mixed(bent, gain = 0.25)
  output y = o
}
"""
    run = Run(build(text), 3)
    h, o, up, down = run.states["h"], run.states["o"], run.w["up.weight"], run.w["down.weight"]

    def f(x: Tensor) -> Tensor:
        return x + 3 * torch.sin(x)

    def d(x: Tensor) -> Tensor:
        return 1 + 3 * torch.cos(x)

    z = torch.cat([run.x, h], dim=1)
    forward = (f(z) * z) @ up.T
    twos = torch.full_like(z, 2) @ up.T
    leaves = torch.cat([f(h), f(o)], dim=1) @ up
    drive_h = forward[:, :4] + (f(o) * o) @ down.T - 0.25 * (leaves[:, 3:] + f(o) @ down.T)
    drive_o = forward[:, 4:] + (f(h) * h) @ down - 0.25 * (f(h) @ down)
    run.check(
        h=run.w["h.bias"] + drive_h * d(h) + twos[:, :4] + torch.full_like(o, 2) @ down.T + f(h),
        o=run.w["o.bias"] + drive_o * d(o) + twos[:, 4:] + torch.full_like(h, 2) @ down + f(o),
    )


def test_a_state_without_a_reader_of_its_bias_owns_none(build: Callable[..., Graph]) -> None:
    text = "dynamics bare { s = tanh(incoming(s)) }" + COMPLETE.replace("DYNAMICS", "bare")
    graph = build(text.replace("use library.dynamics\n", ""))
    assert [child.name for child in graph.root.children] == ["feed", "rec"]


def test_states_begin_as_said(build: Callable[..., Graph]) -> None:
    text = COMPLETE.replace("DYNAMICS", "rate(tanh)").replace("real[4]", "real[4] = 0.25")
    graph = build(text.replace("o: real[2]", "o: real[2] = uniform(0.1, 0.2)"))
    run = system(graph)
    given: Any = run.begin(run.weights(module(graph).state_dict()), torch.zeros(5, 3))
    h, o = run.start(given)
    assert torch.equal(h, torch.full((5, 4), 0.25))
    assert bool(((o >= 0.1) & (o <= 0.2)).all())
    assert len(set(o.flatten().tolist())) == 10


def test_a_function_may_learn_numbers_of_its_own_at_each_state(build: Callable[..., Graph]) -> None:
    text = "activation bent(learn slope: real = 0.25) { x => where(x > 0, x, slope * x) }\n" + COMPLETE
    run = Run(build(text.replace("DYNAMICS", "rate(bent)")), 3)
    slopes = {name: value for name, value in run.w.items() if name.endswith("slope")}
    assert len(slopes) == 2
    earlier = torch.ones(6, 6).tril(-1)
    drive = run.x @ run.w["feed.weight"].T + cat(run.states, "h", "o") @ (run.w["rec.weight"] * earlier).T
    h, o = drive[:, :4] + run.w["h.bias"], drive[:, 4:] + run.w["o.bias"]
    first, second = slopes.values()
    run.check(h=torch.where(h > 0, h, first * h), o=torch.where(o > 0, o, second * o))
