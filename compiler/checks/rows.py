"""What a gradient check measures, as JSON: at one point of a sweep, and along a training."""

from __future__ import annotations

from collections.abc import Mapping
from math import acos, degrees, isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Subject

if TYPE_CHECKING:
    from nnspec.compiler.checks.directions import Difference
    from nnspec.compiler.checks.sweep import Place
    from nnspec.compiler.runtime.plan import Plan

_POINTS = 25  # along a training


def row_of(place: Place, subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured at one point of the sweep."""
    from nnspec.compiler.checks.asymmetry import asymmetry, with_asymmetry
    from nnspec.compiler.checks.directions import averaged, compared
    from nnspec.compiler.checks.sweep import written
    from nnspec.compiler.runtime.short_training import initial_weights

    assert subject.experiment is not None
    seeds = subject.experiment.seeds[: options.get("seeds")]
    trained = options.get("weights") == "trained"
    states: list[tuple[int, Any]] = []
    for number, seed in enumerate(seeds):
        state = subject.states[number] if trained else initial_weights(place.plan, seed)
        if place.asymmetry is not None:
            state = with_asymmetry(place.plan.graph, state, place.asymmetry)
        states.append((seed, state))
    step = place.plan.steps if trained else 0
    found = list(compared(place.plan, states, options.get("batches", 1), options.get("draws", 1), step))
    indices = [asymmetry(place.plan.graph, state) for _, state in states]
    row = {name: written(value) for name, value in place.values} | _json(
        averaged([one.whole for one in found])
    )
    row["worst_cosine"] = min((o.whole.cosine for o in found if o.whole.cosine is not None), default=None)
    row["layers"] = [
        {"path": path, **_json(averaged([one.layers[path] for one in found]))} for path in found[0].layers
    ]
    residuals = [one.residual for one in found if one.residual is not None]
    if residuals:
        row["residual"] = max(residuals) if all(map(isfinite, residuals)) else None
    nudged = [one.nudged for one in found if one.nudged is not None]
    if nudged:
        row["nudged_residual"] = max(nudged) if all(map(isfinite, nudged)) else None
    if None not in indices:
        row["asymmetry_of_weights"] = sum(i for i in indices if i is not None) / len(indices)
    return row


def course_of(plan: Plan, subject: Subject, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    from nnspec.compiler.checks.directions import along

    assert subject.experiment is not None
    steps = options["along"]
    every = max(1, steps // _POINTS)
    seed = subject.experiment.seeds[0]
    return [
        {
            "step": step,
            "loss": loss,
            **_json(found.whole),
            "angle": _angle(found.whole.cosine),
            "layers": [
                {"path": path, **_json(own), "angle": _angle(own.cosine)}
                for path, own in found.layers.items()
            ],
        }
        for step, loss, found in along(plan, seed, steps, every)
    ]


def _json(found: Difference) -> dict[str, Any]:
    return {"cosine": found.cosine, "relative_error": found.relative_error}


def _angle(cosine: float | None) -> float | None:
    return None if cosine is None else degrees(acos(cosine))
