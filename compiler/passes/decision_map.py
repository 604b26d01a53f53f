"""`decision_map`: what a network of two real inputs says at each point of the plane.

In: an experiment with its data, and the weights it ended or begins with. Out: a map for each seed: the class at each point
of a grid around the data, or the value, with the data points and the share of them that stand on the right side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Result, Subject, Table
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error, SpecError
from nnspec.dsl.errors.fibres import UnfitAnalysis
from nnspec.dsl.errors.weights import NeedsTraining
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.checks.plane import Grid, Map, Reading
    from nnspec.compiler.emit.load import State


class DecisionMap(Pass):
    name = "decision_map"
    doc = """What a network of two real inputs says at each point of the plane around its data: the class, with the line between
    two of them and how far either leads, or the value. A map for each seed, the data points in it, and the share of these
    that stand on the right side."""
    arguments = (
        Argument(
            name="weights",
            kind="choice",
            choices=("trained", "initial"),
            doc="those the experiment ended with, or those it begins with",
            default="trained",
        ),
        Argument(name="seeds", kind="int", doc="how many of the experiment's", default=6, at_least=1),
        Argument(
            name="resolution",
            kind="int",
            doc="points of the grid along each input",
            default=81,
            at_least=2,
            at_most=1000,
        ),
        Argument(
            name="margin",
            kind="real",
            doc="how far the map reaches beyond the data, over their extent",
            default=0.2,
            at_least=0,
        ),
    )
    example = "analyze moons_early { decision_map }"

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        from nnspec.compiler.checks.plane import why_no_plane

        why = why_no_plane(graph)
        if why is not None:
            yield _unfit(graph, why, span)
        elif experiment is None:
            yield NeedsTraining(span, pass_name=self.name, target=graph.name)

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return options.get("weights", "trained") == "trained"

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.checks import plane, plane_views

        errors = tuple(self.refusals(subject.graph, options, subject.experiment, None))
        if errors:
            raise SpecError(errors)
        assert subject.plan is not None
        read = plane.reading(subject.plan)
        if read is None:
            why = "its output is several numbers, and none of them a class of the target"
            raise SpecError((_unfit(subject.graph, why, None),))
        grid = plane.grid_of(subject.plan, options["resolution"], options["margin"])
        maps = [
            plane.mapped(subject.plan, state, label, grid, read, seed)
            for seed, label, state in _states(subject, options)
        ]
        data = _data(subject.graph, grid, read, maps)
        return Result(
            data=data,
            summary=_summary(data),
            tables=_tables(maps),
            plots=(plane_views.plot(subject.plan, grid, read, maps),),
        )


def _unfit(graph: Graph, why: str, span: Span | None) -> Error:
    advice = "take a network of two real inputs, such as one on `moons`, `circles` or `xor`"
    return UnfitAnalysis(span, pass_name=DecisionMap.name, network=graph.name, why=why, advice=advice)


def _states(subject: Subject, options: Mapping[str, Any]) -> Iterator[tuple[int, str, State]]:
    from nnspec.compiler.runtime.short_training import initial_weights

    assert subject.experiment is not None and subject.plan is not None
    for number, seed in enumerate(subject.experiment.seeds[: options["seeds"]]):
        if options["weights"] == "trained":
            yield seed, f"seed {seed}", subject.states[number]
        else:
            yield seed, f"initial, seed {seed}", initial_weights(subject.plan, seed)


def _data(graph: Graph, grid: Grid, read: Reading, maps: list[Map]) -> dict[str, Any]:
    from nnspec.compiler.checks.plane import listed

    found: list[dict[str, Any]] = []
    for one in maps:
        own: dict[str, Any] = {"weights": one.label}
        if one.chosen is not None:
            own["classes"] = listed(one.chosen)
        if one.values is not None:
            own["values"] = listed(one.values)
        found.append(own | {"right": one.right, "settled": one.settled})
    return {
        "network": graph.name,
        "inputs": list(grid.names),
        "classes": None if read.classes is None else list(read.classes),
        "x": listed(grid.x),
        "y": listed(grid.y),
        "maps": found,
    }


def _summary(data: Mapping[str, Any]) -> str:
    maps, classes = data["maps"], data["classes"]
    wild = [one["weights"] for one in maps if not one["settled"]]
    end = f" At some points states did not settle ({', '.join(wild)}): see `stability`." if wild else ""
    inside = f"{data['inputs'][0]} and {data['inputs'][1]}"
    text = f"{data['network']} on {len(data['x'])} by {len(data['y'])} points of {inside}"
    if classes is None:
        flat = [value for one in maps for row in one["values"] for value in row]
        return f"{text}: values from {min(flat):.4g} to {max(flat):.4g}.{end}"
    part = list(maps[0]["right"])[-1]
    shares = [one["right"][part] for one in maps]
    right = " to ".join(f"{100 * share:.4g}" for share in sorted({min(shares), max(shares)}))
    return f"{text}: {right} % of the {part} points stand on the right side.{end}"


def _tables(maps: list[Map]) -> tuple[Table, ...]:
    if not maps[0].right:
        return ()
    parts = tuple(maps[0].right)
    rows = tuple((one.label, *(one.right[part] for part in parts)) for one in maps)
    columns = ("weights", *(f"{part} points on the right side" for part in parts))
    return (Table(title="Decision map", columns=columns, rows=rows),)


PASSES = (DecisionMap(),)
