"""Which weights a `connect` line makes: matrices over groups, masks with the source first, layers, graphs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import networkx
import pytest
import torch

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.constraints.mask import rows_of
from nnspec.compiler.emit.load import module
from nnspec.compiler.ir import Call, Graph, Loop, Primitive, Pullback, instances
from nnspec.compiler.pipeline import check
from nnspec.compiler.reach import reach
from nnspec.compiler.systems.graphml import BadGraph, read_graphml
from nnspec.compiler.verify import verify
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.format import format as written
from nnspec.dsl.load import load_source
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source

HEAD = "use library.dynamics\nnetwork s(n: int = 4) {\n  input x: real[3]\n"
STATES = "  state h: real[n]\n  state o: real[2]\n"


def network(lines: str, states: str = STATES, dynamics: str = "rate(tanh)", more: str = "") -> str:
    """Return a system with these connections."""
    body = "".join(f"  {line.strip()}\n" for line in lines.strip().splitlines())
    return f"{HEAD}{states}{body}  dynamics {dynamics}\n  output y = o\n{more}}}\n"


def format_text(text: str) -> str:
    """Return a spec in canonical form."""
    return written(parse(Source("test.nnspec", text), Bag()))


def weight(graph: Graph, path: str) -> Primitive:
    """Return the instance at a path."""
    return next(found.primitive for found in instances(graph.root) if found.path == path)


def kept(graph: Graph, path: str) -> set[tuple[int, int]]:
    """Return the entries (target, source) of a weight that exist."""
    found = next(item for item in constrained_weights(graph) if item.path == f"{path}.weight")
    laid = next(rule for rule in found.rules if rule.rule.kind == "topology")
    return {(j, i) for j, row in enumerate(rows_of(laid.site)) for i, bit in enumerate(row) if bit}


def test_the_source_comes_first(build: Callable[..., Graph]) -> None:
    graph = build(network("connect x -> [h, o]\nconnect [h, o] -> [h, o] as rec where (i, j) => i == j + 2"))
    assert kept(graph, "rec") == {(j, j + 2) for j in range(4)}


def test_no_unit_drives_itself(build: Callable[..., Graph]) -> None:
    graph = build(network("connect x -> [h, o]\nconnect [h, o] -> [h, o] as rec except self"))
    assert kept(graph, "rec") == {(j, i) for j, i in product(range(6), repeat=2) if i != j}


@pytest.mark.parametrize(
    ("sources", "targets"), [("[h, o]", "[o, h]"), ("[x, h]", "[h, o]"), ("[o, x, h]", "[h, o]")]
)
def test_no_unit_drives_itself_whatever_the_order(
    build: Callable[..., Graph], sources: str, targets: str
) -> None:
    graph = build(network(f"connect x -> [h, o]\nconnect {sources} -> {targets} as rec except self"))
    sizes = {"x": 3, "h": 4, "o": 2}
    units = [
        [(name, n) for name in side.strip("[]").split(", ") for n in range(sizes[name])]
        for side in (sources, targets)
    ]
    expected = {(j, i) for j, t in enumerate(units[1]) for i, s in enumerate(units[0]) if s != t}
    assert kept(graph, "rec") == expected


def test_a_group_joined_with_itself_is_symmetric_without_a_diagonal(build: Callable[..., Graph]) -> None:
    graph = build(network("connect x -> [h, o]\nconnect [h, o] <-> [h, o] as rec"))
    rec = weight(graph, "rec")
    assert [(c.rule.name, c.options) for c in rec.constraints] == [("symmetric", (("diagonal", False),))]
    found = next(item for item in constrained_weights(graph) if item.path == "rec.weight")
    assert found.free == 6 * 5 // 2


def test_the_two_ways_of_a_connection_share_one_weight(build: Callable[..., Graph]) -> None:
    graph = build(network("connect x -> h\nconnect h <-> o as back"))
    paths = [f"{f.path}.{w.name}" for f in instances(graph.root) for w in f.primitive.weights]
    assert paths == ["dense.weight", "back.weight", "h.bias", "o.bias"]
    (loop,) = (s for s in graph.root.body if isinstance(s, Loop))
    (pulled,) = (s for s in loop.body if isinstance(s, Pullback))
    assert isinstance(pulled.through[0], Call)
    assert pulled.through[0].child == "back"


def test_groups_of_images_are_laid_end_to_end(build: Callable[..., Graph]) -> None:
    states = "  state h: real[2, 3]\n  state o: real[2]\n"
    graph = verify(build(network("connect [x, h] -> [o, h] as all", states)))
    assert weight(graph, "all").weights[0].shape == (8, 9)
    assert weight(graph, "h").weights[0].shape == (2, 3)


def test_a_layer_may_be_the_connection(build: Callable[..., Graph]) -> None:
    text = """
