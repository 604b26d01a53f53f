"""`success`: which seeds of an experiment solved their task, and at which epochs.

In: the history of a run. Out: for each seed the epochs at which a score was good enough, how many seeds solved the task
at some epoch, and how many still do at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby, pairwise
from math import isfinite
from typing import Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error, SpecError
from nnspec.dsl.errors.fibres import WrongScore
from nnspec.dsl.errors.weights import NeedsTraining
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest

Rows = dict[int, list[tuple[int, float | None]]]  # of each seed its epochs and scores


class Success(Pass):
    name = "success"
    heading = "Success by seed"
    doc = """Which seeds of an experiment solved their task at which epochs: after which of them `score` was at least `threshold`,
    or at most, of a score that is better the lower it is. A seed may solve a task and leave the solution again, so the
    seeds that solve it at some epoch are counted apart from those that do at the end. No score: the first
    metric, or the loss, on the part that results are reported on."""
    arguments = (
        Argument(name="threshold", kind="real", doc="from which on the task counts as solved"),
        Argument(
            name="score",
            kind="score",
            doc="a score on a part, `test.accuracy`",
            default=None,
            nullable=True,
        ),
    )
    example = "analyze deep_xor { success(score = train.mean_squared_error, threshold = 0.02) }"

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        if experiment is None:
            yield NeedsTraining(span, pass_name=self.name, target=graph.name)
        elif options.get("score") is not None:
            wrong = _wrong(experiment, *options["score"])
            if wrong is not None:
                why, help_text = wrong
                yield WrongScore(span, pass_name=self.name, why=why, help=help_text)

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        errors = tuple(self.refusals(subject.graph, options, subject.experiment, None))
        if errors:
            raise SpecError(errors)
        assert subject.experiment is not None and subject.plan is not None
        part, score = options.get("score") or _first(subject.experiment, subject.plan.held_out)
        if part not in subject.plan.parts:
            parts = ", ".join(f"`{name}`" for name in subject.plan.parts)
            why, help_text = f"the data have no part called `{part}`", f"the parts are {parts}"
            raise SpecError((WrongScore(None, pass_name=self.name, why=why, help=help_text),))
        measured: dict[str, None] = {}
        for row in subject.history:
            measured |= dict.fromkeys(row.get(part) or {})
        if score not in measured and measured:  # of a rule that descends something else than a loss
            why, names = f"the run has no `{part}.{score}`", ", ".join(f"`{name}`" for name in measured)
            raise SpecError((WrongScore(None, pass_name=self.name, why=why, help=f"measured are {names}"),))
        better = _better(subject.experiment, score)
        found = scores(subject, part, score)
        data = judged(found, f"{part}.{score}", better, float(options["threshold"]))
        return Result(
            data=data,
            summary=_summary(data),
            tables=(_table(data),),
            plots=(strips(data, found),) if any(found.values()) else (),
        )


def _first(experiment: Experiment, part: str) -> tuple[str, str]:
    names = [metric.name for metric in experiment.metrics if metric.name != "confusion"]
    return part, names[0] if names else "loss"


def _wrong(experiment: Experiment, part: str, score: str) -> tuple[str, str] | None:
    """Return why a score is none of an experiment's, and what to write; None if it is one."""
    known = ("loss", *(metric.name for metric in experiment.metrics if metric.name != "confusion"))
    if part not in ("train", "validation", "test"):
        return f"`{part}` is no part of the data", "write `train`, `validation` or `test` before the score"
    if score in known:
        return None
    near = nearest(score, known)
    listed = ", ".join(f"`{name}`" for name in known)
    help_text = f"did you mean `{near}`?" if near else f"measured are {listed}; add it to `metrics`"
    return f"`{score}` is not measured in `{experiment.name}`", help_text


def _better(experiment: Experiment, score: str) -> str:
    from nnspec.compiler.runtime.metrics import better

    return better(next((metric for metric in experiment.metrics if metric.name == score), None))


def scores(subject: Subject, part: str, score: str) -> Rows:
    """Return each seed's scores by epoch: of an epoch that was measured twice, around a pruning, the later one."""
    assert subject.experiment is not None
    found: dict[int, dict[int, float | None]] = {seed: {} for seed in subject.experiment.seeds}
    for row in subject.history:
        measured: Mapping[str, float | None] = row.get(part) or {}
        value = measured.get(score)
        found.setdefault(row["seed"], {})[row["epoch"]] = (
            value if value is not None and isfinite(value) else None
        )
    return {seed: sorted(own.items()) for seed, own in found.items()}


