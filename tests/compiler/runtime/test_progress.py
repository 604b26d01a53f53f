"""`progress` against a loop written by hand: in a network, an activation, a penalty, a loss; alone and many at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import nnspec
from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.load import module
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.results import RunResult
from nnspec.compiler.runtime.runs import load_state
from nnspec.compiler.runtime.trials import Trial
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.verify import verify

GoesOn = Callable[[Experiment, int], None]
Make = Callable[[str], Experiment]
Train = Callable[..., RunResult]

TEXT = """
activation soft {{
  x => (1 - progress) * tanh(x) + progress * relu(x)
}}
layer coder(w: int = 8) {{
  input  x: real[n]
  z = x -> dense(w) as fc
  output y: real[w] = z -> soft
}}
network annealed(w: int = 8) {{
  input  x: real[2]
  h = x -> coder(w)
  temperature = 1 + 4 * (1 - progress)
  output y: real[2] = (h -> dense(2) as head) / temperature
  {line}
}}
experiment e {{
  network   = annealed
  data      = moons(samples = 100, test = 0.2)
  loss      = cross_entropy(y, label) + 0.1 * progress * sum(h ^ 2)
  learn     = backprop
  optimizer = adam(lr = 0.01)
  batch     = 32
  {fields}
}}
"""
STEPS = 5 * 3  # epochs of three batches


def text(fields: str = "epochs = 5", line: str = "") -> str:
    return TEXT.format(fields=fields, line=line)


class Annealed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.coder = nn.ModuleDict({"fc": nn.Linear(2, 8)})
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        z = self.coder["fc"](x)
        h = (1 - progress) * torch.tanh(z) + progress * torch.relu(z)
        return self.head(h) / (1 + 4 * (1 - progress)), h


@pytest.mark.parametrize("fields", ["epochs = 5", "stages = [fit(epochs = 2), fit(epochs = 3)]"])
def test_it_is_what_a_script_does(experiment: Make, trained: Train, fields: str) -> None:
    own = experiment(text(f'{fields}\n  seed_mode = "torch"\n  seeds = 2\n  precision = "float64"'))
    run = trained(own)
    found = load_state(run.path, 2)
    train = data.load(own.data, Path("."), dtype="float64").train
    x, label = train.inputs["point"], train.targets
    torch.manual_seed(2)
    net = Annealed().double()
    step = 0
    for stage in (2, 3) if "stages" in fields else (5,):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
        for _ in range(stage):
            for index in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                y, h = net(x[index], step / STEPS)
                loss = functional.cross_entropy(y, label[index])
                (loss + 0.1 * step / STEPS * (h**2).sum(-1).mean()).backward()
                optimizer.step()
                step += 1
    assert step == STEPS
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-12)
    # What is measured is the network as it is in the end.
    y, h = net(x, 1.0)
    loss = functional.cross_entropy(y, label) + 0.1 * (h**2).sum(-1).mean()
    assert run.seeds[0].metrics["train.loss"] == pytest.approx(loss.item(), abs=1e-12)
    assert all(float(found[name]) == 1 for name in found if name.endswith("progress"))


def test_every_body_that_reads_it_keeps_it(experiment: Make) -> None:
    own = experiment(text())
    names = [name for name in module(verify(own.graph)).state_dict() if "progress" in name]
    assert names == ["progress", "coder.soft.progress"]
    assert nnspec.load(text()).network().source().count("self.register_buffer") == 2


def test_it_is_0_first_and_never_reaches_1_within_training(experiment: Make) -> None:
    learner = Learner(prepare(experiment(text()), Path(".")), Trial(0, 0))
    seen: list[float] = []
    learner.network.register_forward_pre_hook(lambda net, given: seen.append(net.progress.item()))
    for _ in range(5):
        learner.epoch()
        assert float(learner.state["progress"]) == 1
    assert seen == pytest.approx([step / STEPS for step in range(STEPS)])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seeds", ["0", "0..1"])
def test_it_goes_on(experiment: Make, goes_on: GoesOn, seeds: str, count: int) -> None:
    goes_on(experiment(text(f"epochs = 5\n  seeds = {seeds}")), count)


@pytest.mark.parametrize("batch", ["", "shuffle = false"])
def test_many_at_once_are_what_they_are_alone(
    experiment: Make, trained: Train, tmp_path: Path, batch: str
) -> None:
    more = f'epochs = 5\n  precision = "float64"\n  {batch}\n  seeds = '
    together = trained(experiment(text(more + "0..2")), out=tmp_path / "a")
    assert (together.path / "stack.safetensors").exists()
    for own in together.seeds:
        alone = trained(experiment(text(more + str(own.seed))), out=tmp_path / "b")
        one, other = load_state(together.path, own.seed), load_state(alone.path, own.seed)
        assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-9) for name in one)
        assert own.metrics == pytest.approx(alone.seeds[0].metrics, abs=1e-9)


def test_a_loss_alone_may_read_it(experiment: Make, trained: Train, tmp_path: Path) -> None:
    """The network then keeps the number for the loss; a run may begin with one that does not."""
    plain = """