use library.dynamics
network cnn {
  input  x: real[1, 8, 8]
  state  a: real[4, 4, 4]
  state  o: real[10]
  connect x -> a as first via conv2d(4, kernel = 3, padding = 1) -> maxpool(2)
  connect a <-> o as top
  dynamics leaky(hard_sigmoid)
  output y = o
}
"""
    graph = verify(build(text))
    first = weight(graph, "first")
    assert first.operation == "conv2d"
    assert [w.name for w in first.weights] == ["weight"]  # the bias is the state's
    assert weight(graph, "a").weights[0].shape == (4, 1, 1)  # one a channel
    (loop,) = (s for s in graph.root.body if isinstance(s, Loop))
    connection = loop.connections[0]
    assert dict(graph.root.types)[connection.given].shape == (4, 4, 4)
    formatted = format_text(text)
    assert "connect x -> a as first via conv2d(4, kernel = 3, padding = 1) -> maxpool(2)" in formatted
    assert format_text(formatted) == formatted


def test_projections_are_selected_by_that_word(build: Callable[..., Graph]) -> None:
    more = "  constrain every projection.weight: nonnegative\n  constrain h.bias: frozen\n"
    graph = build(network("connect x -> [h, o] as feed\nconnect h -> o as up", more=more))
    under = {c.path for c in constrained_weights(graph)}
    assert under == {"feed.weight", "up.weight", "h.bias"}


def test_what_a_line_says_of_its_weight_stays(build: Callable[..., Graph]) -> None:
    more = "  constrain rec.weight: ternary(threshold = 0.1)\n"
    graph = build(network("connect x -> [h, o]\nconnect [h, o] -> [h, o] as rec except self", more=more))
    assert [m.name for m in weight(graph, "rec").weights[0].maps] == ["ternary", "mask"]
    assert len(kept(graph, "rec")) == 30


def test_what_cannot_stand_beside_it_is_refused(refuse: Callable[[str], list[Any]]) -> None:
    more = "  constrain rec.weight: orthogonal\n"
    (error,) = refuse(network("connect x -> [h, o]\nconnect [h, o] -> [h, o] as rec except self", more=more))
    assert error.code == "N0652"
    assert [r.label for r in error.related] == ["this line makes the weight"]


# -------------------------------------------------------------------------------------------------- graphs


def edges(graph: Graph) -> set[tuple[int, int]]:
    """Return the edges (source, target) of `rec`."""
    return {(i, j) for j, i in kept(graph, "rec")}


def drawn(build: Callable[..., Graph], words: str) -> set[tuple[int, int]]:
    return edges(build(network(f"connect x -> [h, o]\nconnect [h, o] -> [h, o] as rec from {words}"), n=14))


def test_graphs_are_those_of_networkx(build: Callable[..., Graph]) -> None:
    world = networkx.watts_strogatz_graph(16, 4, 0.3, seed=5)
    assert drawn(build, "small_world(neighbours = 4, rewire = 0.3, seed = 5)") == set(
        world.to_directed().edges
    )
    free = networkx.barabasi_albert_graph(16, 3, seed=5)
    assert drawn(build, "scale_free(links = 3, seed = 5)") == set(free.to_directed().edges)
    random = networkx.gnp_random_graph(16, 0.2, seed=5, directed=True)
    assert drawn(build, "random(density = 0.2, seed = 5)") == set(random.edges)


def test_graphs_that_need_no_draw(build: Callable[..., Graph]) -> None:
    assert drawn(build, "complete") == {(i, j) for i, j in product(range(16), repeat=2) if i != j}
    assert drawn(build, "acyclic") == {(i, j) for i, j in product(range(16), repeat=2) if i < j}
    layers = [range(5), range(5, 14), range(14, 16)]
    forth = {(i, j) for a, b in pairwise(layers) for i in a for j in b}
    assert drawn(build, "layered([5, 9, 2])") == forth
    assert drawn(build, "layered([5, 9, 2], back = true)") == forth | {(j, i) for i, j in forth}


def test_an_acyclic_graph_has_no_cycle(build: Callable[..., Graph]) -> None:
    found = drawn(build, "acyclic(density = 0.5, seed = 3)")
    assert 20 < len(found) < 100
    assert networkx.is_directed_acyclic_graph(networkx.DiGraph(list(found)))
    assert drawn(build, "acyclic(density = 0.5, seed = 3)") == found
    assert drawn(build, "acyclic(density = 0.5, seed = 4)") != found


def test_nothing_enters_an_input(build: Callable[..., Graph]) -> None:
    graph = build(network("connect [x, h, o] -> [h, o] as rec from complete"))
    assert weight(graph, "rec").weights[0].shape == (6, 9)
    assert kept(graph, "rec") == {(j, i) for j in range(6) for i in range(9) if i != j + 3}


def test_a_file_of_networkx(tmp_path: Path) -> None:
    brain = networkx.gnp_random_graph(6, 0.4, seed=1, directed=True)
    networkx.write_graphml(brain, tmp_path / "brain.graphml")
    spec = tmp_path / "s.nnspec"
    line = 'connect [h, o] -> [h, o] as rec from graphml("brain.graphml")'
    spec.write_text(network(f"connect x -> [h, o]\n{line}"))
    bag = Bag()
    source = load_source(spec, bag)
    assert source is not None
    checked = check(source, bag)
    assert not bag.failed, list(bag)
    graph = checked.graph(checked.networks()[-1], {})
    assert graph is not None
    assert edges(graph) == set(brain.edges)


def test_undirected_edges_lead_both_ways() -> None:
    text = b"""<graphml><graph edgedefault="undirected"><node id="a"/><node id="b"/><node id="c"/>
