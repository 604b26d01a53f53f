"""Where a loss stopped being finite: the last epochs are replayed from the last sound snapshot.

In: a plan, the snapshot of one trial, and how many steps later its loss was no longer finite. Out: words that
name the first value which was not; of states that a rule lets settle, which and in which phase.
"""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import Any, NamedTuple, cast

from nnspec.compiler.runtime.checkpoint import Snapshot
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.trials import Trial


class Blown(NamedTuple):
    """States that were no longer finite: of which neurons, and in which phase of the rule."""

    state: str
    phase: str


class Place(NamedTuple):
    """Where a value was first not finite, in words; `blown` if it was in states that settle."""

    where: str
    blown: Blown | None = None

    @property
    def facts(self) -> dict[str, str]:
        """As plain data."""
        more = {} if self.blown is None else self.blown._asdict()
        return {"where": self.where, **more}


def locate(plan: Plan, trial: Trial, snapshot: Snapshot, steps: int) -> Place:
    """Return where the first value that is not finite appeared, in the last of these steps."""
    learner = Learner(plan, trial)
    learner.restore(snapshot)
    learner.blown = []
    where = _where(learner, steps)
    if learner.blown:
        blown = learner.blown[0]
        return Place(f"first in the states of `{blown.state}`, in the phase `{blown.phase}`", blown)
    return Place(where)


def _where(learner: Learner, steps: int) -> str:
    """Replay the steps and say where in the last one something was no longer finite."""
    learner.network.train()
    batches = chain.from_iterable(learner.batches(learner.phase.steps_per_epoch) for _ in repeat(None))
    for batch in islice(batches, steps - 1):
        learner.learn(batch)
    last = next(batches)
    found = _parameter(learner) or _forward(learner, last) or "first in the loss"
    if not learner.blown:
        learner.learn(last)  # which tells of states that blow up in it
    return found


def _parameter(learner: Learner) -> str | None:
    for name, parameter in learner.network.named_parameters():
        if not _is_finite(parameter):
            return f"the parameter `{name}` was no longer finite after the step before"
    return None


def _forward(learner: Learner, batch: Batch) -> str | None:
    """Run the forward and name the first module whose output is not finite."""
    import torch

    found: list[str] = []
    learner.progress.show(learner.state, learner.step)

    def watch(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            if not _is_finite(output):
                found.append(name)

        return hook

    modules: list[tuple[str, Any]] = [pair for pair in learner.network.named_modules() if pair[0]]
    handles: list[Any] = [module.register_forward_hook(watch(name)) for name, module in modules]
    try:
        with torch.no_grad():
            losses = [group.mean_loss(batch) for group in learner.groups]
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return f"first in the output of `{found[0]}`"
    return (
        None if all(map(_is_finite, losses)) else "first in the loss, or behind the last layer with weights"
    )


def _is_finite(values: Any) -> bool:
    """Whether a tensor, or each of a block's several outputs, is finite."""
    if isinstance(values, tuple):
        return all(_is_finite(value) for value in cast("tuple[Any, ...]", values))
    return bool(values.isfinite().all())
