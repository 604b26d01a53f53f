"""Which symmetries commute with which learning rule: a few steps from g(weights) against g of the steps from the weights.

`python benchmarks/equivariance.py [RULE ..]` prints a row for each rule, by default those of `specs/rules/one_network.nnspec`, on
one small network with units of tanh, of a rectifier and a linear wire, by plain gradient steps in double precision.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rounds import table

from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.runtime.plan import prepare
from nnspec.dsl.diagnostics import SpecError
from nnspec.spec import load

RULES = Path(__file__).parent.parent / "specs" / "rules" / "one_network.nnspec"
FAMILIES = ("permutations", "signs", "rotations", "stretches", "scales", "shifts")
SPEC = """
network small {{
  input  x: real[2]
  output y: real[2] = x
    -> dense(5) as fc1
    -> tanh
    -> dense(4) as fc2
    -> dense(4) as fc3
    -> relu
    -> dense(2) as head
}}

experiment small_run {{
  network   = small
  data      = circles(samples = 60, noise = 0.1)
  loss      = cross_entropy
  learn     = {rule}
  optimizer = sgd(lr = 0.05)
  epochs    = 4
  batch     = 16
}}
"""


def row(rule: str) -> list[str]:
    """Return what commutes with a rule: the differences, over the way of the steps, that are no rounding."""
    try:
        plan = prepare(load(SPEC.format(rule=rule)).experiment().fitted, Path())
        subject = Subject(graph=plan.graph, experiment=plan.experiment, plan=plan)
        found = find("equivariance").run(subject, {"steps": 3, "seed": 0}).data["families"]
    except SpecError as error:
        return [f"`{rule}`", *(f"{error.errors[0].code}" for _ in FAMILIES)]
    by = {one["family"]: "yes" if one["commutes"] else f"{one['difference']:.1e}" for one in found}
    return [f"`{rule}`", *(by.get(family, "") for family in FAMILIES)]


def main(arguments: list[str]) -> None:
    written = re.findall(r"^ +learn\s*= (.+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
    rules = arguments or list(dict.fromkeys(written))
    print(table(("rule", *FAMILIES), [row(rule) for rule in rules]))


if __name__ == "__main__":
    main(sys.argv[1:])