network plain {
  input  x: real[2]
  h = x -> dense(8) -> tanh
  output y: real[2] = h -> dense(2)
}
experiment first {
  network = plain
  data    = moons(samples = 100, test = 0.2)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 2
}
experiment second = first {
  network = trained(first)
  loss    = cross_entropy(y, label) + progress * sum(h ^ 2)
}
"""
    own = experiment(plain)
    assert "progress" in module(verify(own.graph)).state_dict()
    assert "progress" not in nnspec.load(plain).network().torch().state_dict()
    trained(own)


def test_a_field_of_the_data_stands_before_it(experiment: Make) -> None:
    own = experiment("""
network plain {
  input  features: real[10]
  output y: real = features -> dense(1) -> select(0, 0)
}
experiment e {
  network = plain
  data    = diabetes(test = 0.2)
  loss    = (y - progress) ^ 2
  learn   = backprop
  epochs  = 2
}
""")
    (read,) = [read for read in own.loss.reads if read.of == "progress"]
    assert read.kind == "field"
    assert "progress" not in module(verify(own.graph)).state_dict()


def test_the_pure_function_the_export_and_the_symmetries(experiment: Make) -> None:
    own = experiment(text())
    net, x = module(verify(own.graph)), torch.randn(7, 2)
    function = nnspec.load(text()).network().function()
    at: list[Tensor] = []
    for share in (0.0, 0.3, 1.0):
        for name, tensor in net.named_buffers():
            assert name.endswith("progress")
            tensor.fill_(share)
        at.append(net(x))
        torch.testing.assert_close(function(net.state_dict(), x), at[-1])
    assert not torch.allclose(at[0], at[1]) and not torch.allclose(at[1], at[2])
    torch.testing.assert_close(exported(own.graph, state=net.state_dict()).module()(x), at[2])
    group = symmetry_group(own.graph)
    assert group.continuous_dimension == 0  # nothing is traded between a weight and how far training has come
    assert 7.9e4 > 10**group.log10_order > 4e4  # the units of the layer in any order, 8! = 40320


@pytest.mark.parametrize("body", ["progress * tanh(x)", "beta * tanh(progress * x)", "x + progress * sum(x)"])
def test_what_is_derived_is_verified(body: str) -> None:
    own = f"""
activation own(learn beta: real = 1.0) {{
  x => {body}
}}
network n {{
  input  x: real[3]
  output y: real[2] = progress * (x -> dense(4) -> own -> dense(2))
}}
"""
    found = nnspec.load(own).network().analyze("symmetry", verify=True).data["verified"]
    assert found


def test_other_ways_to_judge(experiment: Make, trained: Train) -> None:
    fields = "epochs = 3\n  evaluate = [surrogate, hard]\n  metrics = [accuracy(y, label)]"
    run = trained(experiment(text(fields, "constrain coder.fc.weight: binary")))
    found = run.seeds[0].metrics
    assert found["surrogate.test.loss"] == pytest.approx(found["hard.test.loss"], abs=1e-6)


def test_a_follower_may_read_it(experiment: Make, trained: Train) -> None:
    own = experiment("""
layer code {
  input  x: real[n]
  output y: real[8] = progress * (x -> dense(8) as fc)
}
network n {
  input  x: real[2]
  shared online = code
  shared target = follow(online, decay = 0.9)
  code_of = x -> online
  gap = (code_of - stop_gradient(x -> target)) ^ 2 -> sum
  output y: real[2] = code_of -> dense(2)
}
experiment e {
  network = n
  data    = moons(samples = 100, test = 0.2)
  loss    = cross_entropy(y, label) + gap
  learn   = backprop
  epochs  = 2
}
""")
    found = load_state(trained(own).path, 0)
    assert float(found["target.progress"]) == float(found["online.progress"]) == 1
