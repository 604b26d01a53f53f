"""Units and connections: the matrix against slopes of the step itself, what is cut off against powers of it, groups by hand."""

from __future__ import annotations

from itertools import permutations
from math import sqrt
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

import nnspec
from nnspec.compiler.checks.survival import survival
from nnspec.compiler.checks.wiring import Misfit, structure, wiring
from nnspec.compiler.checks.wiring_views import graph_plot, matrix_plot, places
from nnspec.compiler.emit.load import initial_state
from nnspec.compiler.emit.system import system
from nnspec.compiler.ir import Graph

SPEC = """use library.dynamics

dynamics plain {
  \"\"\"No function: a step is the drive itself.\"\"\"
  s = drive
}

network neurons {
  input  x: real[2]
  state  h: real[4]
  state  o: real[2]
  connect x -> [h, o] as feed
  connect [h, o] -> [h, o] as rec except self
  dynamics plain
  output y = o
  initialize rec.weight: normal
}

network both_ways {
  input  x: real[3]
  state  h: real[4]
  state  o: real[2]
  connect x -> h as feed
  connect h <-> o as tied
  dynamics plain
  output y = o
}

network mutual {
  input  x: real[3]
  state  h: real[4]
  connect x -> h as feed
  connect h <-> h as rec except self
  dynamics plain
  output y = h
}

network pictures {
  input  x: real[1, 4, 4]
  state  h: real[2, 4, 4]
  state  o: real[3]
  connect x -> h as seen via conv2d(2, kernel = 3, padding = 1)
  connect h -> o as out via flatten -> dense(3)
  dynamics plain
  output y = o
}

network chain {
  input  x: real[2, 2]
  output y: real[3] = x -> flatten -> dense(5) as fc -> tanh -> dense(3) as head
}

network forked {
  input  x: real[4]
  output y: real[4] = x -> [dense(4), dense(4)] -> concat -> dense(4)
}
"""


@pytest.fixture(scope="module")
def spec() -> Any:
    return nnspec.load(SPEC)


def state_of(graph: Graph) -> dict[str, Any]:
    return {key: tensor.double() for key, tensor in initial_state(graph, 0).items()}


@pytest.mark.parametrize("name", ["neurons", "both_ways", "mutual", "pictures"])
def test_the_matrix_is_the_slope_of_a_step(name: str, spec: Any) -> None:
    """Without functions a step is W s plus what inputs send, so autograd of the emitted step gives every entry."""
    graph = spec.network(name).graph
    state = state_of(graph)
    found = wiring(graph, state)
    net = system(graph)
    weights = net.weights(state)
    shapes = [tuple(int(str(n)) for n in dict(graph.root.types)[p.value].shape) for p in graph.root.inputs]
    inputs = torch.zeros(1, *shapes[0]).double()
    first = next(group.begin for group in found.groups if group.kind != "input")

    def step(x: Any, *states: Any) -> Any:
        made: Any = net.step(net.begin(weights, x), states)
        return torch.cat([value.flatten() for value in made])

    start = net.start(net.begin(weights, inputs))
    slopes: Any = torch.func.jacrev(step, argnums=tuple(range(1 + len(start))))(inputs, *start)
    whole = torch.cat([slope.flatten(1) for slope in slopes], 1)
    assert torch.allclose(whole, found.matrix[first:], atol=1e-12)
    assert not bool(found.matrix[:first].any())
    assert torch.equal(found.matrix != 0, found.possible)


def test_a_chain_has_its_readout(spec: Any) -> None:
    graph = spec.network("chain").graph
    state = state_of(graph)
    found = wiring(graph, state)
    assert [(g.kind, g.size) for g in found.groups] == [("input", 4), ("hidden", 5), ("output", 3)]
    assert torch.equal(found.matrix[4:9, :4], state["fc.weight"])
    assert torch.equal(found.matrix[9:, 4:9], state["head.weight"])
    assert int((found.matrix != 0).sum()) == 20 + 15


def test_what_has_no_units_to_list_is_refused(spec: Any) -> None:
    with pytest.raises(Misfit):
        structure(spec.network("forked").graph)
    large = nnspec.load("network n {\n  input x: real[999]\n  output y = x -> dense(9) -> tanh\n}\n")
    with pytest.raises(Misfit, match="1,008 units"):
        structure(large.network().graph)


def kept(graph: Graph, pairs: set[tuple[int, int]]) -> dict[str, Any]:
    """Weights of `neurons` with these connections alone, by numbers of units: h is 2 to 5, o is 6 and 7."""
    state = state_of(graph)
    for key, first in (("feed.weight", 0), ("rec.weight", 2)):
        for row in range(6):
            for column in range(state[key].shape[1]):
                there = (column + first, row + 2) in pairs
                state[key][row, column] = state[key][row, column] if there else 0.0
    return state