<edge source="a" target="b"/><edge source="b" target="c" directed="true"/></graph></graphml>"""
    found = read_graphml(text)
    assert found.nodes == 3
    assert set(found.edges) == {(0, 1), (1, 0), (1, 2)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "no XML"),
        (b"<graphml></graphml>", "no graph"),
        (b'<graphml><graph><edge source="a" target="b"/></graph></graphml>', "node `a`"),
        (b'<graphml><graph><node id="a"/><node id="a"/></graph></graphml>', "no name of its own"),
        (b"<graphml><graph/><graph/></graphml>", "more than one"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><graphml><graph/></graphml>', "entities"),
        (b"\x00\x01", "no XML"),
    ],
)
def test_a_bad_file_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(BadGraph, match=why):
        read_graphml(text)


def test_what_a_chain_of_units_reaches_round_the_loop(build: Callable[..., Graph]) -> None:
    """Only the first unit hears the input; the others hear it after as many rounds as they are away."""
    line = (
        "connect x -> h where (i, j) => j == 0 and i >= 0\nconnect h -> h as rec where (i, j) => j == i + 1"
    )
    graph = build(network(f"{line}\nconnect h -> o where (i, j) => i == 3 and j >= 0"))
    found = reach(graph)
    assert found is not None
    assert found.connected
    rec = next(crossing for crossing in found.crossings if crossing.path == "rec")
    assert rec.leaving & 0b1110 == 0b1110
    assert rec.read & 0b0111 == 0b0111


def test_the_spec_is_formatted_back(build: Callable[..., Graph]) -> None:
    text = network("connect x -> [h, o] as feed\nconnect [h,o]<->[h , o] where (i,j)=>abs(i-j)<=2")
    formatted = format_text(text)
    assert "  connect [h, o] <-> [h, o] where (i, j) => abs(i - j) <= 2\n" in formatted
    assert build(formatted) == build(text)


@pytest.mark.parametrize(
    ("line", "radius"),
    [("connect h -> h as rec", 0.58), ("connect h <-> h as rec", 0.58), ("connect h <-> o as rec", 0.58)],
)
def test_weights_begin_so_that_states_settle(build: Callable[..., Graph], line: str, radius: float) -> None:
    """The linear part of a step contracts: its spectral radius is well below 1 (circular and semicircle laws)."""
    states = "  state h: real[n]\n  state o: real[n]\n"
    graph = build(network(f"connect x -> [h, o]\n{line}", states), n=300)
    torch.manual_seed(0)
    net = module(graph)
    given = net.rec.weight.detach()
    if "<-> h" in line:
        given = given.triu(1) + given.triu(1).T
    if "<-> o" in line:
        none = torch.zeros(300, 300)
        given = torch.cat([torch.cat([none, given.T], 1), torch.cat([given, none], 1)])
    assert abs(float(torch.linalg.eigvals(given).abs().max()) - radius) < 0.05
    net(torch.randn(8, 3))
    assert float(net.residual) < 1e-6
