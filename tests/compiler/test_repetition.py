"""`repeat` with an index and with kept results, `fork`: elaborated, typed, emitted, drawn, and against torch by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnspec.compiler.diagrams.architecture import draw
from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

CELL = """
layer cell(w: int) {
  input  x: real[n]
  input  h: real[w]
  m = concat(x, h) -> dense(w) -> tanh
  output a: real[n] = m -> dense(n)
  output b: real[w] = m
}
"""


def net(body: str) -> str:
    return f"{CELL}\nnetwork n {{\n  input x: real[8]\n  input h: real[4]\n  {body}\n}}\n"


def chained(state: dict[str, Tensor], name: str, x: Tensor, count: int) -> list[Tensor]:
    found: list[Tensor] = []
    for index in range(count):
        x = torch.tanh(linear(state, f"{name}.{index}.dense", x))
        found.append(x)
    return found


def linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def cell(state: dict[str, Tensor], name: str, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    m = torch.tanh(linear(state, f"{name}.dense", torch.cat([x, h], -1)))
    return linear(state, f"{name}.dense_2", m), m


def kept_cells(state: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    hidden: list[Tensor] = []
    given = x
    for index in range(3):
        given, h = cell(state, f"repeat.{index}.cell", given, h)
        hidden.append(h)
    return torch.cat([*hidden, x, given], -1)


def forked_cells(state: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    both = [cell(state, f"fork.{index}.cell", x, h) for index in range(2)]
    return torch.cat([both[0][1], both[1][1], both[1][0], h], -1)


Twin = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]
TWINS: dict[str, tuple[str, Twin]] = {
    "chain with an index": (
        "output y = x -> repeat(c in [6, 7, 6]) { dense(c) -> tanh }",
        lambda s, x, h: chained(s, "repeat", x, 3)[-1],
    ),
    "index in a range": (
        "output y = concat(x, h) -> repeat(i in 1..3) { dense(2 * i) -> tanh }",
        lambda s, x, h: chained(s, "repeat", torch.cat([x, h], -1), 3)[-1],
    ),
    "kept": (
        "levels = x -> repeat(c in [6, 3, 6], keep = all) { dense(c) -> tanh }\n"
        "  output y = [levels[-1], levels[0], x] -> concat",
        lambda s, x, h: torch.cat([(k := chained(s, "repeat", x, 3))[2], k[0], x], -1),
    ),
    "kept and stacked": (
        "output y = x -> repeat(3, keep = all) { dense(8) -> tanh } as level -> stack -> sum(axis = 0)",
        lambda s, x, h: torch.stack(chained(s, "level", x, 3)).sum(0),
    ),
    "kept, taken apart": (
        "a, b = x -> repeat(2, keep = all) { dense(8) -> tanh }\n  output y = a - b",
        lambda s, x, h: (k := chained(s, "repeat", x, 2))[0] - k[1],
    ),
    "symmetric up and down": (
        "up = x -> repeat(2, keep = all) { dense(8) -> tanh } as up\n"
        "  down = up[1] -> repeat(2, keep = all) { dense(8) -> tanh } as down\n"
        "  output y = up[0] + down[1] + up[1]",
        lambda s, x, h: (u := chained(s, "up", x, 2))[0] + chained(s, "down", u[1], 2)[1] + u[1],
    ),
    "fork": (
        "output y = x -> fork(3) { dense(5) -> tanh } -> stack -> mean(axis = 0)",
        lambda s, x, h: torch.stack([torch.tanh(linear(s, f"fork.{i}.dense", x)) for i in range(3)]).mean(0),
    ),
    "fork over functions": (
        "output y = x -> fork(act in [tanh, sin]) { dense(5) -> act } -> concat",
        lambda s, x, h: torch.cat(
            [torch.tanh(linear(s, "fork.0.dense", x)), torch.sin(linear(s, "fork.1.dense", x))], -1
        ),
    ),
    "several outputs kept": (
        "given, hidden = [x, h] -> repeat(3, keep = all) { cell(4) }\n"
        "  output y = concat(concat(hidden), x, given[-1])",
        kept_cells,
    ),
    "several outputs of a fork": (
        "given, hidden = [x, h] -> fork(2) { cell(4) }\n"
        "  output y = [hidden[0], hidden[1], given[1], h] -> concat",
        forked_cells,
    ),
    "one copy": (
        "output y = x -> fork(1) { dense(5) -> tanh } -> repeat(1, keep = all) { dense(5) -> tanh }",
        lambda s, x, h: chained(s, "repeat", torch.tanh(linear(s, "fork.0.dense", x)), 1)[0],
    ),
    "a fork in a repeat": (
        "output y = x -> repeat(2) { fork(2) { dense(8) } -> add }",
        lambda s, x, h: _nested(s, x),
    ),
}


def _nested(state: dict[str, Tensor], x: Tensor) -> Tensor:
    for index in range(2):
        x = sum((linear(state, f"repeat.{index}.fork.{i}.dense", x) for i in range(2)), torch.zeros(8))
    return x


@pytest.mark.parametrize("name", TWINS)
def test_emitted_code_computes_what_is_written_by_hand(build: Build, name: str) -> None:
    body, twin = TWINS[name]
    graph = verify(build(net(body)))
    net_ = module(graph)
    x, h = torch.randn(5, 8), torch.randn(5, 4)
    state = dict(net_.state_dict())
    expected = twin(state, x, h)
    assert torch.allclose(net_(x, h), expected, atol=1e-6)
    assert torch.equal(net_(x, h), function(graph)(state, x, h))
    parameters = sum(p.numel() for p in net_.parameters())
    assert cost_table(graph).parameters == parameters
    assert symmetry_group(graph) is not None
    assert draw(graph)
    assert graph_data(graph)["network"] == "n"


def test_the_emitted_code_is_a_loop(build: Build) -> None:
    text = emit(build(net("output y = x -> repeat(3, keep = all) { dense(8) -> tanh } as levels -> concat")))
    assert "self.levels = nn.ModuleList([Repeat() for _ in range(3)])" in text
    assert "for layer in self.levels:" in text and "levels.append(" in text
    assert "torch.cat(levels, dim=-1)" in text
    text = emit(build(net("output y = x -> fork(3) { dense(8) -> tanh } -> stack")))
    assert "fork = [layer(x) for layer in self.fork]" in text and "torch.stack(fork, dim=1)" in text


def test_kept_results_do_not_overwrite_each_other(build: Build) -> None:
    """An entry of a list that flows into the next loop is not assigned to."""
    graph = build(net(TWINS["symmetric up and down"][0]))
    assert "up[1] =" not in emit(graph)


def test_one_copy_may_be_constrained(build: Build) -> None:
    graph = build(
        net(
            "output y = x -> fork(3) { dense(5) } -> concat -> repeat(k in [4, 4]) { dense(k) }\n"
            "  constrain fork[2].dense.weight: binary\n  constrain repeat[0].dense.weight: binary"
        )
    )
    fork, repeat = graph.root.children
    binary = [
        [
            bool(dense.weights[0].maps)
            for dense in (block.children[0].instances[0] for block in child.instances)
        ]
        for child in (fork, repeat)
    ]
    assert binary == [[False, False, True], [True, False]]


def test_copies_that_come_out_alike_are_one_object(build: Build) -> None:
    graph = build(net("output y = x -> repeat(c in [8, 8, 8]) { dense(c) }"))
    assert len({id(block) for block in graph.root.children[0].instances}) == 1


def test_an_export_of_kept_results(build: Build) -> None:
    graph = build(net("output y = x -> repeat(3, keep = all) { dense(8) -> tanh } -> concat -> dense(3)"))
    net_: nn.Module = module(graph)
    inputs: Any = (torch.randn(2, 8), torch.randn(2, 4))
    program: Any = torch.export.export(net_, inputs)
    assert torch.allclose(program.module()(*inputs), net_(*inputs))
