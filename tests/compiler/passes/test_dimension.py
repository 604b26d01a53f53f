"""The functional dimension: against closed forms, another Jacobian, and weights made degenerate by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nnspec.compiler.emit.load import function, initial_state
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.probe import DEFAULT, draw_probe
from nnspec.compiler.fibres.rank import PARAMETER_LIMIT, spectrum
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Result, Subject
from nnspec.compiler.passes.registry import find
from nnspec.dsl.diagnostics import SpecError

Build = Callable[..., Graph]
State = dict[str, torch.Tensor]


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


TANH = net("output y = x -> dense(8) as a -> tanh -> dense(3) as b")
SMALL = DEFAULT.replace(arguments=(("samples", 64), ("scale", 1.0), ("side", 3.0)))
RELU = net("output y = x -> dense(6) as a -> relu -> dense(3) as b")


def measure(graph: Graph, *states: State, **options: Any) -> Result:
    return find("dimension").run(Subject(graph=graph, states=states), options)


def double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


def causes(graph: Graph, state: State) -> dict[str, int]:
    return measure(graph, state).data["points"][0]["causes"]


@pytest.mark.parametrize(
    ("body", "dimension", "declared"),
    [
        ("output y = x -> dense(8) -> tanh -> dense(8) -> tanh -> dense(3)", 139, 0),
        ("output y = x -> dense(8) -> dense(8) -> dense(3)", 15, 124),  # of the composite map alone
        ("output y = (x -> dense(6) -> silu) * (x -> dense(6, bias = false)) -> dense(3)", 69, 6),
        ("output y = x -> dense(5) -> softmax -> dense(3)", 35, 8),  # a shift of the logits, a constant sum
        ("output y = (x -> dense(4)) * (x -> dense(4))", 36, 4),
    ],
)
def test_at_generic_weights_all_that_is_not_declared_moves_the_outputs(
    build: Build, body: str, dimension: int, declared: int
) -> None:
    data = measure(build(net(body)), weights="normal").data
    assert (data["dimension"], data["declared"], data["parameters"]) == (
        dimension,
        declared,
        dimension + declared,
    )
    assert [point["hidden"] for point in data["points"]] == [0, 0, 0]


def test_the_spectrum_is_that_of_a_jacobian_by_finite_differences(build: Build) -> None:
    graph = build(TANH)
    chart = Chart(graph, initial_state(graph, 3))
    found = spectrum(chart, lambda more, count: draw_probe(graph, SMALL, more, count), 64)
    (x,) = draw_probe(graph, DEFAULT, 0, 64)
    forward, step, columns = function(graph), 1e-6, []
    for index in range(chart.count):
        move = torch.zeros(chart.count, dtype=torch.float64)
        move[index] = step
        ahead, behind = (forward(chart.state(chart.point + sign * move), x) for sign in (1, -1))
        columns.append((ahead - behind).reshape(-1) / (2 * step))
    values = torch.linalg.svdvals(torch.stack(columns, dim=1))
    assert found.inputs == 64 and found.rank == chart.count == 67
    assert torch.allclose(
        torch.tensor(found.values, dtype=torch.float64), values, atol=1e-7 * float(values[0])
    )


def test_windows_along_named_axes_and_norms_that_keep_statistics_are_counted(build: Build) -> None:
    """Beside statistics that stand still, the gain takes up a scale before it, and the bias behind it a shift."""
    windows = net(
        "output y = x -> dense(12) -> reshape([6, 2]) -> conv1d(2, kernel = 3, along = 0) -> flatten"
    )
    assert measure(build(windows), weights="normal").data["declared"] > 0
    data = measure(
        build(net("output y = x -> dense(5) -> batchnorm -> tanh -> dense(3)")), weights="normal"
    ).data
    assert data["declared"] == 5 + 5
    assert [point["nullity"] for point in data["points"]] == [10, 10, 10]


def test_functions_that_are_steps_have_no_kernel(build: Build) -> None:
    """Nothing moves with the weights before a step, of which eight scales are declared; no read-out is the cause."""
    text = "activation step {\n  x => where(x > 0, 1, -1)\n}\n" + net(
        "output y = x -> dense(8) -> step -> dense(3)"
    )
    (first, *_) = measure(build(text)).data["points"]
    assert (first["nullity"], first["hidden"]) == (40, 40 - 8) and "kernel of a read-out" not in first[
        "causes"
    ]


def test_twice_the_same_unit_and_one_that_nothing_reads(build: Build) -> None:
    graph = build(TANH)
    state = double(initial_state(graph, 0))
    state["a.weight"][1], state["a.bias"][1] = state["a.weight"][0], state["a.bias"][0]
    assert causes(graph, state) == {"duplicate units": 3}  # a1 + a2 is fixed, for three outputs
    state["b.weight"][:, 5] = 0
    assert causes(graph, state) == {"duplicate units": 3, "kernel of a read-out": 5}


def test_a_unit_of_opposite_sign_is_a_double_too(build: Build) -> None:
    graph = build(TANH)
    state = double(initial_state(graph, 0))
    state["a.weight"][1], state["a.bias"][1] = -state["a.weight"][0], -state["a.bias"][0]
    assert causes(graph, state) == {"duplicate units": 3}


def test_a_constant_unit_can_be_moved_to_the_bias(build: Build) -> None:
    graph = build(TANH)
    state = double(initial_state(graph, 0))
    state["a.weight"][2] = 0
    assert causes(graph, state) == {"constant unit": 4}  # three outgoing weights, and its own bias


def test_a_dead_unit_frees_all_its_weights_but_the_scale(build: Build) -> None:
    graph = build(RELU)
    state = double(initial_state(graph, 1))
    state["a.weight"][0], state["a.bias"][0] = 0.1, -50.0
    result = measure(graph, state)
    point = result.data["points"][0]
    assert point["causes"] == {"dead unit": 7}  # 4 + 1 incoming, 3 outgoing, of which the group has one
    assert point["units"][0]["kinds"][0] == "dead" and point["units"][0]["active"][0] == 0
    assert set(point["layers"]) == {"a.weight", "a.bias", "b.weight"}
    assert sum(point["layers"].values()) == pytest.approx(1)


def test_a_unit_that_is_always_on_is_part_of_the_bias_behind_it(build: Build) -> None:
    graph = build(RELU)
    state = double(initial_state(graph, 1))
    state["a.weight"][0], state["a.bias"][0] = 0.1, 50.0
    assert causes(graph, state) == {"always-on unit": 1}
    state["a.weight"][1], state["a.bias"][1] = torch.tensor([0.1, -0.2, 0.3, 0.0]), 50.0
    assert causes(graph, state) == {"always-on unit": 4}  # a shift each, and GL(2) beyond two scales


def test_inputs_are_raised_until_all_regions_are_seen(build: Build) -> None:
    """A unit with its kink far out needs more inputs than the probe has."""
    graph = build(net("output y = x -> dense(2) as a -> relu -> dense(1) as b", "real[1]"))
    state = double(initial_state(graph, 0))
    state["a.weight"][:, 0] = torch.tensor([1.0, 1.0])
    state["a.bias"][:] = torch.tensor([-2.95, 0.2])
    state["b.weight"][:] = 1.0
    point = measure(graph, state, probe=SMALL).data["points"][0]
    assert point["inputs"] > 64 and point["rank"] == 5 and point["hidden"] == 0


def test_the_strata_of_a_net_of_four_parameters(build: Build) -> None:
    """f(x) = s |x| for x < 0, 0 for x > 0: the fibre has parts of dimension 3 and of dimension 2."""
    graph = build(
        net("output y = x -> dense(2, bias = false) as a -> relu -> dense(1, bias = false) as b", "real[1]")
    )
    one = {"a.weight": torch.tensor([[-0.5], [-2.0]]), "b.weight": torch.tensor([[0.2, -0.3]])}
    other = {"a.weight": torch.tensor([[-0.5], [2.0]]), "b.weight": torch.tensor([[0.2, 0.0]])}
    points = measure(graph, one, other).data["points"]
    assert [point["rank"] for point in points] == [1, 2]
    assert [point["nullity"] for point in points] == [3, 2]
    assert [point["causes"] for point in points] == [{"duplicate units": 1}, {}]


def test_float32_weights_are_taken_as_they_are_and_float32_ranks_are_refused(build: Build) -> None:
    graph = build(TANH)
    state = initial_state(graph, 0)
    result = measure(graph, state)
    assert result.data["stored"] == "float32" and "float64" in result.summary
    assert result.data["points"][0]["spectrum"] == measure(graph, double(state)).data["points"][0]["spectrum"]
    with pytest.raises(SpecError) as refused:
        measure(graph, state, precision="float32")
    assert [error.code for error in refused.value.errors] == ["N0970"]


def test_weights_that_are_not_finite_are_refused_by_name(build: Build) -> None:
    graph = build(TANH)
    state = initial_state(graph, 0)
    state["a.bias"][2] = float("nan")
    with pytest.raises(SpecError) as refused:
        measure(graph, state)
    (error,) = refused.value.errors
    assert error.code == "N0971" and "`a.bias` of state 0" in error.message


def test_derivatives_that_are_not_finite_are_refused(build: Build) -> None:
    graph = build(net("output y = x -> dense(3) as a -> sqrt -> dense(1)"))
    with pytest.raises(SpecError) as refused:
        measure(graph, seeds=1)
    (error,) = refused.value.errors
    assert error.code == "N0971" and "derivatives" in error.message and "seed 0" in error.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f"output y = x -> dense({PARAMETER_LIMIT}) -> relu -> dense(3)", "N0972"),
        ("output y = x -> relu", "N0976"),
        ("output y = x -> dense(3, bias = false) as a\n  constrain a.weight: binary", "N0976"),
    ],
)
def test_what_has_no_rank_is_refused(build: Build, body: str, code: str) -> None:
    with pytest.raises(SpecError) as refused:
        measure(build(net(body)))
    assert [error.code for error in refused.value.errors] == [code]


@pytest.mark.parametrize(
    "text",
    [
        net("output y = x -> embedding(5, 3) -> dense(2) -> tanh", "int[4]"),
        net("output y = x -> dense(3) -> tanh -> mean(axis = 0) -> dense(2)", "real[T, 4]"),
        net("h = x -> dense(3) -> relu\n  output y = h -> dense(2)\n  output z = h -> sum"),
        net("output y = x -> conv2d(2, kernel = 3) -> relu -> flatten -> dense(2)", "real[1, 5, 5]"),
        net("output y = x -> dense(5) -> batchnorm -> relu -> dropout(0.5) -> dense(2)"),
    ],
    ids=["whole numbers", "symbolic sizes", "two outputs", "convolution", "norm and dropout"],
)
def test_every_kind_of_network_has_a_dimension(build: Build, text: str) -> None:
    data = measure(build(text), weights="normal", seeds=1).data
    point = data["points"][0]
    assert point["rank"] + point["nullity"] == data["parameters"]
    assert point["nullity"] - data["declared"] == point["hidden"] == sum(point["causes"].values())


BLOCKS = "output y = x -> dense(6) as a -> relu -> dense(6) as b -> tanh -> dense(2)\n  constrain b.weight: "
MASK = "mask((i, j) => i // 2 == j // 2)"


@pytest.mark.parametrize(
    ("body", "declared", "redundant"),
    [(BLOCKS + MASK, 6, 24), (BLOCKS.replace("relu", "tanh") + "symmetric", 0, 15)],
)
def test_stored_numbers_that_a_constraint_does_not_use_are_not_hidden(
    build: Build, body: str, declared: int, redundant: int
) -> None:
    result = measure(build(net(body)))
    assert (result.data["declared"], result.data["redundant"]) == (declared, redundant)
    for point in result.data["points"]:
        assert point["nullity"] == declared + redundant
        assert (point["hidden"], point["causes"], point["layers"]) == (0, {}, {})
    assert f"{redundant} are stored numbers that constraints do not use, 0 hidden." in result.summary


def test_a_dead_unit_before_a_mask_is_told_from_the_entries_that_it_removes(build: Build) -> None:
    """It frees 4 + 1 incoming weights and the 2 outgoing ones that the mask keeps; the group has its scale."""
    graph = build(net(BLOCKS + MASK))
    state = double(initial_state(graph, 0))
    state["a.weight"][0], state["a.bias"][0] = 0.1, -50.0
    (point,) = measure(graph, state).data["points"]
    assert point["hidden"] == 4 + 1 + 2 - 1
    assert set(point["layers"]) == {"a.weight", "a.bias", "b.weight"}
    assert 1 / 6 < point["layers"]["b.weight"] < 2 / 6  # of two entries, less their part of the scale


def test_a_dead_unit_beside_wires_of_matrices_is_told_from_what_these_move(build: Build) -> None:
    """GL(10) acts on both linear wires; a unit between them has 10 + 1 weights before it and 3 behind, and a scale."""
    graph = build(
        net("output y = x -> dense(10) -> dense(8) as a -> relu -> dense(10) -> dense(3)", "real[10]")
    )
    state = double(initial_state(graph, 0))
    assert causes(graph, state) == {}
    state["a.weight"][0], state["a.bias"][0] = 0.0, -50.0
    assert causes(graph, state) == {"dead unit": 10 + 1 + 3 - 1}
