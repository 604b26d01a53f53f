"""What only a GPU can show: devices, mixed precision, determinism, peak memory, the compiled step.

`make test-gpu` runs these where there is a CUDA device and skips them, with one line, elsewhere. Each is
held against the same computation on the CPU or against a bound worked out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here", allow_module_level=True)

pytestmark = pytest.mark.gpu

SPEC = """
network net(width: int = 64) {{
  input  image: real[8, 8]
  output digit: real[10] = image -> flatten -> dense(width) as fc -> tanh -> dense(10) as head
}}
experiment e {{
  network   = net
  data      = digits
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.003)
  epochs    = {epochs}
  batch     = 64
  seeds     = {seeds}
  metrics   = [accuracy]
  precision = "{precision}"
}}
"""


def experiment(**given: Any) -> Any:
    from nnspec.compiler.pipeline import check
    from nnspec.dsl.diagnostics import Bag
    from nnspec.dsl.source import Source

    bag = Bag()
    text = SPEC.format(**{"epochs": 5, "precision": "float32", "seeds": 0, **given})
    checked = check(Source("gpu.nnspec", text), bag)
    assert not bag.failed, list(bag)
    return checked.experiments[0]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Train on a device, in a folder of its own."""
    from nnspec.compiler.runtime.train import train

    def trained(device: str, name: str = "runs", **given: Any) -> Any:
        return train(experiment(**given), root=tmp_path, out=tmp_path / name, device=device)

    return trained


def test_data_and_parameters_live_on_the_device(tmp_path: Path) -> None:
    from nnspec.compiler.runtime.learner import Learner
    from nnspec.compiler.runtime.plan import prepare

    plan = prepare(experiment(), tmp_path, "cuda")
    learner = Learner(plan, plan.trials[0])
    assert {p.device.type for p in learner.network.parameters()} == {"cuda"}
    assert {t.device.type for t in (*plan.train.inputs, plan.train.target)} == {"cuda"}
    assert learner.epoch().device.type == "cuda"


def test_auto_takes_the_gpu(run: Callable[..., Any]) -> None:
    result = run("auto")
    assert "cuda" in str(result.environment)


def test_the_gpu_learns_what_the_cpu_learns(run: Callable[..., Any]) -> None:
    one, two = run("cpu", "a", precision="float64"), run("cuda", "b", precision="float64")
    assert one.mean["accuracy"] == pytest.approx(two.mean["accuracy"], abs=0.01)
    assert one.mean["loss"] == pytest.approx(two.mean["loss"], rel=1e-4)


def test_mixed_precision_trains_and_keeps_its_weights_in_single(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    from nnspec.compiler.runtime.learner import Learner
    from nnspec.compiler.runtime.plan import prepare

    learner = Learner(prepare(experiment(precision="bfloat16"), tmp_path, "cuda"), 0)
    learner.epoch()
    assert {p.dtype for p in learner.network.parameters()} == {torch.float32}
    assert run("cuda", precision="bfloat16", epochs=20).mean["accuracy"] > 0.93


def test_the_same_seed_gives_the_same_numbers(run: Callable[..., Any]) -> None:
    one, two = run("cuda", "a"), run("cuda", "b")
    assert one.seeds[0].metrics == two.seeds[0].metrics


def test_several_seeds_at_once_give_what_single_runs_give(run: Callable[..., Any]) -> None:
    together = run("cuda", "a", seeds="0..7", precision="float64")
    alone = run("cuda", "b", seeds="3", precision="float64")
    found = next(own for own in together.seeds if own.seed == 3)
    assert found.metrics["loss"] == pytest.approx(alone.seeds[0].metrics["loss"], rel=1e-5)


def test_peak_memory_stays_near_what_the_tensors_need(tmp_path: Path) -> None:
    from nnspec.compiler.runtime.learner import Learner
    from nnspec.compiler.runtime.plan import prepare

    plan = prepare(experiment(), tmp_path, "cuda")
    data = sum(t.nbytes for part in plan.parts.values() for t in (*part.inputs, part.target))
    learner = Learner(plan, plan.trials[0])
    weights = sum(p.nbytes for p in learner.network.parameters())
    learner.epoch()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    learner.epoch()
    torch.cuda.synchronize()
    batch = 64 * (64 + 64 + 10) * 4
    assert torch.cuda.max_memory_allocated() - before < 8 * batch + 4 * weights + data + 2**20


def test_the_compiled_step_has_no_break_and_the_same_gradients() -> None:
    from nnspec.compiler.emit.load import module

    torch.manual_seed(0)
    net = module(experiment().graph).cuda()
    x, y = torch.randn(64, 8, 8, device="cuda"), torch.randint(0, 10, (64,), device="cuda")

    def loss(given: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(given), y)

    compiled = torch.compile(loss, fullgraph=True)
    gradients = [torch.autograd.grad(f(x), list(net.parameters())) for f in (loss, compiled)]
    for eager, own in zip(*gradients, strict=True):
        torch.testing.assert_close(own, eager, rtol=1e-3, atol=1e-5)
