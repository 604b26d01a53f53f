"""GENNI: the paper's own sample run digit for digit, an exact fibre, and what the analysis refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import nnspec
from nnspec.compiler.emit.load import function, initial_state
from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.before import before_output
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.classes import classes
from nnspec.compiler.fibres.distance import Distance
from nnspec.compiler.fibres.polish import polish
from nnspec.compiler.fibres.probe import DEFAULT, draw_probe
from nnspec.compiler.fibres.slices import through
from nnspec.compiler.fibres.walk import walk
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Result, Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.symmetry.elements import act, random_element
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.dsl.diagnostics import SpecError

Build = Callable[..., Graph]
State = dict[str, torch.Tensor]
SPECS = Path(__file__).parents[3] / "specs" / "genni"


def net(body: str, shape: str = "real[2]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


TANH = net("output y = x -> dense(3) as a -> tanh -> dense(1) as b")
FCN = net("output y = x -> dense(2, bias = false) as a -> relu -> dense(1, bias = false) as b", "real[1]")
QUICK: dict[str, Any] = {"grid": 11, "walk": 0, "students": 8}


def word(family: str, name: str, **arguments: Any) -> Choice:
    return Choice(family=family, name=name, arguments=tuple(arguments.items()))


def run(graph: Graph, *states: State, **options: Any) -> Result:
    result = find("genni").run(Subject(graph=graph, states=states), {**QUICK, **options})
    json.dumps(result.data, allow_nan=False)
    return result


def refused(graph: Graph, *states: State, **options: Any) -> Any:
    with pytest.raises(SpecError) as caught:
        run(graph, *states, **options)
    (error,) = caught.value.errors
    assert error.message and error.help
    return error


# ------------------------------------------------------------------------------------------ the paper's run


@pytest.fixture(scope="module")
def shipped() -> Result:
    """The sample run that comes with the paper's code, from the gallery, without walks and on a small grid."""
    spec = nnspec.load(str(SPECS / "fcn.nnspec"))
    (analysis,) = spec.checked.analyses
    choice = next(choice for choice in analysis.passes if choice.name == "genni")
    options = {**choice.options, "grid": 20, "walk": 0}
    return find("genni").run(Subject(graph=analysis.graph), options)


@pytest.mark.slow
def test_the_coordinates_of_the_papers_sample_run(shipped: Result) -> None:
    coordinates = shipped.data["slice"]["coordinates"]
    wanted = [[0, 0, 0], [1.6826, 0, 0], [1.2557, 0.4063, 0], [0.7611, 0.0103, 0.6632]]
    assert [[abs(c) for c in row] for row in coordinates] == [pytest.approx(row, abs=5e-5) for row in wanted]
    assert coordinates[3][1] * coordinates[2][1] < 0  # the shipped pair is (-0.4063, 0.0103)
    assert [coordinates[k][k - 1] > 0 for k in (1, 2, 3)] == [True] * 3  # our axes point to the directions


@pytest.mark.slow
def test_the_distances_of_the_papers_sample_run(shipped: Result) -> None:
    origin, *directions = shipped.data["slice"]["J"]
    assert [f"{distance:.5e}" for distance in directions] == ["4.98896e-05", "2.09440e-04", "4.33857e-05"]
    assert directions == pytest.approx([4.988964428775944e-05, 2.0943988056e-04, 4.3385671233e-05], rel=2e-6)
    assert origin == pytest.approx(6.7523594e-11, rel=1e-3)


@pytest.mark.slow
def test_polishing_the_papers_sample_run_finds_both_strata(shipped: Result) -> None:
    students = shipped.data["students"]
    assert [student["equivalent"] for student in students].count(True) == 9
    assert {student["stratum"] for student in students if student["equivalent"]} == {2, 3}
    (stuck,) = (student for student in students if not student["equivalent"])
    assert stuck["polished_J"] > 1e-5  # both units are off where the target lives
    assert max(s["polished_J"] for s in students if s["equivalent"]) < 1e-27


def test_the_fibre_of_four_parameters_has_parts_of_dimensions_3_and_2(build: Build) -> None:
    """f(x) = s |x| for x < 0 and 0 for x > 0: both units on the left, or one, and the other without weight."""
    graph = build(FCN)
    teacher = {"a.weight": torch.tensor([[-0.5], [-2.0]]), "b.weight": torch.tensor([[0.2, -0.3]])}
    result = run(graph, teacher, students=40, walk=4)
    assert set(result.data["strata"]) == {"2", "3"}
    assert (
        10 < result.data["equivalent"] < 40
    )  # the others begin with both units on the right, where nothing is
    assert all(w["largest_distance"] < 1e-22 and w["steps"] == 4 for w in result.data["walks"])


# --------------------------------------------------------------------------------------------- what is found


