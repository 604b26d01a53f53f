"""States that blow up while a rule lets them settle: said so, with the state and the phase; the run is kept."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from nnspec.compiler.pipeline import check
from nnspec.compiler.runtime.train import train
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

SPEC = """
use library.dynamics

network neurons {
  input x: real[2]
  state h: real[4]
  state o: real[1]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics deep(solve = euler(dt = 0.5, steps = 100))
  output y = o
  initialize feed.weight, rec.weight: normal(std = 0.4)
  constrain feed.weight: l2(0.01)
}

experiment e {
  network   = neurons
  data      = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
  loss      = mean_squared_error
  learn     = deep(beta = 5, nudged_steps = 100)
  optimizer = sgd(lr = 100)
  epochs    = 20
  batch     = none
}
"""


def test_states_that_blow_up_are_named_and_the_run_is_kept(tmp_path: Path) -> None:
    bag = Bag()
    own = check(Source("test.nnspec", SPEC), bag).experiments[-1]
    assert not bag.failed, [repr(error) for error in bag]
    result = train(own, root=tmp_path, out=tmp_path / "runs", device="cpu")
    (problem,) = result.problems
    assert (
        problem.code == "N0731" and "the states of `h`" in problem.message and "`nudged`" in problem.message
    )
    assert (result.path / "metrics.jsonl").exists()
    record = json.loads((result.path / "run.json").read_text())
    assert record["status"] == "diverged"
    kept = next(result.path.rglob("*.safetensors"))
    from safetensors.torch import load_file

    found = {name: t for name, t in load_file(kept).items() if name.startswith("model.")}
    assert found and all(bool(torch.isfinite(t).all()) for t in found.values())
