"""Tables of a report about the course of a run: its stages, and the restarts among which one was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Cell, Table

if TYPE_CHECKING:
    from nnspec.compiler.runtime.results import RunResult


def course_tables(run: RunResult, text: Callable[[Any], str]) -> list[Table]:
    """Return the tables that there is something to say in; `text` writes a setting as a spec does."""
    found = [_stages(run, text), _restarts(run)]
    return [table for table in found if table is not None]


def _stages(run: RunResult, text: Callable[[Any], str]) -> Table | None:
    """What each stage was, where it ended, and the scores then: the mean over the seeds."""
    written = run.settings.get("stages") or ()
    names = run.names
    rows: list[tuple[Cell, ...]] = []
    for number, stage in enumerate(written, 1):
        last = {row["seed"]: row for row in run.kept_history if row.get("stage") == number}
        if last:
            epoch = max(row["epoch"] for row in last.values())
            scores = [[row[run.held_out].get(name) for row in last.values()] for name in names]
            rows.append((number, text(_short(stage)), epoch, *map(_mean, scores)))
        else:  # its end is that of the `fit` behind it
            rows.append((number, text(_short(stage)), None, *(None for _ in names)))
    columns = ("stage", "what", "ended after epoch", *(f"{run.held_out} {run.title(name)}" for name in names))
    return Table(title="stages", columns=columns, rows=tuple(rows)) if rows else None


def _short(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage with a long list of parameters summed up."""
    keys: list[str] = stage.get("select") or []
    if len(keys) <= 4:
        return stage
    return stage | {"select": f"{keys[0]}, {keys[1]}, and {len(keys) - 2} more"}


def _mean(values: list[float | None]) -> float | None:
    sound = [value for value in values if value is not None]
    return sum(sound) / len(sound) if sound else None


def _restarts(run: RunResult) -> Table | None:
    """Every restart of every seed, and which is the result."""
    plain = set(run.names)
    names = [name for name in run.seeds[0].metrics if name not in plain] if run.trials else []
    kept = {(own.seed, own.restart) for own in run.seeds}
    rows: list[tuple[Cell, ...]] = [
        (
            str(own.seed),
            str(own.restart),
            "kept" if (own.seed, own.restart) in kept else "",
            own.status,
            *(own.metrics.get(name) for name in names),
        )
        for own in run.trials
    ]
    columns = ("seed", "restart", "", "ended", *(name.replace(".", " ") for name in names))
    return Table(title="restarts", columns=columns, rows=tuple(rows)) if rows else None
