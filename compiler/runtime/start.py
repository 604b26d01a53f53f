"""The weights with which trainings begin, where they come from elsewhere.

In: a plan whose experiment begins with the weights of another, and the folder of runs. Out: the plan with
`initial`, which gives a seed's tensors and which of their entries were pruned. The other experiment is
trained first if it has not been.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnspec.compiler.runtime.plan import Plan, Start
from nnspec.compiler.runtime.runs import RunFolder, load_removed, load_state, read_record
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import StartDiverged


def started(plan: Plan, out: Path, train_first: Callable[[], object]) -> Plan:
    """Return the plan with what its trainings begin with; `train_first` trains the other experiment."""
    parent = plan.parent
    if parent is None:
        return plan
    path = RunFolder(out, parent).path
    if _status(path) not in ("finished", "diverged"):
        train_first()
    seeds = parent.experiment.seeds

    def initial(seed: int) -> Start:
        own = seed if seed in seeds else seeds[0]
        results = (read_record(path) or {}).get("results", {})
        if results.get(str(own), {}).get("status") == "diverged" and parent.experiment.restarts == 1:
            raise RunError(StartDiverged(plan.experiment.span, name=parent.experiment.name, seed=own))
        return Start(load_state(path, own), load_removed(path, own))

    return plan.replace(initial=initial)


def _status(path: Path) -> str | None:
    return (read_record(path) or {}).get("status")
