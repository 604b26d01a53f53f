"""The functions that `compile --emit rule` shows and training runs, against the same changes term by term."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from by_hand import MLP, direction
from changes_by_term import Changes
from values_by_atom import Values

from nnspec.compiler.pipeline import check
from nnspec.compiler.rules.written.functions import Running
from nnspec.compiler.rules.written.listing import listings
from nnspec.compiler.rules.written.phase import Moment, Record
from nnspec.compiler.rules.written.terms import scale
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.dsl.diagnostics import Bag, RunError
from nnspec.dsl.source import Source

Begun = Callable[..., LearningGroup]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every change that a step computes is held against the same term by term; the list says of which targets."""
    real, seen = Running.__call__, list[str]()

    def both(self: Running, moment: Moment, step: Record | None = None) -> dict[str, Any]:
        found = real(self, moment, step)
        changes = Changes(Values(moment, moment.records, self.place, step))
        for line in moment.equations.updates:
            if line.target in found:
                value = tuple(term for term in scale(line.value, -1.0) if term.steps == self.steps)
                torch.testing.assert_close(found[line.target], changes.of(line.target, value))
        seen.extend(found)
        return found

    monkeypatch.setattr(Running, "__call__", both)
    return seen


WRITTEN = [
    "hebb", "oja", "sanger", "bcm", "backprop_written", "fa", "usf", "kolen_pollack", "dfa", "sparse_dfa", "modular_dfa",
    "difference_target_propagation", "node_perturbation", "predictive_coding", 'forward_forward(shuffled = "x")',
    "equilibrium", 'equilibrium(variant = "vector_field")', 'equilibrium(variant = "asymmetric")',
    "contrastive_hebbian", "brsf", "frsf", "deep(nudged_steps = 3)", "own",
]  # fmt: skip

OWN = """
rule own {
  weigh = where(drive > average(drive), 1, tanh(post)) * sum(post ^ 2) / (2 + mean(pre))
  update weight += weigh * (pre - outgoing(post)) + dense(tanh(post * pre)) - 0.1 * sign(weight) + post - (drive > 0) * pre
  update bias += weigh + incoming(pre) - 0.1 * bias + 0.5
}
"""


@pytest.mark.parametrize("rule", WRITTEN)
def test_the_text_computes_what_its_terms_say(begun: Begun, compared: list[str], rule: str) -> None:
    direction(begun(MLP.format(rule=rule) + (OWN if rule == "own" else "")))
    assert "weight" in compared


@pytest.mark.parametrize("rule", ["delta", "perceptron"])
def test_the_text_computes_what_its_terms_say_in_one_layer(
    begun: Begun, compared: list[str], rule: str
) -> None:
    hidden = "dense(5) as a -> tanh -> dense(4) as b -> relu -> "
    direction(begun(MLP.format(rule=rule).replace(hidden, "")))
    assert compared == ["weight", "bias"]


IMAGES = """
network n { input x: real[8, 8]
  output y: real[10] = x -> reshape([1, 8, 8]) -> conv2d(4, kernel = 3, stride = 2) as a -> tanh
    -> conv2d(4, kernel = 3, padding = 1, groups = 2) as b -> tanh -> flatten -> dense(10) as c }
experiment e { network = n
  data = digits(train = 0.02, test = 0.9)
  loss = cross_entropy
  learn = RULE
  optimizer = sgd(lr = 0.1)
  batch = none
  precision = "float64"
  epochs = 1 }
rule mapped {
  update weight += (incoming(pre) + sum(post)) * pre - post ^ 2 * weight + pre * outgoing(post)
  update bias += post
}
rule through {
  feedback B: output -> post = normal(std = 0.1)
  feedback G: drive -> pre = lecun_uniform
  update weight -= B(output.error) * pre + drive.error * G(post)
}
"""


@pytest.mark.parametrize("rule", ["hebb", "fa", "mapped", "through"])
def test_the_text_computes_what_its_terms_say_with_convolutions(
    begun: Begun, compared: list[str], rule: str
) -> None:
    direction(begun(IMAGES.replace("RULE", rule)))
    assert compared.count("weight") == 3


@pytest.mark.parametrize("rule", ["oja", "sanger", "bcm", "own"])
def test_the_text_computes_what_its_terms_say_in_systems(
    begun: Begun, compared: list[str], rule: str
) -> None:
    from test_networks import EXPERIMENT, NEURONS

    own = "rule own { update weight += post * (pre - outgoing(post)) + incoming(pre) * pre }\n"
    direction(begun(own + NEURONS + EXPERIMENT.format(rule=rule, loss="cross_entropy")))
    assert compared.count("weight") == 3


GOLDEN: Mapping[str, str] = {
    "oja": MLP.format(rule="oja"),
    "kolen_pollack": MLP.format(rule="kolen_pollack"),
    "node_perturbation": MLP.format(rule="node_perturbation"),
    "deep": MLP.format(rule="deep(nudged_steps = 3)"),
    "own_in_images": IMAGES.replace("RULE", "mapped"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    (experiment,) = check(Source("test.nnspec", GOLDEN[name]), Bag()).experiments
    (text,) = listings(experiment).values()
    compile(text, name, "exec")
    golden(f"compiler/rules/written/golden/{name}.py.txt", text)


def test_a_rule_in_python_has_no_equations_to_show() -> None:
    (experiment,) = check(Source("test.nnspec", MLP.format(rule="backprop")), Bag()).experiments
    with pytest.raises(RunError) as refused:
        listings(experiment)
    assert refused.value.error.code == "N0693"
