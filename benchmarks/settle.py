"""Networks that settle: phases in place beside energies and autograd, and many seeds at once.

In: nothing. Out: tables in Markdown, one thread, medians of interleaved rounds in one run.
The first: a free phase of 784-512-10 in 20 Euler steps at batch 128, beside the slope of the energy by autograd in each step
(Scellier and Bengio 2017 as commonly implemented) and beside the equations by hand, drives of the input hoisted.
The second: a whole step of equilibrium propagation (free, two nudged phases of 10 steps, directions of all weights), beside the
same with every phase, and the directions, by autograd of the energy as one number.
The third: settling 100 seeds of a complete network of 50 units, as one vmap, beside one seed after another.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from fitted import experiment
from rounds import seconds, table
from torch import Tensor

import nnspec
from nnspec.compiler.emit.load import function, initial_state
from nnspec.compiler.emit.system import system
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare

STEPS, BATCH, DT = 20, 128, 0.5
LAYERED = """
use library.dynamics

network layered {
  input  x: real[784]
  state  h: real[512] = uniform(0, 1)
  state  o: real[10] = uniform(0, 1)
  connect x -> h as feed
  connect h <-> o as up
  dynamics leaky(RATE, solve = euler(dt = 0.5, steps = 20)CLIP)
  output y = o
}
"""
TRAINED = """
experiment e {
  network   = layered
  data      = csv("rows.csv", target = "label", test = 0.0)
  loss      = mean_squared_error
  learn     = equilibrium(beta = 0.5, free_steps = 20, nudged_steps = 10)
  optimizer = sgd(lr = 0.1)
  batch     = none
  epochs    = 1
}
"""
COMPLETE = """
use library.dynamics