def test_a_tanh_network_has_no_equivalents_but_those_of_its_group(build: Build) -> None:
    """Sussmann (1992): irreducible tanh networks are determined up to permutations and signs."""
    result = run(build(TANH), students=12, project=word("projection", "pca"))
    assert result.data["equivalent"] >= 6
    assert result.data["classes"] == [{"class": 0, "students": result.data["equivalent"], "teacher": True}]
    assert result.data["new_classes"] == 0 and result.data["strata"] == {"0": result.data["equivalent"]}
    assert [plot.name for plot in result.plots] == [
        "log J on the slice",
        "log J as a surface",
        "weights within epsilon, by pca",
    ]


def test_equivalence_beyond_the_group_is_new(build: Build) -> None:
    """A teacher with two equal units: the students split their common weight in other ways."""
    graph = build(net("output y = x -> dense(2, bias = false) as a -> tanh -> dense(1, bias = false) as b"))
    teacher = {"a.weight": torch.tensor([[0.8, -0.4], [0.8, -0.4]]), "b.weight": torch.tensor([[0.7, 0.5]])}
    data = run(graph, teacher, students=6, search=word("search", "lm", steps=300)).data
    assert data["new_classes"] >= 2
    assert all(student["class"] != 0 for student in data["students"] if student["equivalent"])


def test_trained_float32_weights_may_be_the_teacher(build: Build) -> None:
    graph = build(TANH)
    state = initial_state(graph, 3)
    given, drawn = run(graph, state).data, run(graph, teacher=3).data
    assert (given.pop("teacher"), drawn.pop("teacher")) == ("state 0", "random, seed 3")
    assert given == drawn


@pytest.mark.parametrize(
    ("search", "most"),
    [
        (word("search", "adam", lr=0.05, steps=300, batch=None), 0.1),
        (word("search", "sgd", lr=0.1, steps=400, batch=100), 0.3),
    ],
)
def test_students_that_descend_come_nearer(build: Build, search: Choice, most: float) -> None:
    data = run(build(TANH), search=search, polish=False, samples=400).data
    assert min(student["relative"] for student in data["students"]) < most
    assert all(student["polished_J"] is None for student in data["students"])


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(build: Build) -> None:
    graph = build(TANH)
    before = torch.random.get_rng_state()
    first, again, other = run(graph).data, run(graph).data, run(graph, seed=1).data
    assert first == again != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_hides_differences_at_the_output_is_left_out(build: Build) -> None:
    graph = build(net("output y = x -> dense(3) -> tanh -> dense(2) -> relu -> softmax"))
    inner, removed = before_output(graph)
    assert removed == ("softmax", "relu")
    state = initial_state(graph, 0)
    x = draw_probe(graph, DEFAULT, 0, 7, torch.float32)
    plain = function(inner)(state, *x)
    assert torch.allclose(torch.softmax(torch.relu(plain), dim=1), function(graph)(state, *x))
    result = run(graph)
    assert result.data["before"] == ["softmax", "relu"] and "Analysed before" in result.summary
    assert before_output(build(TANH)) == (build(TANH), ())


@pytest.mark.parametrize(
    "text",
    [
        net("output y = x -> embedding(6, 2) -> dense(2) -> tanh -> flatten -> dense(1)", "int[2]"),
        net("output y = x -> dense(2) -> tanh -> mean(axis = 0) -> dense(1)", "real[T, 2]"),
        net("h = x -> dense(2) -> tanh\n  output y = h -> dense(1)\n  output z = h -> dense(2)"),
        net("output y = x -> dense(3) as a -> tanh -> dense(1)\n  constrain a.weight: binary"),
        net("output y = x -> dense(3) -> batchnorm -> relu -> dense(1)"),
    ],
    ids=["whole numbers", "symbolic sizes", "two outputs", "binary weights", "norm"],
)
def test_every_kind_of_network_has_a_slice(build: Build, text: str) -> None:
    data = run(build(text), students=6, dims=2, grid=5, samples=200).data
    assert len(data["grids"][0]["values"]) == 25


def test_three_dimensions_have_a_plane_a_space_and_a_scene(build: Build) -> None:
    result = run(build(TANH), dims=3, grid=9, epsilon=1.0)
    assert [grid["points"] ** len(grid["bounds"]) for grid in result.data["grids"]] == [81**2, 9**3]
    assert [plot.name for plot in result.plots][2] == "points of the grid within epsilon"
    (scene,) = result.scenes
    assert scene.axes == ("c₁", "c₂", "c₃") and scene.dots[0].values


# --------------------------------------------------------------------------------------------------- the parts