def reached(matrix: Any, begin: list[int]) -> set[int]:
    """Units that powers of the matrix lead to from some, and these."""
    count = len(matrix)
    steps = (matrix != 0).double() + torch.eye(count).double()
    linear: Any = torch.linalg
    power = linear.matrix_power(steps, count)
    return {unit for unit in range(count) if any(power[unit, other] > 0 for other in begin)}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_cut_off_and_exchanged_in_random_graphs(seed: int, spec: Any) -> None:
    """Dead and unfed units by powers of the matrix; the group by trying all permutations of the four hidden units."""
    graph = spec.network("neurons").graph
    random = torch.Generator().manual_seed(seed)
    share = 0.15 + 0.08 * seed
    pairs = {
        (a, b)
        for a in range(8)
        for b in range(2, 8)
        if a != b and float(torch.rand((), generator=random)) < share
    }
    found = survival("by hand", wiring(graph, kept(graph, pairs)))
    assert {(a, b) for a, b, _ in found.edges} == pairs and found.allowed == 12 + 30
    matrix = found.wiring.matrix
    assert set(found.unfed) == set(range(2, 8)) - reached(matrix, [0, 1])
    assert set(found.dead) == {2, 3, 4, 5} - reached(matrix.mT, [6, 7])
    keeps = 0
    moved: dict[int, set[int]] = {unit: {unit} for unit in range(2, 6)}
    for order in permutations(range(2, 6)):
        image = dict(zip(range(2, 6), order, strict=True))
        if {(image.get(a, a), image.get(b, b)) for a, b in pairs} == pairs:
            keeps += 1
            for unit in range(2, 6):
                moved[unit].add(image[unit])
    neurons = found.group.derivation.neurons
    assert neurons is not None and neurons.order == keeps
    assert set(found.orbits) == {tuple(sorted(units)) for units in moved.values() if len(units) > 1}


def test_small_weights_may_count_as_gone(spec: Any) -> None:
    graph = spec.network("neurons").graph
    whole = wiring(graph, state_of(graph))
    sizes = sorted(float(abs(w)) for _, _, w in survival("all", whole).edges)
    found = survival("large ones", whole, below=sizes[9])
    assert len(found.edges) == len(sizes) - 10 and min(abs(w) for _, _, w in found.edges) > sizes[9]


def test_the_graph_as_a_picture(spec: Any) -> None:
    """An arrow for each connection, as wide as its weight is large; each unit once, those that are dead crossed."""
    graph = spec.network("neurons").graph
    pairs = {(0, 2), (2, 6), (0, 3), (1, 4)}
    found = survival("by hand", wiring(graph, kept(graph, pairs)))
    assert found.dead == (3, 4, 5) and found.unfed == (5, 7)
    axes = Figure().subplots()
    graph_plot(found).draw(axes)
    arrows = [p for p in axes.patches if type(p).__name__ == "FancyArrowPatch"]
    widths = sorted(
        (abs(w), arrow.get_linewidth()) for (_, _, w), arrow in zip(found.edges, arrows, strict=True)
    )
    assert [width for _, width in widths] == sorted(width for _, width in widths) and len(arrows) == 4
    where = places(found.wiring)
    assert len(set(where.values())) == 8 and where[0][0] < where[2][0] < where[6][0]
    assert len(axes.collections) == 8 + len(found.dead)
    assert all(
        sqrt((a - c) ** 2 + (b - d) ** 2) > 0.1
        for a, b in where.values()
        for c, d in where.values()
        if (a, b) != (c, d)
    )


def test_the_matrix_as_a_picture_leaves_blank_what_there_is_not(spec: Any) -> None:
    graph = spec.network("neurons").graph
    found = wiring(graph, kept(graph, {(0, 2), (2, 6)}))
    plot = matrix_plot([("before", wiring(graph, state_of(graph))), ("after", found)], "both")
    panels = Figure().subplots(*plot.panels, squeeze=False)
    plot.draw(panels)
    shown = panels[0, 1].images[0].get_array()
    assert shown.shape == (6, 8) and int((~shown.mask).sum()) == 2
    assert float(shown[0, 0]) == pytest.approx(float(found.matrix[2, 0]))
    scales = {panels[0, k].images[0].get_clim() for k in (0, 1)}
    assert len(scales) == 1 and next(iter(scales))[0] == -next(iter(scales))[1]
