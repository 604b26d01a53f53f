"""Phases on a GPU: a step is recorded once and replayed, and gives what the CPU gives."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here", allow_module_level=True)

pytestmark = pytest.mark.gpu

SPEC = """
use library.dynamics

network layered {
  input  x: real[20]
  state  h: real[30]
  state  o: real[5]
  connect x -> h as feed
  connect h <-> o as up
  dynamics leaky(hard_sigmoid, solve = euler(dt = 0.5, steps = 25), clip = [0, 1])
  output y = o
}
"""


def test_a_phase_is_recorded_once_and_replayed() -> None:
    import nnspec
    from nnspec.compiler.emit.load import initial_state
    from nnspec.compiler.emit.system import system

    graph = nnspec.load(SPEC).network().graph
    state = {name: tensor.double() for name, tensor in initial_state(graph, 0).items()}
    run: Any = system(graph)
    for count in range(3):
        x = torch.rand(8, 20, dtype=torch.float64)
        state = {name: 0.5 * tensor + 0.1 * torch.rand_like(tensor) for name, tensor in state.items()}
        found = {}
        for device in ("cpu", "cuda"):
            weights = run.weights({name: tensor.to(device) for name, tensor in state.items()})
            given = run.begin(weights, x.to(device))
            found[device] = run.settle(given, run.start(given))
        for a, b in zip(found["cpu"].states, found["cuda"].states, strict=True):
            torch.testing.assert_close(a, b.cpu(), rtol=1e-9, atol=1e-11)
        assert sum(key[0] == "captured" for key in run._functions if isinstance(key, tuple)) == 1, count
