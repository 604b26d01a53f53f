"""`merge`: the loss along the straight path between two trained networks, before and after alignment.

In: an experiment with two trained seeds at least. Out: losses at evenly spaced places by part, and the barriers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.weights import NeedsTraining, OneMember

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.plan import Plan
    from nnspec.compiler.runtime.straight_path import StraightPath

_COLOURS = {"train": "#3b78b8", "validation": "#7a9c3e", "test": "#c8553d"}


class Merge(Pass):
    name = "merge"
    heading = "The path between two networks"
    doc = """The loss along the straight path between two seeds of an experiment, as they are and after the second
    is aligned with the first by the symmetry group (linear mode connectivity modulo symmetry; Entezari et al. 2022;
    Ainsworth et al. 2023)."""
    arguments = (
        Argument(
            name="seeds",
            kind="int",
            listed="yes",
            doc="which two; none: the first two",
            default=None,
            nullable=True,
        ),
        Argument(name="points", kind="int", doc="places on the path", default=25, at_least=2),
    )

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        plan, experiment = subject.plan, subject.experiment
        if plan is None or experiment is None:
            raise SpecError((NeedsTraining(None, pass_name=self.name, target=subject.graph.name),))
        chosen = list(options.get("seeds") or experiment.seeds[:2])
        unknown = [seed for seed in chosen if seed not in experiment.seeds]
        if len(chosen) != 2 or unknown:
            wrong = f"is no seed {unknown[0]}" if unknown else "are two"
            count = f"{wrong} of `{experiment.name}`: " + ", ".join(map(str, experiment.seeds))
            if len(experiment.seeds) < 2:
                count = "is one"
            help_text = "train it with two seeds or more, `seeds = 0..1`, and name two of them at most"
            raise SpecError((OneMember(None, pass_name=self.name, count=count, help=help_text),))
        states = [subject.states[experiment.seeds.index(seed)] for seed in chosen]
        return merged(plan, states[0], states[1], points=options.get("points", 25))


def merged(plan: Plan, ours: dict[str, Tensor], theirs: dict[str, Tensor], points: int) -> Result:
    """Return what the pass finds of two sets of weights."""
    from nnspec.compiler.runtime.results import finite
    from nnspec.compiler.runtime.straight_path import straight_path
    from nnspec.compiler.symmetry.align import align
    from nnspec.compiler.symmetry.group import symmetry_group
    from nnspec.compiler.symmetry.weights import checked

    ours, theirs = checked(plan.graph, ours, "the first"), checked(plan.graph, theirs, "the second")
    aligned = align(symmetry_group(plan.graph), ours, theirs)
    before = straight_path(plan, ours, theirs, points)
    after = straight_path(plan, ours, {k: v.to(ours[k].dtype) for k, v in aligned.state.items()}, points)
    parts = tuple(before.losses)
    held_out = plan.held_out
    barriers = {part: (before.barrier(part), after.barrier(part)) for part in parts}
    rows = tuple((part, *("not finite" if b is None else b for b in own)) for part, own in barriers.items())
    summary = (
        f"The loss on the {held_out} part {_rise(before, held_out)} on the straight path, and it "
        f"{_rise(after, held_out)} after alignment (distance of the weights over the norm of the first: "
        f"{aligned.before:.3g}, then {aligned.after:.3g})."
    )
    data = {
        "before": before.json(),
        "after": after.json(),
        "distance": finite({"before": aligned.before, "after": aligned.after}),
        "notes": list(aligned.notes),
    }
    table = Table(title="Barriers", columns=("part", "before", "after"), rows=rows)
    plot = Plot(name="loss along the path", draw=lambda axes: _draw(axes, before, after))
    return Result(data=data, summary=summary, tables=(table,), plots=(plot,))


def _rise(path: StraightPath, part: str) -> str:
    """Return what the loss of a part does on a path: by how much it rises, or where it is no number."""
    barrier = path.barrier(part)
    if barrier is not None:
        return f"rises by {barrier:.4g}"
    broken = [t for t, loss in zip(path.places, path.losses[part], strict=True) if not isfinite(loss)]
    where = f"at {len(broken)} of {len(path.places)} places"
    ends = " and ".join(name for t, name in ((0.0, "A"), (1.0, "B")) if t in broken)
    return f"is not finite {where}{f', {ends} among them,' if ends else ''}"


def _draw(axes: Any, before: StraightPath, after: StraightPath) -> None:
    for part, losses in before.losses.items():
        colour = _COLOURS[part]
        axes.plot(before.places, losses, color=colour, linestyle=(0, (4, 2)), linewidth=1.1)
        axes.plot(after.places, after.losses[part], color=colour, linewidth=1.6, label=part)
    axes.plot([], [], color="#666666", linestyle=(0, (4, 2)), linewidth=1.1, label="as they are")
    axes.plot([], [], color="#666666", linewidth=1.6, label="aligned")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["A", "", "B"])
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=7)


PASSES = (Merge(),)
