"""Networks that settle: phases in place beside energies and autograd, and many seeds at once.

In: nothing. Out: tables in Markdown, one thread, medians of interleaved rounds in one run.
The first: a free phase of 784-512-10 in 20 Euler steps at batch 128, beside the slope of the energy by autograd in each step
(Scellier and Bengio 2017 as commonly implemented) and beside the equations by hand, drives of the input hoisted.
The second: a whole step of equilibrium propagation (free, two nudged phases of 10 steps, directions of all weights), beside the
same with every phase, and the directions, by autograd of the energy as one number.
The third: settling 100 seeds of a complete network of 50 units, as one program, beside one seed after another.
The fourth: a step of equilibrium propagation of these.
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
from nnspec.compiler.runtime.stack import Stack
from nnspec.compiler.runtime.stacked_system import StackedSystem
from nnspec.compiler.runtime.streams import Streams
from nnspec.compiler.runtime.trials import Trial

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
LEARNED = """
experiment e {
  network   = complete
  data      = csv("rows.csv", target = "label", test = 0.0)
  loss      = cross_entropy
  learn     = equilibrium(variant = "asymmetric", beta = 0.2, free_steps = 30, nudged_steps = 10)
  optimizer = sgd(lr = 0.01)
  batch     = none
  epochs    = 1
  seeds     = 0..COUNT
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
    """Return the row of one batch size: settling many seeds at once and one after another.

    Beside them the products and functions of the steps by themselves, which are the same in any way of doing it.
    """
    graph = nnspec.load(COMPLETE).network().graph
    forward, steps, size = function(graph), 30, 50
    states = initial_state(graph, 0, count)
    x = torch.rand(batch, 8)
    alone = [{name: value[seed] for name, value in states.items()} for seed in range(count)]
    together = StackedSystem(graph, tuple(states))
    (begin,) = together.begin(
        states, [(x,)], [Streams(Trial(seed, 0), "streams", x.device) for seed in range(count)], _plain
    )
    units, weight = torch.rand(count, batch, size), states["rec.weight"].mT
    made = torch.empty_like(units)

    def at_once() -> Tensor:
        with torch.no_grad():
            return together(states, begin, (x,))

    def one_by_one() -> list[Tensor]:
        with torch.no_grad():
            return [forward(own, x) for own in alone]

    def arithmetic() -> None:
        for _ in range(steps):
            torch.bmm(units, weight, out=made)
            torch.tanh(made, out=made)

    apart = (at_once() - torch.stack(one_by_one())).abs().max()
    times = seconds({"at once": at_once, "one by one": one_by_one, "arithmetic": arithmetic}, rounds)
    mine, single, least = (times[name] * 1e3 for name in ("at once", "one by one", "arithmetic"))
    cells = [f"{mine:.1f} ms", f"{least:.1f} ms", f"{single:.1f} ms", f"**{single / mine:.1f}**"]
    return [batch, *cells, f"{float(apart):.0e}"]


def _plain(streams: Streams, make: Callable[[], list[tuple[Tensor, ...]]]) -> list[tuple[Tensor, ...]]:
    """Return where states begin that are not drawn."""
    return make()


def many_learners(count: int, batch: int, rounds: int) -> list[object]:
    """Return the row of one batch size: a step of equilibrium propagation of many seeds, and of one after another."""
    text = COMPLETE + LEARNED.replace("COUNT", str(count - 1))
    draw = torch.Generator().manual_seed(0)
    rows: list[list[float]] = torch.rand(batch, 8, generator=draw).tolist()
    with tempfile.TemporaryDirectory() as folder:
        lines = [",".join([*(f"{v:.4f}" for v in row), f"c{i % 2}"]) for i, row in enumerate(rows)]
        (Path(folder) / "rows.csv").write_text("\n".join(["a,b,c,d,e,f,g,h,label", *lines]) + "\n")
        plan = prepare(experiment(text), Path(folder), "cpu")
    together = Stack(plan, plan.trials).groups[0]
    learners = [Learner(plan, trial).groups[0] for trial in plan.trials]

    def at_once() -> None:
        together.learn(plan.train, 0)

    def one_by_one() -> None:
        for own in learners:
            own.learn(plan.train, 0)

    at_once()
    one_by_one()
    moved = [
        p.detach()[-1] - q.detach() for p, q in zip(together.parameters, learners[-1].parameters, strict=True)
    ]
    apart = max(float(own.abs().max()) for own in moved)
    times = seconds({"at once": at_once, "one by one": one_by_one}, rounds)
    mine, single = times["at once"] * 1e3, times["one by one"] * 1e3
    return [batch, f"{mine:.1f} ms", f"{single:.1f} ms", f"**{single / mine:.1f}**", f"{apart:.0e}"]


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
    columns = ("one after another", "times faster", "apart")
    first = ("100 seeds of complete(50): samples", "at once", "products and functions alone", *columns)
    print(table(first, [many_seeds(100, batch, 5) for batch in (1, 4, 16, 64)]), flush=True)
    print()
    first = ("a step of learning, 100 seeds: samples", "at once", *columns)
    print(table(first, [many_learners(100, batch, 3) for batch in (2, 4, 16)]))


if __name__ == "__main__":
    main()
