"""Memory, said before it is taken: what the weights of a training need at least."""

from __future__ import annotations

from nnspec.compiler.runtime.device import available_memory, describe
from nnspec.compiler.runtime.plan import Plan, parameter_count
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import NotEnoughMemory

# How many numbers an optimizer keeps for each weight; what is not listed is taken to keep two.
_STATES = {"sgd": 0, "momentum": 1, "rmsprop": 1}


def needed_memory(plan: Plan, networks: int) -> int:
    """Return the bytes of weights, gradients, optimizer states, and the copy kept for the checkpoint."""
    optimizer = plan.experiment.optimizer
    states = _STATES.get(optimizer.name, 2)
    states += bool(optimizer.name != "momentum" and optimizer.options.get("momentum"))
    copies = 2 * (1 + states) + 1
    return parameter_count(plan.graph) * copies * plan.dtype.itemsize * networks


def check_memory(plan: Plan, networks: int) -> None:
    """Refuse what cannot fit: RunError with what is needed and what is free."""
    needed, available = needed_memory(plan, networks), available_memory(plan.device)
    if available is not None and needed > available:
        raise RunError(
            NotEnoughMemory(
                plan.experiment.span,
                needed=in_words(needed),
                available=in_words(available),
                device=describe(plan.device),
                count=parameter_count(plan.graph) * networks,
            )
        )


def in_words(size: float) -> str:
    """Return a number of bytes as people write it: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
