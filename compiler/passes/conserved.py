"""`conserved`: what gradient flow leaves unchanged, and how far a training drifts from it.

In: a network, or an experiment with its data. Out: the laws that the generators of the group give, by wire; of an
experiment also their drift over the first steps of its own training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.compiler.tensors import learned_keys
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from nnspec.compiler.runtime.plan import Plan
    from nnspec.compiler.symmetry.laws import Laws

_MOST_ENTRIES = 4_000_000  # of the gradients of laws whose rank is taken
_POINTS = 200  # of the course that is kept


class Conserved(Pass):
    name = "conserved"
    heading = "Conserved quantities"
    doc = """Conserved quantities of gradient flow, one for each symmetric generator of the symmetry group (Noether's
    argument): |u|^2 - |v|^2 of each homogeneous unit, U U' - V' V of each linear wire. Of an experiment, their drift
    over its first `steps` steps, over their size at the start: finite steps, momentum, adaptive optimizers, weight decay
    and noise all break them."""
    arguments = (
        Argument(
            name="steps", kind="int", doc="of training that are watched; 0: none", default=200, at_least=0
        ),
        Argument(name="seed", kind="int", doc="of the weights at the start", default=0, at_least=0),
    )

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return False

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.emit.load import initial_state
        from nnspec.compiler.symmetry.group import symmetry_group
        from nnspec.compiler.symmetry.laws import conserved, independent

        seed, steps = options.get("seed", 0), options.get("steps", 200)
        group = symmetry_group(subject.graph)
        state = {
            key: t.double() if t.dtype.is_floating_point else t
            for key, t in initial_state(subject.graph, seed).items()
        }
        generic = _generic(state)
        laws = conserved(group, state)
        counts = [len(law.values(generic)) for law in laws]
        keys = [key for key in learned_keys(subject.graph) if state[key].dtype.is_floating_point]
        entries = sum(counts) * sum(state[key].numel() for key in keys)
        rank = independent(laws, generic, keys) if entries <= _MOST_ENTRIES else None
        data: dict[str, Any] = {
            "laws": sum(counts),
            "independent": rank,
            "wires": [
                {"wire": law.wire, "family": law.family, "law": law.formula, "count": count}
                for law, count in zip(laws, counts, strict=True)
            ],
            "drift": None,
        }
        rows = tuple((law.wire, law.family, n, law.formula) for law, n in zip(laws, counts, strict=True))
        tables = [Table(title="Laws", columns=("wire", "family", "laws", "conserved"), rows=rows)]
        plots: tuple[Plot, ...] = ()
        said = "" if rank is None or rank == sum(counts) else f", {rank} of them independent"
        summary = f"Gradient flow on {subject.graph.name} conserves {sum(counts)} numbers{said}."
        if subject.plan is not None and laws and steps:
            data["drift"] = drift = drifts(subject.plan, laws, steps, seed)
            plots = (Plot(name="drift of the laws", draw=lambda axes: _draw(axes, drift)),)
            last = {name: own[-1] for name, own in drift["laws"].items()}
            tables.append(Table(title="Drift", columns=("law", "at the end"), rows=tuple(last.items())))
            summary += f" Over {drift['steps'][-1]} steps they drift by at most {max(last.values()):.2g} of their size."
            summary += f" {_caveat(subject.plan)}"
        return Result(data=data, summary=summary, tables=tuple(tables), plots=plots)


def drifts(plan: Plan, laws: tuple[Laws, ...], steps: int, seed: int) -> dict[str, Any]:
    """Return by wire the largest change of a law since the start, over its size there, along a short training."""
    from nnspec.compiler.runtime.short_training import course, exactly

    every = max(1, steps // _POINTS)
    places: list[int] = []
    found: dict[str, list[float]] = {f"{law.wire} ({law.family})": [] for law in laws}
    start: list[tuple[Any, Any]] = []
    for step, (state, _) in enumerate(course(exactly(plan), seed, steps)):
        if not start:
            start = [(law.values(state), law.sizes(state).clamp(min=1e-300)) for law in laws]
        if step % every == 0 or step == steps:
            places.append(step)
            for law, own, (value, size) in zip(laws, found.values(), start, strict=False):
                own.append(float(((law.values(state) - value).abs() / size).max()))
    return {"steps": places, "laws": found}


def _generic(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    random = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(t.shape, generator=random, dtype=t.dtype) if t.dtype.is_floating_point else t
        for key, t in state.items()
    }


def _caveat(plan: Plan) -> str:
    own = plan.experiment.optimizer.options
    name = plan.experiment.optimizer.name
    if name != "sgd":
        return f"They are laws of gradient flow, which steps of `{name}` do not follow."
    broken = [word for word in ("momentum", "weight_decay") if own.get(word)]
    if broken:
        return f"They are laws of gradient flow without {' and '.join(broken)}, which this training has."
    return "They are laws of gradient flow; finite steps drift in proportion to the learning rate."


def _draw(axes: Any, drift: dict[str, Any]) -> None:
    for name, own in drift["laws"].items():
        axes.plot(drift["steps"], own, linewidth=1.3, label=name)
    axes.set_xlim(0, drift["steps"][-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("relative drift")
    if len(drift["laws"]) <= 8:
        axes.legend(frameon=False, fontsize=7)


PASSES = (Conserved(),)
