"""What a report says of the constrained weights of a run: a table of measures, and for each weight a row of plots."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Cell, Table
from nnspec.compiler.runtime.report import Figure, Part

if TYPE_CHECKING:
    from nnspec.compiler.runtime.results import RunResult

_MOST_DRAWN = 12  # weights
Curves = dict[str, dict[int, list[tuple[float, float]]]]


def weight_parts(run: RunResult) -> list[Part]:
    """Return the parts of a run's section that are about its constrained weights; matplotlib draws them."""
    from nnspec.compiler.runtime.weight_figures import weight_figure

    own = run.seeds[0] if run.seeds else None
    if own is None or not own.weights:
        return []
    found: list[Part] = [_table(own.weights, f"constrained weights, seed {own.seed}")]
    for picture in own.weights[:_MOST_DRAWN]:
        path = picture["weight"]
        measures, penalties = _measures(run, path), _curves(run, path, "penalty.")
        svg = weight_figure(picture, measures, penalties, run.boundaries)
        found.append(Figure(svg=svg, caption=f"{path}: {picture['constraint']}", wide=True))
    return found


def _table(weights: tuple[dict[str, Any], ...], title: str) -> Table:
    """The measures at the end; columns that no weight has are left out."""
    names = ("latent", "residual", "penalty", "zeros", "zero_outputs", "zero_inputs")
    kept = [name for name in names if any(_is_told(name, _measure(own["end"], name)) for own in weights)]
    labels = {
        "latent": "stored to used",
        "zeros": "exact zeros",
        "zero_outputs": "empty outputs",
        "zero_inputs": "empty inputs",
    }
    rows = tuple(
        (own["weight"], own["constraint"], *(_measure(own["end"], name) for name in kept)) for own in weights
    )
    return Table(
        title=title,
        columns=("weight", "constraint", *(labels.get(name, name) for name in kept)),
        rows=rows,
    )


def _is_told(name: str, value: Cell) -> bool:
    return value is not None and not (name.startswith("zero") and value == 0)


def _measure(end: Mapping[str, float | None], name: str) -> Cell:
    """A measure; of those that each constraint has one of, the largest residual and the sum of penalties."""
    values = [v for key, v in end.items() if key.split(".")[0] == name and v is not None]
    if not values:
        return None
    if name.startswith("zero_"):
        return int(values[0])
    return sum(values) if name == "penalty" else max(values)


def _measures(run: RunResult, path: str) -> Curves:
    """The measures that are shares or ratios: the largest residual, from the stored weight to that in use, zeros."""
    residuals = list(_curves(run, path, "residual.").values())
    found: Curves = {}
    if residuals:
        found["residual"] = {
            seed: [max(at) for at in zip(*(own[seed] for own in residuals), strict=True)]
            for seed in residuals[0]
        }
    latent, zeros = _curves(run, path, "latent"), _curves(run, path, "zeros")
    if latent:
        found["stored to used"] = latent[""]
    if zeros and any(value for points in zeros[""].values() for _, value in points):
        found["exact zeros"] = zeros[""]
    return found


def _curves(run: RunResult, path: str, prefix: str) -> Curves:
    """Measure -> seed -> points, of those measures of a weight that begin so."""
    found: Curves = {}
    for row in run.kept_history:
        constraints: Mapping[str, Any] = row.get("constraints") or {}
        measured: Mapping[str, Any] = constraints.get(path) or {}
        for name, value in measured.items():
            sound = isinstance(value, int | float) and isfinite(value)
            if sound and (name == prefix or (prefix.endswith(".") and name.startswith(prefix))):
                points = found.setdefault(name.removeprefix(prefix), {}).setdefault(row["seed"], [])
                points.append((float(row["epoch"]), float(value)))
    return found
