"""Many seeds of a small network at once: beside one after another, and beside code batched by hand.

In: nothing. Out: two tables in Markdown, one thread, medians of interleaved rounds in one run.
The first: 1,000 seeds of a 2-4-1 net; "one after another" is a plain torch loop for one seed, times 1,000;
"by hand" is the same training written with baddbmm, and with einsum, all seeds in one tensor. Once with all
rows in each step, once with shuffled batches, which every seed draws in its own order, by hand too.
The second: from which size on a network gains nothing from company; `SMALL` in compiler/runtime/stack.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from fitted import experiment
from rounds import seconds, table
from torch import Tensor, nn
from torch.nn import functional

from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Batch, Plan, parameter_count, prepare
from nnspec.compiler.runtime.stack import Stack
from nnspec.compiler.runtime.train import train

SEEDS, ROUNDS = 1000, 11

XOR = """
network net {
  input  x: real[2]
  output y: real[1] = x -> dense(4) as hidden -> tanh -> dense(1) as head
}
experiment e {
  network = net
  data    = xor(samples = 32, test = 0.0)
  loss    = binary_cross_entropy
  learn   = backprop
  optimizer = adam(lr = 0.01)
  seeds   = 0..999
  epochs  = EPOCHS
  batch   = BATCH
}
"""

DIGITS = """
network net {
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(WIDTH) -> relu -> dense(WIDTH) -> relu -> dense(10)
}
experiment e {
  network = net
  data    = digits(test = 0.2)
  loss    = cross_entropy
  learn   = backprop
  seeds   = 0..COUNT
  epochs  = 1
  batch   = 64
}
"""

Forward = Callable[[list[Tensor], Tensor], Tensor]


def with_baddbmm(weights: list[Tensor], x: Tensor) -> Tensor:
    w1, b1, w2, b2 = weights
    hidden = torch.tanh(torch.baddbmm(b1.unsqueeze(1), x, w1.transpose(1, 2)))
    return torch.baddbmm(b2.unsqueeze(1), hidden, w2.transpose(1, 2))


def with_einsum(weights: list[Tensor], x: Tensor) -> Tensor:
    w1, b1, w2, b2 = weights
    hidden = torch.tanh(torch.einsum("sbi,soi->sbo", x, w1) + b1.unsqueeze(1))
    return torch.einsum("sbi,soi->sbo", hidden, w2) + b2.unsqueeze(1)


def initial() -> list[Tensor]:
    """Return the stacked weights of 1,000 seeds, in torch's own way."""
    states: list[dict[str, Tensor]] = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        states.append(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).state_dict())
    return [torch.stack([state[name] for state in states]).requires_grad_() for name in states[0]]


def batched(forward: Forward, data: Batch, batch: int | None, epochs: int) -> Callable[[], None]:
    """Return epochs of training by hand, all seeds in one tensor."""
    weights = initial()
    optimizer = torch.optim.Adam(weights, lr=0.01, fused=True)
    generators = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    (x,), y = data
    all_x, all_y = x.expand(SEEDS, *x.shape), y.float().reshape(1, -1, 1).expand(SEEDS, -1, 1)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        losses = functional.binary_cross_entropy_with_logits(forward(weights, x), y, reduction="none")
        losses.mean((1, 2)).sum().backward()
        optimizer.step()

    def run() -> None:
        for _ in range(epochs):
            if batch is None:
                step(all_x, all_y)
                continue
            order = torch.stack([torch.randperm(len(x), generator=own) for own in generators])
            for index in order.split(batch, dim=1):
                step(x[index], y[index].float().unsqueeze(2))

    return run


def one(data: Batch, batch: int | None, epochs: int) -> Callable[[], None]:
    """Return epochs of a plain script for one seed."""
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    (x,), y = data
    wanted = y.float().unsqueeze(1)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()

    def run() -> None:
        for _ in range(epochs):
            if batch is None:
                step(x, wanted)
                continue
            for index in torch.randperm(len(x)).split(batch):
                step(x[index], wanted[index])

    return run


def prepared(text: str) -> Plan:
    return prepare(experiment(text), Path("."), "cpu").endless()


def small(batch: int | None, epochs: int) -> list[object]:
    text = XOR.replace("BATCH", "none" if batch is None else str(batch)).replace("EPOCHS", str(epochs))
    plan = prepared(text)
    stack = Stack(plan, plan.trials)
    times = seconds(
        {
            "ours": lambda: [stack.epoch() for _ in range(epochs)],
            "baddbmm": batched(with_baddbmm, plan.train, batch, epochs),
            "einsum": batched(with_einsum, plan.train, batch, epochs),
            "one": one(plan.train, batch, epochs),
        },
        ROUNDS,
    )
    ours, baddbmm, einsum, apart = (value / epochs * 1e3 for value in times.values())
    name = (
        "all 32 rows, one step"
        if batch is None
        else f"{plan.phases[0].steps_per_epoch} steps of {batch} rows"
    )
    cells = [f"{ours:.2f} ms", f"{baddbmm:.2f} ms", f"**{ours / baddbmm:.2f}**", f"{einsum:.2f} ms"]
    return [
        name,
        *cells,
        f"**{ours / einsum:.2f}**",
        f"{apart * SEEDS:.0f} ms",
        f"**{apart * SEEDS / ours:.0f}**",
    ]


def whole(epochs: int) -> str:
    """Return how the whole of `train` (its start, measuring, files) compares with epochs alone by hand."""
    own = experiment(XOR.replace("BATCH", "none").replace("EPOCHS", str(epochs)))
    plan = prepared(XOR.replace("BATCH", "none").replace("EPOCHS", str(epochs)))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        train(own, root=Path("."), out=Path(folder), device="cpu")
        ours = time.perf_counter() - begin
    begin = time.perf_counter()
    batched(with_einsum, plan.train, None, epochs)()
    hand = time.perf_counter() - begin
    begin = time.perf_counter()
    one(plan.train, None, epochs)()
    apart = (time.perf_counter() - begin) * SEEDS
    return (
        f"All of `train` for {SEEDS:,} seeds and {epochs:,} epochs, with initialisation, measuring and files:"
        f" {ours:.1f} s; einsum by hand, with initialisation only: {hand:.1f} s (ratio {ours / hand:.2f});"
        f" one after another, steps only (one seed's time, times 1,000): {apart:.0f} s"
        f" ({apart / ours:.0f} times as long)."
    )


def size(width: int, count: int) -> list[object]:
    plan = prepared(DIGITS.replace("WIDTH", str(width)).replace("COUNT", str(count - 1)))
    stack, learner = Stack(plan, plan.trials), Learner(plan, plan.trials[0])
    times = seconds({"at once": stack.epoch, "one": learner.epoch}, 5)
    gain = times["one"] * count / times["at once"]
    return [f"{parameter_count(plan.graph):,}", count, f"{gain:.2f}"]


def main() -> None:
    torch.set_num_threads(1)
    columns = ("1,000 seeds, an epoch", "ours", "baddbmm by hand", "ours to that", "einsum by hand")
    more = ("ours to that", "one after another", "times as long as ours")
    print(table((*columns, *more), [small(None, 50), small(8, 10)]))
    print()
    print(whole(2000))
    print()
    rows = [size(width, count) for width in (4, 16, 32, 64, 128, 256) for count in (3, 10)]
    print(table(("parameters", "seeds", "at once: times faster"), rows))


if __name__ == "__main__":
    main()
