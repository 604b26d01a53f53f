"""One training step of ours beside the same step written by hand in eager torch.

In: nothing. Out: a table in Markdown: MLP 784-512-512-10 and LeNet at batch 128, one thread, medians of
interleaved rounds in one run. Both take their batch from the data by an index and use the same optimizer;
the default optimizer (fused Adam) is also set beside torch's plain one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from fitted import experiment
from rounds import seconds, table
from torch import Tensor, nn
from torch.nn import functional

from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Batch, Plan, prepare

ROWS, BATCH, STEPS, ROUNDS = 1280, 128, 10, 40

EXPERIMENT = """
experiment e {
  network = net
  data    = npz("DATA", input = "image", target = "label", test = 0.0)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 1
  batch   = 128
}
"""

MLP = """
network net {
  input  image: real[1, 28, 28]
  h      = image -> flatten -> dense(512) as fc1 -> relu -> dense(512) as fc2 -> relu
  output label: real[10] = h -> dense(10) as fc3
}
"""

LENET = """
network net {
  input  image: real[1, 28, 28]
  h      = image -> conv2d(6, kernel = 5, padding = 2) as conv1 -> tanh -> avgpool(2)
  g      = h -> conv2d(16, kernel = 5) as conv2 -> tanh -> avgpool(2) -> flatten
  output label: real[10] = g -> dense(120) as fc1 -> tanh -> dense(84) as fc2 -> tanh -> dense(10) as fc3
}
"""


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc3 = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc3(torch.relu(self.fc2(x)))


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = functional.avg_pool2d(torch.tanh(self.conv2(x)), 2).flatten(1)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


def by_hand(net: nn.Module, data: Batch, fused: bool) -> Callable[[], None]:
    """Return some steps of a plain script."""
    optimizer = torch.optim.Adam(net.parameters(), fused=fused)
    (image,), label = data.inputs, data.target

    def steps() -> None:
        net.train()
        order = torch.randperm(len(image))
        for start in range(0, len(image), BATCH):
            index = order[start : start + BATCH]
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(image[index]), label[index])
            loss.backward()
            optimizer.step()

    return steps


def ours(plan: Plan) -> Callable[[], object]:
    """Return an epoch of a learner: as many steps."""
    return Learner(plan.endless(), plan.trials[0]).epoch


def update(net: nn.Module, data: Batch, fused: bool) -> Callable[[], None]:
    """Return the optimizer's part of as many steps."""
    optimizer = torch.optim.Adam(net.parameters(), fused=fused)
    rows = data.between(0, BATCH)
    functional.cross_entropy(net(*rows.inputs), rows.target).backward()

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.step()

    return steps


def measure(name: str, text: str, twin: Callable[[], nn.Module], file: Path) -> list[str]:
    spec = (text + EXPERIMENT).replace("DATA", file.name)
    plan = prepare(experiment(spec), file.parent, "cpu")
    assert plan.phases[0].steps_per_epoch == STEPS
    alternatives = {
        "ours": ours(plan),
        "by hand": by_hand(twin(), plan.train, fused=True),
        "plain Adam": by_hand(twin(), plan.train, fused=False),
        "fused update": update(twin(), plan.train, fused=True),
        "plain update": update(twin(), plan.train, fused=False),
    }
    times = seconds(alternatives, ROUNDS)
    own, hand, plain, fused_update, plain_update = (times[n] / STEPS * 1e3 for n in alternatives)
    cells = (f"{own:.2f} ms", f"{hand:.2f} ms", f"**{own / hand:.3f}**", f"{plain:.2f} ms")
    return [name, *cells, f"**{own / plain:.3f}**", f"{fused_update / plain_update:.2f}"]


def main() -> None:
    import tempfile

    import numpy

    torch.set_num_threads(1)
    generator = numpy.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npz"
        image = generator.normal(size=(ROWS, 1, 28, 28)).astype("float32")
        numpy.savez(file, image=image, label=generator.integers(0, 10, ROWS))
        rows = [
            measure("MLP 784-512-512-10", MLP, Mlp, file),
            measure("LeNet", LENET, LeNet, file),
        ]
    columns = (
        "one step",
        "ours",
        "by hand, fused Adam",
        "ours to that",
        "by hand, plain Adam",
        "ours to that",
        "of the update alone, fused to plain",
    )
    print(table(columns, rows))


if __name__ == "__main__":
    main()
