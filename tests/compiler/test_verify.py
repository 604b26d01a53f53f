"""Each invariant of typed graphs is caught when it is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nnspec.compiler.ir import Graph, Port
from nnspec.compiler.verify import verify, violations
from nnspec.dsl.diagnostics import InternalError

SPEC = """
network n {
  input x: real[4]
  h = x -> dense(4) as a -> tanh
  output y = h -> dense(4) as b
  constrain b.weight: tied(a.weight, transpose = true)
}
"""


def test_a_graph_of_the_ladder_is_sound(build: Callable[..., Graph]) -> None:
    graph = build(SPEC)
    assert list(violations(graph)) == []
    assert verify(graph) is graph


def _body(graph: Graph, **changes: Any) -> Graph:
    return graph.replace(root=graph.root.replace(**changes))


@pytest.mark.parametrize(
    ("broken", "invariant"),
    [
        (lambda g: _body(g, body=g.root.body[1:]), "every value is defined before it is used"),
        (lambda g: _body(g, body=(*g.root.body, g.root.body[0])), "a value is defined once"),
        (
            lambda g: _body(g, children=(*g.root.children, g.root.children[0])),
            "children have names of their own",
        ),
        (lambda g: _body(g, children=g.root.children[1:]), "calls are of children that exist"),
        (lambda g: _body(g, children=g.root.children[1:]), "ties lead to weights that exist"),
        (lambda g: _body(g, types=()), "every value has a type"),
        (
            lambda g: _body(g, outputs=(Port(name="y", value="nowhere"),)),
            "every value is defined before it is used",
        ),
    ],
)
def test_a_broken_graph_is_named(
    build: Callable[..., Graph], broken: Callable[[Graph], Graph], invariant: str
) -> None:
    graph = broken(build(SPEC))
    assert any(invariant in text for text in violations(graph))
    with pytest.raises(InternalError):
        verify(graph)
