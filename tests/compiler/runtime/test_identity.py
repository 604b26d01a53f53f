"""The name of a run: whatever changes its numbers changes the name, so that no run is taken for another's.

Each group holds specs that differ in one thing. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.plan import prepare
from nnspec.compiler.runtime.runs import identity

Make = Callable[[str], Experiment]

EXPERIMENT = """
experiment e {
  network = n
  data = moons(samples = 60, test = 0.2)
  loss = cross_entropy
  learn = backprop
  epochs = 1
}
"""


def chain(step: str = "tanh", line: str = "", before: str = "") -> str:
    return f"""{before}
network n {{
  input  x: real[2]
  output y: real[2] = x -> dense(4) as a -> {step} -> dense(2)
  {line}
}}{EXPERIMENT}"""


def owned(line: str) -> str:
    return f"""
network n {{
  input  x: real[2]
  {line}
  output y: real[2] = x * g -> dense(2)
}}{EXPERIMENT}"""


def settling(start: str = "", graph: str = "", dynamics: str = "rate(tanh)") -> str:
    return f"""use library.dynamics
network n {{
  input  x: real[2]
  state  h: real[6] {start}
  connect x -> h
  connect h -> h as rec {graph}
  dynamics {dynamics}
  output y: real[2] = h -> dense(2)
}}{EXPERIMENT}"""


def with_rule(rule: str) -> str:
    return chain(before=f"rule r {{ {rule} }}").replace("backprop", "r")


DRAWN = "layer noisy {{ input x: real[k]\n output y = x + sample(normal(std = {}), like = x) }}"
KEPT = (
    "layer kept {{ input x: real[4]\n buffer c: real[4] = zeros\n update c = {} * c + x\n output y = x - c }}"
)
SENT = "feedback B: drive -> pre = {}\n update weight -= drive.error * pre\n update bias -= drive.error"

ONE_THING = {
    "how weights begin": [chain(line=f"initialize a.weight: normal(std = {s})") for s in (1, 2)]
    + [chain(), chain(line="initialize a.bias: ones")],
    "how weights begin in an experiment": [
        chain().replace("epochs", f"initialize a.weight: normal(std = {s})\n epochs") for s in (1, 2)
    ],
    "how parameters begin": [
        owned(f"parameter g: real[2] = {i}") for i in ("ones", "zeros", "normal(std = 1)", "normal(std = 2)")
    ],
    "how buffers begin": [owned(f"buffer g: real[2] = {i}") for i in ("ones", "zeros", "constant(2)")],
    "how states begin": [settling(s) for s in ("", "= 0.5", "= uniform(0, 0.1)", "= uniform(0, 0.2)")],
    "draws": [chain("noisy", before=DRAWN.format(s)) for s in (1, 2)],
    "updates": [chain("kept", before=KEPT.format(s)) for s in (0.1, 0.2)],
    "activations": [chain(f"leaky_relu(slope = {s})") for s in (0.1, 0.2)]
    + [chain("f", before=f"activation f {{ x => tanh({s} * x) }}") for s in (2, 3)],
    "constraints": [
        chain(line=f"constrain a.weight: {c}")
        for c in ("l1(0.1)", "l1(0.2)", "box(0, 1)", "box(0, 2)", "sparse(0.5)", "sparse(0.25)", "frozen")
    ],
    "masks": [chain(line=f"constrain a.weight: mask((i, j) => i {sign} j)") for sign in (">", ">=")],
    "graphs": [settling(graph=f"from small_world(neighbours = 2, seed = {s})") for s in (1, 2)],
    "solvers": [
        settling(dynamics=f"rate(tanh, {line})")
        for line in (
            "solve = fixed_point(steps = 20)",
            "solve = anderson",
            "clip = [0, 1]",
            "gradient = phantom(2)",
        )
    ],
    "rules": [
        with_rule(f"update weight -= {k} * drive.error * pre\n update bias -= drive.error") for k in (1, 2)
    ],
    "feedback": [with_rule(SENT.format(i)) for i in ("normal(std = 1)", "normal(std = 2)", "uniform(0, 1)")],
}


@pytest.mark.parametrize("specs", ONE_THING.values(), ids=[name.replace(" ", "_") for name in ONE_THING])
def test_what_changes_numbers_changes_the_name(experiment: Make, specs: list[str]) -> None:
    names = [identity(prepare(experiment(text), Path("."), "cpu")) for text in specs]
    assert len({*names}) == len(names)