network complete(n: int = 50) {
  input  x: real[8]
  state  h: real[n - 2]
  state  o: real[2]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics rate(tanh, solve = fixed_point(steps = 30, damping = 0.5, tolerance = 0))
  output y = o
}
"""
RATES: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda s: s.clamp(0, 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def free_phase(rate: str, clip: bool, rounds: int) -> list[object]:
    """Return the row of one rate: times of a free phase, and how far the results are apart."""
    text = LAYERED.replace("RATE", rate).replace("CLIP", ", clip = [0, 1]" if clip else "")
    graph = nnspec.load(text).network().graph
    run = system(graph)
    weights = run.weights(initial_state(graph, 0))
    f = RATES[rate]
    x = torch.rand(BATCH, 784)
    start = run.start(run.begin(weights, x))
    feed, up, b, c = (weights[name] for name in ("feed.weight", "up.weight", "h.bias", "o.bias"))

    def kept(s: Tensor) -> Tensor:
        return s.clamp(0, 1) if clip else s

    def energy(h: Tensor, o: Tensor) -> Tensor:
        squares = (h**2).sum() / 2 + (o**2).sum() / 2
        drives = (f(h) * (f(x) @ feed.T + b)).sum() + (f(o) * (f(h) @ up.T + c)).sum()
        return squares - drives

    def by_energy() -> tuple[Tensor, Tensor]:
        h, o = start
        for _ in range(STEPS):
            h, o = h.detach().requires_grad_(), o.detach().requires_grad_()
            slopes = torch.autograd.grad(energy(h, o), (h, o))
            with torch.no_grad():
                h, o = (kept(s - DT * slope) for s, slope in zip((h, o), slopes, strict=True))
        return h, o

    def by_hand() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            h, o = start
            drive = f(x) @ feed.T + b
            for _ in range(STEPS):
                new_h = h + DT * (slope_of(rate, h) * (drive + f(o) @ up) - h)
                new_o = o + DT * (slope_of(rate, o) * (f(h) @ up.T + c) - o)
                h, o = kept(new_h), kept(new_o)
            return h, o

    def ours() -> tuple[Tensor, ...]:
        return run.settle(run.begin(weights, x), start).states

    apart = max(float((a - b).abs().max()) for a, b in zip(ours(), by_energy(), strict=True))
    times = seconds({"ours": ours, "by hand": by_hand, "energy": by_energy}, rounds)
    mine, hand, slow = (times[name] * 1e3 for name in ("ours", "by hand", "energy"))
    name = f"{rate}, clipped to [0, 1]" if clip else rate
    cells = [f"{mine:.2f} ms", f"{hand:.2f} ms", f"{slow:.2f} ms"]
    return [name, *cells, f"**{slow / mine:.1f}**", f"{hand / mine:.1f}", f"{apart:.0e}"]


def slope_of(rate: str, s: Tensor) -> Tensor:
    """Return the slope of a rate, by hand."""
    f = RATES[rate]
    if rate == "hard_sigmoid":
        return ((s >= 0) & (s <= 1)).to(s.dtype)
    return f(s) * (1 - f(s)) if rate == "sigmoid" else 1 - f(s) ** 2


def learned(rate: str, clip: bool, rounds: int) -> list[object]:
    """Return the row of one rate: times of a step of equilibrium propagation, and how far the directions are apart."""
    text = LAYERED.replace("RATE", rate).replace("CLIP", ", clip = [0, 1]" if clip else "")
    text = text.replace(" = uniform(0, 1)", " = 0.1")
    with tempfile.TemporaryDirectory() as folder:
        group, batch = begun(text + TRAINED, Path(folder))
    f = RATES[rate]
    (x,), label = batch.inputs, batch.target
    target = torch.nn.functional.one_hot(label, 10).to(x.dtype)
    named = dict(group.network.named_parameters())
    weights = [named[name] for name in ("feed.weight", "up.weight", "h.bias", "o.bias")]

    def energy(h: Tensor, o: Tensor) -> Tensor:
        feed, up, b, c = weights
        squares = (h**2).sum() / 2 + (o**2).sum() / 2
        return squares - (f(h) * (f(x) @ feed.T + b)).sum() - (f(o) * (f(h) @ up.T + c)).sum()

    def cost(o: Tensor) -> Tensor:
        return ((o - target) ** 2).mean(1).sum()

    def settled(h: Tensor, o: Tensor, beta: float, steps: int) -> tuple[Tensor, Tensor]:
        for _ in range(steps):
            h, o = h.detach().requires_grad_(), o.detach().requires_grad_()
            phi = energy(h, o) + beta * cost(o)
            slopes = torch.autograd.grad(phi, (h, o))
            h, o = (s.detach() - DT * slope for s, slope in zip((h, o), slopes, strict=True))
            h, o = (h.clamp(0, 1), o.clamp(0, 1)) if clip else (h, o)
        return h, o

    def by_energy() -> tuple[Tensor, ...]:
        h, o = x.new_full((BATCH, 512), 0.1), x.new_full((BATCH, 10), 0.1)
        free = settled(h, o, 0.0, STEPS)
        up, down = (settled(*free, beta, 10) for beta in (0.5, -0.5))
        return torch.autograd.grad((energy(*up) - energy(*down)) / (2 * 0.5 * BATCH), weights)

    def ours() -> list[Tensor]:
        group.optimizer.zero_grad(set_to_none=True)
        group.rule.direction(group, batch, group.learner.streams)
        return [weight.grad for weight in weights if weight.grad is not None]

    pairs = list(zip(ours(), by_energy(), strict=True))
    apart = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    times = seconds({"ours": ours, "energy": by_energy}, rounds)
    mine, slow = times["ours"] * 1e3, times["energy"] * 1e3
    name = f"{rate}, clipped to [0, 1]" if clip else rate
    return [name, f"{mine:.1f} ms", f"{slow:.1f} ms", f"**{slow / mine:.1f}**", f"{apart:.0e}"]


def begun(text: str, folder: Path) -> tuple[Any, Any]:
    """Return what trains the experiment of a text on rows of random numbers, and its batch."""
    draw = torch.rand(BATCH, 784, generator=torch.Generator().manual_seed(0))
    rows = [",".join([*(f"{v:.4f}" for v in row), f"c{i % 10}"]) for i, row in enumerate(draw.tolist())]
    names = ",".join(f"x{i}" for i in range(784))
    (folder / "rows.csv").write_text("\n".join([f"{names},label", *rows]) + "\n")
    plan = prepare(experiment(text), folder, "cpu")
    group = Learner(plan, plan.trials[0]).groups[0]
    group.network.train()
    return group, plan.train


def many_seeds(count: int, batch: int, rounds: int) -> list[object]:
    """Return the row of one batch size: settling many seeds at once and one after another."""
    graph = nnspec.load(COMPLETE).network().graph
    forward = function(graph)
    states = initial_state(graph, 0, count)
    x = torch.rand(batch, 8)
    alone = [{name: value[seed] for name, value in states.items()} for seed in range(count)]

    def at_once() -> Tensor:
        with torch.no_grad():
            return torch.vmap(lambda own: forward(own, x))(states)

    def one_by_one() -> list[Tensor]:
        with torch.no_grad():
            return [forward(own, x) for own in alone]

    apart = (at_once() - torch.stack(one_by_one())).abs().max()
    times = seconds({"at once": at_once, "one by one": one_by_one}, rounds)
    together, apart_time = times["at once"] * 1e3, times["one by one"] * 1e3
    cells = [f"{together:.1f} ms", f"{apart_time:.1f} ms", f"**{apart_time / together:.1f}**"]
    return [batch, *cells, f"{float(apart):.0e}"]


def main() -> None:
    torch.set_num_threads(1)
    columns = (
        "free phase of 784-512-10",
        "ours",
        "by hand",
        "energy and autograd",
        "times faster",
        "than by hand",
    )
    rows = [
        free_phase("hard_sigmoid", True, 15),
        free_phase("sigmoid", False, 15),
        free_phase("tanh", False, 15),
    ]
    print(table((*columns, "apart"), rows), flush=True)
    print()
    columns = ("a step of equilibrium propagation", "ours", "energy and autograd", "times faster", "apart")
    print(table(columns, [learned("hard_sigmoid", True, 9), learned("sigmoid", False, 9)]))
    print()
    columns = ("100 seeds of complete(50): samples", "at once", "one after another", "times faster", "apart")
    print(table(columns, [many_seeds(100, batch, 5) for batch in (1, 4, 16, 64)]))


if __name__ == "__main__":
    main()
