"""A chain read as a system: the same weights, the loop's equations, and what cannot be read so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nnspec.compiler.emit.form import site_of
from nnspec.compiler.emit.load import initial_state
from nnspec.compiler.ir import Apply, Call, Graph, Loop, Primitive, Pullback, Statement, instances
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.pipeline import check
from nnspec.compiler.rewrites.system import NotAChain, as_system, is_system
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

CONV = """\
x -> conv2d(4, kernel = 3) as c1 -> maxpool(2) -> hard_sigmoid -> avgpool(3) -> flatten
  -> dense(6) as fc -> tanh -> dense(3) as head
"""
DENSE = "x -> flatten -> dense(7) as a -> tanh -> dense(5) as b -> dense(4) as c -> sigmoid"


def typed(chain: str, before: str = "") -> Graph:
    bag = Bag()
    text = f"{before}\nnetwork n {{\n  input x: real[1, 8, 8]\n  output y = {chain}\n}}\n"
    checked = check(Source("test.nnspec", text), bag)
    graph = checked.graph(checked.networks()[-1])
    assert not bag.failed and graph is not None, [repr(error) for error in bag]
    return graph


def loop_of(graph: Graph) -> Loop:
    (loop,) = (statement for statement in graph.root.body if isinstance(statement, Loop))
    return loop


class Evaluated:
    """Statements of a body by the operations' own expressions, backward maps by torch's."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights = {n: t.double() for n, t in initial_state(graph, 0).items()}

    def run(self, body: tuple[Statement, ...], values: dict[str, Tensor]) -> dict[str, Tensor]:
        found = dict(values)
        for statement in body:
            if isinstance(statement, Pullback):
                (at,) = statement.at

                def through(
                    value: Tensor, own: Pullback = statement, known: dict[str, Tensor] = found
                ) -> Tensor:
                    return self.run(own.through, {**known, own.at[0]: value})[own.end]

                back: Any = torch.func.vjp(through, found[at])[1]
                found[statement.outputs[0]] = back(found[statement.cotangent])[0]
            elif isinstance(statement, Apply | Call):
                found[statement.outputs[0]] = self.call(statement, found)
        return found

    def call(self, statement: Apply | Call, values: dict[str, Tensor]) -> Tensor:
        if isinstance(statement, Apply):
            primitive: Any = statement.operation
        else:
            (primitive,) = self.graph.root.child(statement.child).instances
        assert isinstance(primitive, Primitive)
        names: dict[str, Any] = {f"x{i}": values[v] for i, v in enumerate(statement.inputs)}
        owned = {w.name: f"w_{w.name}" for w in primitive.weights}
        child = getattr(statement, "child", "")
        names |= {f"w_{w.name}": self.weights[f"{child}.{w.name}"] for w in primitive.weights}
        inputs = tuple(f"x{i}" for i in range(len(statement.inputs)))
        text = operation(primitive.operation).call(site_of(primitive), inputs, owned | {"training": "False"})
        return eval(text, {"torch": torch, "F": F, **names})


def states(loop: Loop, draw: torch.Generator) -> dict[str, Tensor]:
    def shape(given: Any) -> tuple[int, ...]:
        return tuple(int(size) for size in given.shape)

    return {
        state.before: torch.randn(2, *shape(state.declared), generator=draw, dtype=torch.float64)
        for state in loop.carried
    }


def test_paths_and_tensors_stay_and_only_the_body_is_another() -> None:
    graph = typed(CONV)
    found = as_system(graph, back=True)
    assert [item.path for item in instances(found.root)] == [item.path for item in instances(graph.root)]
    assert not is_system(graph) and is_system(found) and as_system(found, back=True) is found
    loop = loop_of(found)
    assert [state.name for state in loop.carried] == ["c1", "fc"]
    assert [type(statement) for statement in found.root.body] == [Loop, Call]  # the head reads out
    assert [(c.child, c.targets, c.both) for c in loop.connections] == [
        ("c1", ("c1",), False),
        ("fc", ("fc",), True),
    ]