def judged(found: Rows, score: str, better: str, threshold: float) -> dict[str, Any]:
    """Return which seeds solved the task when, as JSON."""
    sign = 1 if better == "higher" else -1

    def is_solved(value: float | None) -> bool:
        return value is not None and sign * value >= sign * threshold

    seeds: list[dict[str, Any]] = []
    for seed, rows in found.items():
        epochs = [epoch for epoch, value in rows if is_solved(value)]
        known = [(sign * value, epoch) for epoch, value in rows if value is not None]
        best, at = max(known, key=lambda pair: (pair[0], -pair[1]), default=(None, None))
        seeds.append(
            {
                "seed": seed,
                "solved": bool(epochs),
                "first": epochs[0] if epochs else None,
                "epochs": epochs,
                "at_end": bool(rows) and is_solved(rows[-1][1]),
                "best": None if best is None else sign * best,
                "best_epoch": at,
                "measured": len(rows),
                "last_epoch": rows[-1][0] if rows else None,
            }
        )
    return {
        "score": score,
        "better": better,
        "threshold": threshold,
        "of": len(seeds),
        "count": sum(own["solved"] for own in seeds),
        "solved": [own["seed"] for own in seeds if own["solved"]],
        "solved_at_end": [own["seed"] for own in seeds if own["at_end"]],
        "seeds": seeds,
    }


def _bound(data: Mapping[str, Any]) -> str:
    return f"{data['score']} {'≥' if data['better'] == 'higher' else '≤'} {data['threshold']:g}"


def _summary(data: Mapping[str, Any]) -> str:
    solved, last = data["solved"], data["solved_at_end"]
    text = f"{_bound(data)} at some epoch in {len(solved)} of {data['of']} seeds"
    text += f": {_listed(solved)}" if solved else ""
    return f"{text}; at the last epoch in {len(last)}{f': {_listed(last)}' if last else ''}."


def _listed(seeds: list[int]) -> str:
    most = 20
    return ", ".join(map(str, seeds[:most])) + (", .." if len(seeds) > most else "")


def _table(data: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            str(own["seed"]),
            own["first"],
            f"{len(own['epochs'])} of {own['measured']}",
            "yes" if own["at_end"] else "no",
            own["best"],
            own["best_epoch"],
        )
        for own in data["seeds"]
    )
    columns = ("seed", "first solved at epoch", "epochs solved", "at the end", "best", "at epoch")
    return Table(title=f"Success: {_bound(data)}", columns=columns, rows=rows)


# ---------------------------------------------------------------------------------------------- the picture

_SOLVED, _NOT = "#3b78b8", "#c9ced6"
_TALLEST = 6.5  # inches of all strips
_MOST_NAMED = 30  # seeds


def strips(data: Mapping[str, Any], found: Rows) -> Plot:
    """Return the picture of all seeds over the epochs."""
    height = min(_TALLEST, 0.45 + 0.2 * len(found))
    return Plot(
        name=f"seeds and epochs with {_bound(data)}",
        draw=lambda panels: _draw(panels[:, 0], data, found),
        size=(6.4, height + 1.5),
        panels=(2, 1),
        heights=(1.0, height),
    )


def _draw(panels: Any, data: Mapping[str, Any], found: Rows) -> None:
    """Draw how many seeds solve the task at each epoch, and below it a strip for each seed."""
    above, below = panels
    epochs = sorted({epoch for rows in found.values() for epoch, _ in rows})
    solved = [set(own["epochs"]) for own in data["seeds"]]
    above.step(
        epochs, [sum(e in own for own in solved) for e in epochs], where="mid", color=_SOLVED, linewidth=1.2
    )
    above.set_ylim(0, data["of"] * 1.05)
    above.set_ylabel("seeds")
    above.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    above.set_title(f"{_bound(data)}: {data['count']} of {data['of']} seeds at some epoch", loc="left")
    above.tick_params(labelbottom=False)
    half = _half(epochs)
    for place, (own, rows) in enumerate(zip(data["seeds"], found.values(), strict=True)):
        for is_solved, some in groupby((e for e, _ in rows), solved[place].__contains__):
            run = list(some)  # epochs in a row
            width, colour = run[-1] - run[0] + 2 * half, _SOLVED if is_solved else _NOT
            below.barh(place, width, 0.8, run[0] - half, align="center", color=colour, linewidth=0)
        if own["first"] is not None and len(found) <= _MOST_NAMED:
            below.text(1.01, place, f"from {own['first']}", **_beside(below))
    below.set_yticks(*_ticks([own["seed"] for own in data["seeds"]]))
    below.set_ylim(len(found) - 0.5, -0.5)
    below.tick_params(axis="y", length=0)
    below.set_ylabel("seed")
    below.set_xlabel("epoch")
    for axes in panels:
        axes.set_xlim(epochs[0] - half, epochs[-1] + half)


def _beside(axes: Any) -> dict[str, Any]:
    return {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 7}


def _half(epochs: list[int]) -> float:
    """Return half the distance of two epochs that are measured one after the other."""
    return min((b - a for a, b in pairwise(epochs)), default=1) / 2


def _ticks(seeds: list[int]) -> tuple[list[int], list[str]]:
    every = -(-len(seeds) // _MOST_NAMED)
    return list(range(0, len(seeds), every)), [str(seed) for seed in seeds[::every]]


PASSES = (Success(),)
