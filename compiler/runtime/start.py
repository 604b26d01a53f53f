"""The weights with which trainings begin, where they come from elsewhere.

In: a plan whose experiment begins with the weights of others, and the folder of runs. Out: the plan with
`initial`, which gives a seed's tensors and which of their entries were pruned. The other experiments are
trained first if they have not been.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnspec.compiler.experiment import Experiment, PartStart
from nnspec.compiler.runtime.plan import Plan, Start
from nnspec.compiler.runtime.runs import RunFolder, load_removed, load_state, read_record
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import StartDiverged


def started(plan: Plan, out: Path, train_first: Callable[[Experiment], object]) -> Plan:
    """Return the plan with what its trainings begin with; `train_first` trains another experiment."""
    sources: list[tuple[PartStart | None, Plan]] = list(plan.borrowed)
    if plan.parent is not None:
        sources.append((None, plan.parent))
    if not sources:
        return plan
    for _, parent in sources:
        if _status(RunFolder(out, parent).path) not in ("finished", "diverged"):
            train_first(parent.experiment)

    def initial(seed: int) -> tuple[Start, ...]:
        return tuple(
            _start(plan, part, parent, RunFolder(out, parent).path, seed) for part, parent in sources
        )

    return plan.replace(initial=initial)


def _start(plan: Plan, part: PartStart | None, parent: Plan, path: Path, seed: int) -> Start:
    """Return what training the other experiment gave: that of the same seed, or of its only one."""
    seeds = parent.experiment.seeds
    own = seed if seed in seeds else seeds[0]
    results = (read_record(path) or {}).get("results", {})
    if results.get(str(own), {}).get("status") == "diverged" and parent.experiment.restarts == 1:
        raise RunError(StartDiverged(plan.experiment.span, name=parent.experiment.name, seed=own))
    paths = None if part is None else dict(part.paths)
    return Start(parent.graph, load_state(path, own), load_removed(path, own), paths)


def _status(path: Path) -> str | None:
    return (read_record(path) or {}).get("status")