def test_a_grid_of_distances_is_what_each_network_gives_alone(build: Build) -> None:
    graph = build(TANH)
    chart = Chart(graph, initial_state(graph, 0))
    (x,) = inputs = draw_probe(graph, DEFAULT, 0, 50)
    with torch.no_grad():
        distance = Distance(chart, inputs, chart.outputs(chart.point, inputs))
    vectors = chart.point + torch.randn(400, chart.count, dtype=torch.float64)
    forward = function(graph)
    alone = [((forward(chart.state(v), x) - distance.targets) ** 2).mean() for v in vectors]
    assert torch.allclose(distance.of(vectors), torch.stack(alone), rtol=1e-12)
    batched = Distance(chart, inputs, distance.targets, 32)
    wanted = [((forward(chart.state(v), x) - distance.targets) ** 2) for v in vectors]
    means = [(w[:32].mean() + w[32:].mean()) / 2 for w in wanted]
    assert torch.allclose(batched.of(vectors), torch.stack(means), rtol=1e-12)


def test_polishing_solves_a_linear_problem_as_least_squares_does(build: Build) -> None:
    graph = build(net("output y = x -> dense(1) as a"))
    chart = Chart(graph, initial_state(graph, 0))
    (x,) = inputs = draw_probe(graph, DEFAULT, 0, 40)
    targets = torch.randn(40, 1, dtype=torch.float64)
    found = polish(chart, torch.randn(3, 3, dtype=torch.float64), inputs, targets)
    design = torch.cat([x, torch.ones(40, 1, dtype=torch.float64)], dim=1)
    wanted = torch.linalg.lstsq(design, targets).solution.flatten()
    assert torch.allclose(found.vectors, wanted.expand(3, 3), atol=1e-8)


def test_a_basis_is_orthonormal_and_points_to_its_directions() -> None:
    random = torch.Generator().manual_seed(0)
    origin = torch.randn(7, generator=random, dtype=torch.float64)
    others = torch.randn(4, 7, generator=random, dtype=torch.float64)
    others[1] = origin + 2 * (others[0] - origin)  # on a line with the first
    found = through(origin, others, 3)
    assert found is not None and found.chosen == (0, 2, 3)
    assert torch.allclose(found.basis.T @ found.basis, torch.eye(3, dtype=torch.float64), atol=1e-12)
    coordinates = found.coordinates(others[[0, 2, 3]])
    assert torch.allclose(coordinates, coordinates.tril(), atol=1e-12) and bool(
        (coordinates.diagonal() > 0).all()
    )
    assert float(found.off(others).max()) < 1e-12
    assert through(origin, others[:2], 2) is None


