"""What `compile --emit rule` shows is what training computes: given what a step reads, its functions give the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from by_hand import MLP, direction
from torch.nn import functional

from nnspec.compiler.pipeline import check
from nnspec.compiler.rules.written import rule as rules
from nnspec.compiler.rules.written.expressions import map_lines
from nnspec.compiler.rules.written.listing import feeds_of, listings, ranks_of
from nnspec.compiler.rules.written.source import HELPERS, JunctionFunction
from nnspec.compiler.rules.written.terms import Sum
from nnspec.compiler.rules.written.values import Values
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.dsl.diagnostics import Bag, RunError
from nnspec.dsl.source import Source

Begun = Callable[..., LearningGroup]


def as_shown(values: Values, target: str, value: Sum) -> torch.Tensor:
    """What the text of a change gives for the values of a step."""
    moment, place = values.moment, values.junction
    own = moment.scheme.junctions[place]
    first = "" if values.step is not None else moment.equations.phases[0].name
    feeds, ranks = feeds_of(moment.equations, moment.scheme, own), ranks_of(moment.scheme, own)
    written = JunctionFunction("shown", own, [(target, value)], feeds, ranks, first)
    maps = "\n".join(map_lines(own)) if "map" in written.helpers else ""
    known: dict[str, Any] = {"torch": torch, "F": functional}
    exec("\n".join([*HELPERS.values(), maps, written.text]), known)
    given = {name: read(values, *word) for word, name in written.given.items()}
    steps = getattr(values.step, "times", 1)  # a step's text; several may have been laid end to end
    return known["shown"](**given) * steps


def read(values: Values, phase: str, word: str) -> Any:
    moment, place = values.moment, values.junction
    if phase == "feedback":
        return moment.feedback.of(word, place, moment.weights[place])
    if word in ("weight", "bias"):
        return (moment.weights if word == "weight" else moment.biases)[place]
    record = values.step if values.step is not None and not phase else values.records[phase]
    return record.read(word, place)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every change that a rule computes is held against its text; the list says of which targets."""
    real, seen = rules._change, list[str]()

    def both(values: Values, target: str, value: Sum) -> Any:
        found = real(values, target, value)
        torch.testing.assert_close(as_shown(values, target, value), found)
        seen.append(target)
        return found

    monkeypatch.setattr(rules, "_change", both)
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
def test_the_text_computes_what_training_does(begun: Begun, compared: list[str], rule: str) -> None:
    direction(begun(MLP.format(rule=rule) + (OWN if rule == "own" else "")))
    assert "weight" in compared


@pytest.mark.parametrize("rule", ["delta", "perceptron"])
def test_the_text_computes_what_training_does_in_one_layer(
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
def test_the_text_computes_what_training_does_with_convolutions(
    begun: Begun, compared: list[str], rule: str
) -> None:
    direction(begun(IMAGES.replace("RULE", rule)))
    assert compared.count("weight") == 3


@pytest.mark.parametrize("rule", ["oja", "sanger", "bcm", "own"])
def test_the_text_computes_what_training_does_in_systems(
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