@pytest.mark.parametrize("chain", [CONV, DENSE])
def test_without_ways_back_a_step_for_each_layer_is_the_forward_pass(chain: str) -> None:
    graph = typed(chain)
    system = as_system(graph, back=False)
    run, loop = Evaluated(graph), loop_of(system)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 8, 8, generator=draw, dtype=torch.float64)
    forward = run.run(graph.root.body, {"x": x})
    before = tuple(s for s in system.root.body if not isinstance(s, Loop))
    outside = run.run(tuple(s for s in before if s.inputs == ("x",)), {"x": x})
    values = outside | states(loop, draw)
    for _ in loop.carried:
        after = run.run(loop.body, values)
        values |= {state.before: after[state.after] for state in loop.carried}
    for state in loop.carried:
        torch.testing.assert_close(values[state.before], forward[state.result])


def phi(found: Evaluated, x: Tensor, s: list[Tensor]) -> Tensor:
    """Phi of Laborieux and others, 2021, for the chain CONV: the sum of <s, its connection from below>."""
    w = found.weights
    first = F.max_pool2d(F.conv2d(x, w["c1.weight"], w["c1.bias"]), 2)
    second = F.linear(F.avg_pool2d(s[0], 3).flatten(1), w["fc.weight"], w["fc.bias"])
    return (s[0] * first).sum() + (s[1] * second).sum()


def test_with_ways_back_the_drives_are_the_slope_of_phi() -> None:
    graph = typed(CONV)
    run, loop = Evaluated(graph), loop_of(as_system(graph, back=True))
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, 8, 8, generator=draw, dtype=torch.float64)
    given = states(loop, draw)
    after = run.run(loop.body, {"x": x, **given})
    leaves = [value.requires_grad_() for value in given.values()]
    slopes = torch.autograd.grad(phi(run, x, leaves), leaves)
    for state, slope in zip(loop.carried, slopes, strict=True):
        torch.testing.assert_close(after[state.driven or state.after], slope)
    torch.testing.assert_close(after[loop.carried[0].after], slopes[0].clamp(0, 1))
    torch.testing.assert_close(after[loop.carried[1].after], slopes[1].tanh())


def test_a_map_without_a_function_has_linear_units_but_the_last_reads_out() -> None:
    loop = loop_of(as_system(typed(DENSE), back=True))
    assert [state.name for state in loop.carried] == ["a", "b", "c"]
    linear = loop.carried[1]
    assert linear.after == linear.driven


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ("x -> flatten -> (dense(4) -> tanh) + dense(4)", "not one step of a single chain"),
        (
            "x -> flatten -> dense(4) -> layernorm -> tanh",
            "`layernorm` has parameters and is not a linear map",
        ),
        ("x -> flatten -> dense(4) -> softmax", "neither a linear map, a pooling nor a function"),
        ("x -> flatten -> dense(4) -> dropout(0.5) -> tanh", "`dropout` draws random numbers"),
        ("x -> flatten -> dense(4)", "has no units"),
        ("x -> flatten -> tanh", "no linear map whose weights"),
        ("x -> flatten -> part(4)", "a part with a body of its own"),
        ("x -> flatten -> dense(4) -> bent", "has parameters of its own"),
        (
            "x -> flatten -> dense(4) -> tanh -> reshape([2, 2]) -> tanh -> flatten -> dense(2)",
            "no linear map stands",
        ),
    ],
)
def test_what_is_no_chain_says_where_and_why(chain: str, why: str) -> None:
    before = """
layer part(n: int) {
  input x: real[m]
  output y = x -> dense(n) -> tanh
}
activation bent(learn a: real = 1.0) { x => tanh(a * x) }
"""
    if chain.startswith("x -> flatten -> (dense"):
        chain = "(x -> flatten -> dense(4) -> tanh) + (x -> flatten -> dense(4) as d)"
    with pytest.raises(NotAChain) as error:
        as_system(typed(chain, before), back=True)
    assert why in error.value.why
    assert error.value.span is not None