@pytest.mark.parametrize(
    "body",
    [
        "output y = x -> dense(4) -> tanh -> dense(3) -> tanh -> dense(2)",
        "output y = x -> dense(4) -> relu -> dense(3) -> leaky_relu -> dense(2)",
        "output y = (x -> dense(4) -> silu) * (x -> dense(4, bias = false)) -> dense(2)",
        "output y = x -> dense(3) -> cos -> dense(3) -> gelu -> dense(2)",
    ],
)
def test_classes_are_those_of_the_group(build: Build, body: str) -> None:
    graph = build(net(body))
    group = symmetry_group(graph)
    members: list[torch.Tensor] = []
    for seed in range(3):
        chart = Chart(graph, initial_state(graph, seed))
        state = chart.state(chart.point)
        for draw in range(3):
            members.append(chart.vector(act(group.derivation, random_element(group, draw), state)))
    assert classes(group, chart, torch.stack(members)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_walk_stays_on_the_fibre_of_a_linear_network(build: Build) -> None:
    """y = b a x: the fibre is the hyperbola b a = c, here through (1, 2)."""
    graph = build(
        net("output y = x -> dense(1, bias = false) as a -> dense(1, bias = false) as b", "real[1]")
    )
    chart = Chart(graph, {"a.weight": torch.tensor([[1.0]]), "b.weight": torch.tensor([[2.0]])})
    inputs = draw_probe(graph, DEFAULT, 0, 20)
    with torch.no_grad():
        targets = chart.outputs(chart.point, inputs)
    found = walk(chart, chart.point, inputs, targets, torch.tensor([1.0, 0.0]).double(), 40, 0.05)
    assert found.ranks == (1,) * 41
    assert torch.allclose(
        found.points[:, 0] * found.points[:, 1], torch.full((41,), 2.0).double(), atol=1e-12
    )
    assert bool((found.points[:, 0].diff() > 0).all()) and float(found.points[-1, 0]) > 2


# --------------------------------------------------------------------------------------------------- refusals


def test_a_dead_teacher_is_refused(build: Build) -> None:
    graph = build(net("output y = x -> dense(3) as a -> relu -> dense(1) as b"))
    state = initial_state(graph, 0)
    state["a.bias"][:] = -100.0
    error = refused(graph, state)
    assert error.code == "N0973" and "variance is 0" in error.message


def test_a_teacher_that_is_mostly_off_is_said_to_be(build: Build) -> None:
    graph = build(net("output y = x -> dense(1) as a -> relu -> dense(1) as b"))
    state = {
        "a.weight": torch.tensor([[1.0, 0.0]]),
        "a.bias": torch.tensor([-1.0]),
        "b.weight": torch.tensor([[1.0]]),
        "b.bias": torch.tensor([0.0]),
    }
    result = run(graph, state)
    assert 0.5 < result.data["most_common_output"] < 0.95
    assert "one and the same output" in result.summary


def test_a_student_within_epsilon_that_computes_another_function_is_told_from_the_others(
    build: Build,
) -> None:
    search = word("search", "adam", lr=0.01, steps=3, batch=None)
    result = run(build(TANH), search=search, polish=False, students=4, epsilon=20.0)
    said = {row[0]: (row[1], row[3]) for row in result.tables[0].rows}
    assert all(word == ("within epsilon" if loss <= 20 else "no") for loss, word in said.values())
    near = sum(word == "within epsilon" for _, word in said.values())
    assert 0 < near < 4 and result.data["equivalent"] == 0
    assert result.summary.startswith(
        "0 of 4 students compute the teacher's function (J / variance up to 1e-12)"
    )
    assert f"; {near} more" in result.summary


def test_an_epsilon_that_takes_any_constant_for_equivalent_is_said_to(build: Build) -> None:
    result = run(build(FCN), teacher=10, students=20, epsilon=0.025, unit=word("unit", "absolute"))
    assert "best constant" in result.summary


def test_weights_that_are_not_finite_are_refused(build: Build) -> None:
    graph = build(TANH)
    state = initial_state(graph, 0)
    state["b.weight"][0, 1] = float("inf")
    assert refused(graph, state).code == "N0971"


def test_outputs_that_are_not_finite_are_refused(build: Build) -> None:
    error = refused(build(net("output y = x -> dense(3) -> log -> dense(1)")))
    assert error.code == "N0971" and "outputs" in error.message


TORCH = {"seed_mode": "torch", "search": word("search", "sgd", lr=0.1, steps=5, batch=10)}


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (TANH, {"students": 2}, "N0974"),
        (TANH, {"grid": 500}, "N0975"),
        (TANH, {"bounds": (2, -2)}, "N0976"),
        (net("output y = x -> relu"), {}, "N0976"),
        (net("output y = x -> dense(500) -> tanh -> dense(3)"), {}, "N0972"),
        (net("output y = x -> embedding(5, 2) -> tanh", "int[3]"), TORCH, "N0976"),
        (net("output y = x -> dense(2) -> tanh", "real[T, 2]"), TORCH, "N0976"),
        (TANH, {"seed_mode": "torch"}, "N0976"),
    ],
    ids=["students", "grid", "bounds", "no weights", "large", "torch: integers", "torch: sizes", "torch: lm"],
)
def test_what_cannot_be_computed_is_refused(
    build: Build, text: str, options: dict[str, Any], code: str
) -> None:
    assert refused(build(text), **options).code == code


def test_umap_is_drawn_if_it_is_installed(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package is heavy, so a stand-in says what it is asked."""
    asked: dict[str, Any] = {}

    class Stand:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def fit_transform(self, vectors: Any) -> Any:
            return vectors[:, :2]

    project = word("projection", "umap", neighbours=7, distance=0.2)
    monkeypatch.setattr("nnspec.compiler.passes.genni.find_spec", lambda name: None)
    assert refused(build(TANH), project=project).code == "N0995"
    monkeypatch.undo()
    monkeypatch.setattr("nnspec.compiler.passes.genni.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Stand))
    result = run(build(TANH), project=project, seed=5)
    assert result.plots[-1].name == "weights within epsilon, by umap"
    assert asked == {"n_neighbors": 7, "min_dist": 0.2, "random_state": 5, "n_jobs": 1}


def test_a_large_network_can_be_searched_without_polishing(build: Build) -> None:
    graph = build(net("output y = x -> dense(400) -> tanh -> dense(1)"))
    search = word("search", "adam", lr=0.01, steps=5, batch=None)
    data = run(graph, students=3, samples=50, search=search, polish=False, grid=5).data
    assert data["parameters"] == 1601 and data["grids"][0]["least"] >= 0


def test_students_that_diverge_are_left_out(build: Build) -> None:
    graph = build(net("output y = x -> dense(3) -> relu -> dense(1)"))
    error = refused(graph, search=word("search", "sgd", lr=1e6, steps=200, batch=None), polish=True)
    assert error.code == "N0974" and "smaller `lr`" in error.help
