"""`constrain` and `initialize` in experiments: the same network as one derived with those lines."""

from __future__ import annotations

from nnspec.compiler.emit.torch import emit
from nnspec.compiler.pipeline import Checked, check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

SPEC = """
let start = 0.5
network net(width: int = 8) {
  input  x: real[n]
  output y: real[3] = x -> dense(width) as fc1 -> tanh -> repeat(2) { dense(width) -> tanh } -> dense(3) as head
}
network derived = net(width = 6) {
  constrain every dense.weight except head.weight: binary
  initialize every dense.bias: constant(start)
  constrain repeat[1].dense.weight: ternary
}
experiment plain {
  network = net(width = 6)
  data    = iris
  loss    = cross_entropy
  learn   = backprop
  epochs  = 1
}
experiment twin = plain { network = derived }
experiment first = plain {
  constrain every dense.weight except head.weight: binary
  initialize every dense.bias: constant(start)
}
experiment laid = first {
  constrain repeat[1].dense.weight: ternary
}
analyze laid { cost }
"""


def checked(text: str) -> Checked:
    bag = Bag()
    found = check(Source("laid.nnspec", text), bag)
    assert not len(bag), [repr(error) for error in bag]
    return found


def test_an_experiments_lines_are_those_of_a_derived_network() -> None:
    found = {experiment.name: experiment.graph for experiment in checked(SPEC).experiments}
    own, wanted = emit(found["laid"]), emit(found["twin"])
    assert own.replace("Net", "Derived").replace("`net`", "`derived`") == wanted
    assert "ternary" not in emit(found["first"])  # what derives from it adds nothing to it
    assert "binary" not in emit(found["plain"])


def test_analyses_of_the_experiment_see_them() -> None:
    found = checked(SPEC)
    (analysis,) = found.analyses
    assert analysis.graph is found.experiments[-1].graph
