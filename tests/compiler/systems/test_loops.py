"""Systems become one loop of the graph, which every pass can walk."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nnspec.compiler.emit.graph_json import emit_graph
from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Apply, Call, Graph, Loop, Pullback, instances, walked
from nnspec.compiler.verify import verify, violations

COMPLETE = """
use library.dynamics
network complete(n: int = 5) {
  input  x: real[4]
  state  h: real[n]
  state  o: real[3] = uniform(0, 0.1)
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec where (i, j) => i != j
  dynamics rate(tanh)
  output y = o
}
"""
LAYERED = """
use library.dynamics
network layered {
  input  x: real[4]
  state  h: real[5]
  state  o: real[3]
  connect x -> h as first
  connect h <-> o as second
  dynamics leaky(hard_sigmoid, solve = euler(dt = 0.5, steps = 20), clip = [0, 1], gradient = phantom(3))
  output y = o
}
"""


def loop_of(graph: Graph) -> Loop:
    """Return the one loop of a network."""
    (found,) = (statement for statement in graph.root.body if isinstance(statement, Loop))
    return found


def test_a_map_carries_its_states(build: Callable[..., Graph]) -> None:
    graph = verify(build(COMPLETE))
    loop = loop_of(graph)
    assert loop.form == "map"
    assert [(s.name, s.result) for s in loop.carried] == [("h", "h"), ("o", "o")]
    assert [str(s.declared) for s in loop.carried] == ["real[n: 5]", "real[3]"]
    assert loop.carried[0].start is None
    start = loop.carried[1].start
    assert start is not None
    assert start.name == "uniform"
    assert start.options == {"low": 0, "high": 0.1}
    assert loop.solver.name == "fixed_point"
    assert loop.gradient.name == "ift"
    assert loop.gradient.options == {"steps": 50, "tolerance": 1e-6}
    assert loop.inputs == ("x",)
    assert loop.outputs == ("h", "o")


def test_its_weights_lie_flat_in_the_block(build: Callable[..., Graph]) -> None:
    graph = build(COMPLETE)
    found = {
        f"{located.path}.{weight.name}": weight.shape
        for located in instances(graph.root)
        for weight in located.primitive.weights
    }
    assert found == {"feed.weight": (8, 4), "rec.weight": (8, 8), "h.bias": (5,), "o.bias": (3,)}


def test_what_drives_a_unit_is_named(build: Callable[..., Graph]) -> None:
    loop = loop_of(build(COMPLETE))
    made = {value for statement in loop.body for value in statement.outputs}
    assert {s.driven for s in loop.carried} <= made
    after = {s.after: s.driven for s in loop.carried}
    steps = {s.outputs[0]: s for s in loop.body if isinstance(s, Apply)}
    for value, driven in after.items():
        assert steps[value].operation.operation == "tanh"
        assert steps[value].inputs == (driven,)


def test_connections_say_what_they_join(build: Callable[..., Graph]) -> None:
    feed, rec = loop_of(build(COMPLETE)).connections
    assert (feed.child, feed.sources, feed.targets, feed.both) == ("feed", ("x",), ("h", "o"), False)
    assert (rec.child, rec.sources, rec.targets) == ("rec", ("h_before", "o_before"), ("h", "o"))
    (call,) = (s for s in loop_of(build(COMPLETE)).body if isinstance(s, Call) and s.child == "rec")
    assert (call.inputs, call.outputs) == ((rec.taken,), (rec.given,))


def test_a_two_way_connection_leads_back_by_its_transpose(build: Callable[..., Graph]) -> None:
    loop = loop_of(verify(build(LAYERED)))
    second = loop.connections[1]
    assert second.both
    backs = [s for s in loop.body if isinstance(s, Pullback) and s.name == "second_back"]
    (back,) = backs
    assert back.at == (second.taken,)
    assert [s.child for s in back.through if isinstance(s, Call)] == ["second"]
    assert loop.form == "flow"
    assert loop.clip == (0.0, 1.0)
    assert loop.solver.options == {"dt": 0.5, "steps": 20, "tolerance": 1e-6}
    assert (loop.gradient.name, loop.gradient.options) == ("phantom", {"steps": 3})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {"steps": 250, "tolerance": 1e-6}),
        (", solve = rk4(steps = 300, tolerance = 1e-8)", {"steps": 300, "tolerance": 1e-8}),
        (", solve = anderson(steps = 20)", {"steps": 50, "tolerance": 1e-6}),
        (", solve = euler(tolerance = 0), gradient = ift(steps = 30)", {"steps": 30, "tolerance": 0.0}),
        (", gradient = ift(tolerance = 0.001)", {"steps": 250, "tolerance": 0.001}),
    ],
)
def test_the_backward_iteration_follows_the_solver(
    build: Callable[..., Graph], words: str, expected: dict[str, Any]
) -> None:
    text = LAYERED.split("  dynamics")[0] + f"  dynamics leaky(tanh{words})\n  output y = o\n}}\n"
    assert loop_of(build(text)).gradient.options == expected


def test_one_expression_at_one_place_is_made_once(build: Callable[..., Graph]) -> None:
    rates = [s for s in loop_of(build(LAYERED)).body if isinstance(s, Apply) and s.name.startswith("rate")]
    assert sorted(s.inputs[0] for s in rates) == ["h_before", "o_before", "x"]


def test_the_flat_form_holds_the_body_once(build: Callable[..., Graph]) -> None:
    graph = build(COMPLETE)
    flat = flatten(graph)
    words = [use.primitive.operation for use in flat.uses]
    assert words[0] == "begin"
    assert words[-1] == "settled"
    assert words.count("tanh") == 2
    assert [use.owner for use in flat.uses].count("rec") == 1
    settled = flat.uses[-1]
    names = [flat.values[number].name for number in settled.inputs]
    assert names[:2] == ["h", "o"]
    assert [flat.values[number].name for number in settled.outputs] == ["h", "o"]
    assert flat.outputs == (settled.outputs[1],)


def test_the_graph_as_json_says_the_loop(build: Callable[..., Graph]) -> None:
    data = json.loads(emit_graph(build(COMPLETE)))
    (loop,) = data["definitions"][data["root"]]["body"]
    assert loop["loop"] == "rate"
    assert loop["solver"] == {
        "name": "fixed_point",
        "arguments": {"damping": 1.0, "steps": 50, "tolerance": 1e-6},
    }
    assert loop["connections"][1]["child"] == "rec"
    layered = json.loads(emit_graph(build(LAYERED)))
    (loop,) = layered["definitions"][layered["root"]]["body"]
    assert any("pullback" in statement for statement in loop["body"])


def _with_loop(graph: Graph, change: Callable[[Loop], Loop]) -> Graph:
    body = tuple(change(s) if isinstance(s, Loop) else s for s in graph.root.body)
    return graph.replace(root=graph.root.replace(body=body))


def _carried(loop: Loop, **changes: Any) -> Loop:
    return loop.replace(carried=(loop.carried[0].replace(**changes), *loop.carried[1:]))


@pytest.mark.parametrize(
    ("broken", "invariant"),
    [
        (lambda loop: loop.replace(body=loop.body[1:]), "every value is defined before it is used"),
        (lambda loop: _carried(loop, after="nowhere"), "every value is defined before it is used"),
        (lambda loop: _carried(loop, driven="nowhere"), "every value is defined before it is used"),
        (lambda loop: _carried(loop, before="x"), "a value is defined once"),
        (lambda loop: _carried(loop, after="o_next"), "operations stand at the types they were typed for"),
        (
            lambda loop: loop.replace(connections=(loop.connections[0].replace(child="nobody"),)),
            "connections join states",
        ),
        (
            lambda loop: loop.replace(connections=(loop.connections[0].replace(targets=("x",)),)),
            "connections join states",
        ),
    ],
)
def test_a_broken_loop_is_named(
    build: Callable[..., Graph], broken: Callable[[Loop], Loop], invariant: str
) -> None:
    graph = _with_loop(build(COMPLETE), broken)
    assert any(invariant in text for text in violations(graph))


def test_an_energy_is_pulled_back_to_every_state_at_once(build: Callable[..., Graph]) -> None:
    text = LAYERED.replace("leaky(hard_sigmoid, solve = euler(dt = 0.5, steps = 20)", "hopfield(tanh")
    loop = loop_of(verify(build(text)))
    (slope,) = (s for s in loop.body if isinstance(s, Pullback))
    assert slope.at == ("h_before", "o_before")
    assert slope.outputs == tuple(s.after for s in loop.carried)
    assert loop.energy == slope.end
    # Each connection is counted once, so nothing goes back by a transpose.
    assert not any(isinstance(s, Pullback) for s in walked(slope.through))
