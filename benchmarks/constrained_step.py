"""A training step under constraint beside the same step with `torch.nn.utils.parametrize`.

In: nothing. Out: a table in Markdown: binary and masked weights in every dense layer, 784-512-512-10 at
batch 128 and 4-16-16-3 at batch 32, one thread, medians of interleaved rounds in one run. Both sides
take the batch from the data by an index and use the same fused Adam.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy
import torch
from fitted import experiment
from rounds import seconds, table
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Batch, Plan, prepare

ROUNDS = 60
SIZES = {"784-512-512-10": (784, 512, 512, 10), "4-16-16-3": (4, 16, 16, 3)}
BATCHES = {"784-512-512-10": 128, "4-16-16-3": 32}
STEPS = {"784-512-512-10": 5, "4-16-16-3": 40}

SPEC = """
network net {{
  input  x: real[{0}]
  output label: real[{3}] = x -> dense({1}) -> relu -> dense({2}) -> relu -> dense({3})
  constrain every dense.weight: {constraint}
}}

experiment e {{
  network = net
  data    = npz("{file}", input = "x", target = "label", test = 0.0)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 1
  batch   = {batch}
}}
"""


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(weight: Tensor) -> Tensor:
        return torch.where(weight >= 0, 1.0, -1.0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        return gradient * (weight.abs() <= 1)


class Binary(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return _Sign.apply(weight)


class Masked(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def parametrized(sizes: tuple[int, ...], constraint: str) -> nn.Module:
    """Return the network as one writes it with parametrizations."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        made = (
            Binary()
            if constraint == "binary"
            else Masked(((torch.arange(outputs)[:, None] + torch.arange(inputs)) % 2 == 0).float())
        )
        parametrize.register_parametrization(layer, "weight", made)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def by_hand(net: nn.Module, data: Batch, batch: int) -> Callable[[], None]:
    """Return an epoch of a plain script."""
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    (rows,), label = data.inputs, data.target

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(rows)).split(batch):
            yield rows[index], label[index]

    def epoch() -> None:
        net.train()
        for x, wanted in batches():
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(x), wanted)
            loss.backward()
            optimizer.step()

    return epoch


def ours(plan: Plan) -> Callable[[], object]:
    """Return an epoch of a learner."""
    return Learner(plan.endless(), plan.trials[0]).epoch


def measure(name: str, constraint: str, folder: Path) -> list[str]:
    sizes, batch, steps = SIZES[name], BATCHES[name], STEPS[name]
    generator = numpy.random.default_rng(0)
    x = generator.normal(size=(batch * steps, sizes[0])).astype("float32")
    numpy.savez(folder / "data.npz", x=x, label=generator.integers(0, sizes[-1], len(x)))
    plan = prepare(
        experiment(SPEC.format(*sizes, constraint=constraint, file="data.npz", batch=batch)), folder, "cpu"
    )
    word = constraint.split("(")[0]
    alternatives = {
        "ours": ours(plan),
        "parametrize": by_hand(parametrized(sizes, word), plan.train, batch),
    }
    times = seconds(alternatives, ROUNDS)
    own, other = (times[key] / steps * 1e3 for key in alternatives)
    return [name, word, f"{own:.3f} ms", f"{other:.3f} ms", f"**{own / other:.3f}**"]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(name, constraint, Path(folder))
            for name in SIZES
            for constraint in ("binary", "mask((i, j) => (i + j) % 2 == 0)")
        ]
    print(table(("network", "constraint", "ours", "parametrize", "ours / parametrize"), rows))


if __name__ == "__main__":
    main()
