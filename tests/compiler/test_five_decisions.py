"""The five decisions that would hurt most if wrong, each on one small case.

1. Checking after elaboration shows both places. 2. Instances and weights: one state dict, one emission, one
count. 3. Three kinds of rule (see tests/compiler/symmetry and tests/compiler/rewrites). 4. Rules see synapses
(tests/compiler/test_synapses.py), and backprop as an equation has cosine 1 with autograd on a binary residual conv
net (tests/compiler/rules/written/test_directions.py). 5. The emission table (tests/compiler/emit/test_targets.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.load import load_source

BROKEN = "x + (x -> dense(5))"
PLACES = {
    "higher-order layer": (
        f"layer broken {{\n input x: real[4]\n output y = {BROKEN}\n}}\n"
        "layer apply(block: layer) {\n input x: real[4]\n output y = x -> block\n}\n"
        "network n {\n input x: real[4]\n output y = x -> apply(broken)\n}\n",
        3,
        {7: "block", 11: "apply"},
    ),
    "conditional": (
        f"layer broken(wrong: bool) {{\n input x: real[4]\n bad = {BROKEN} if wrong else x\n output y = bad\n}}\n"
        "network n {\n input x: real[4]\n output y = x -> broken(true)\n}\n",
        3,
        {8: "broken"},
    ),
    "repeat": (
        f"layer broken {{\n input x: real[4]\n output y = {BROKEN}\n}}\n"
        "network n {\n input x: real[4]\n output y = x -> repeat(3) { relu -> broken }\n}\n",
        3,
        {7: "broken"},
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_shape_error_shows_the_definition_and_the_use(
    refuse: Callable[[str], list[Any]], case: str
) -> None:
    text, line, uses = PLACES[case]
    (error,) = refuse(text)
    assert (error.code, error.span.line) == ("N0401", line)
    shown = [(item.span.line, item.label) for item in error.related]
    for use, name in uses.items():
        assert any(line == use and name in label for line, label in shown)


def test_a_shape_error_in_an_import_shows_both_files(tmp_path: Path) -> None:
    (tmp_path / "parts.nnspec").write_text(f"layer broken {{\n input x: real[4]\n output y = {BROKEN}\n}}\n")
    main = tmp_path / "main.nnspec"
    main.write_text('use "parts.nnspec" as p\nnetwork n {\n input x: real[4]\n output y = x -> p.broken\n}\n')
    bag = Bag()
    source = load_source(main, bag)
    assert source is not None
    check(source, bag)
    (error,) = bag
    assert error.span is not None
    assert (error.code, Path(error.span.source.name).name, error.span.line) == ("N0401", "parts.nnspec", 3)
    assert any(item.span.source is source and item.span.line == 4 for item in error.related)


WEIGHTS = """
constraint squashed { w => tanh(w) }

layer f(width: int) {
  input x: real[width]
  output y = x -> dense(width) as d -> tanh
}

network n {
  input x: real[6]
  shared enc = dense(6)
  both = (x -> enc -> tanh) -> enc
  deep = both -> repeat(4) { f(6) } -> dense(6) as encoder -> tanh
  output y = deep -> dense(6) as decoder
  constrain repeat[2].f.d.weight: binary
  constrain enc.weight: squashed
  constrain decoder.weight: tied(encoder.weight, transpose = true)
}
"""


def test_instances_and_weights(build: Callable[..., Graph]) -> None:
    import torch

    from nnspec.compiler.emit.load import module
    from nnspec.compiler.passes.cost import cost_table

    graph = build(WEIGHTS)
    net = module(graph)
    expected = {"enc.weight": (6, 6), "enc.bias": (6,)}
    for index in range(4):
        expected[f"repeat.{index}.f.d.weight"] = (6, 6)
        expected[f"repeat.{index}.f.d.bias"] = (6,)
    expected |= {"encoder.weight": (6, 6), "encoder.bias": (6,), "decoder.bias": (6,)}
    state = net.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected
    assert sum(value.numel() for value in state.values()) == cost_table(graph).parameters

    x = torch.randn(5, 6)
    enc = torch.tanh(state["enc.weight"])
    h = torch.tanh(x @ enc.T + state["enc.bias"]) @ enc.T + state["enc.bias"]
    for index in range(4):
        weight = state[f"repeat.{index}.f.d.weight"]
        if index == 2:
            weight = torch.where(weight >= 0, 1.0, -1.0)
        h = torch.tanh(h @ weight.T + state[f"repeat.{index}.f.d.bias"])
    h = torch.tanh(h @ state["encoder.weight"].T + state["encoder.bias"])
    torch.testing.assert_close(net(x), h @ state["encoder.weight"] + state["decoder.bias"])
