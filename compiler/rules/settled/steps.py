"""The steps of a phase, gathered: what an equation sums over them is computed for many steps at once.

A sum over steps of products is a sum over a batch of steps and samples. So states are kept for some steps and laid end to
end along the batch, where the terms read nothing but the step itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.written.terms import atoms

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.settled.phases import Settling, States
    from nnspec.compiler.rules.written.equations import Equations

CHUNK = 1 << 20  # that are kept at once
_OWN = ("weight", "bias")


def are_alone(equations: Equations, phase: str, settling: Settling) -> bool:
    """Return whether what is summed over the steps of a phase reads nothing but the step, sample by sample."""
    terms = [term for line in equations.updates for term in line.value if term.steps == phase]
    for atom in atoms(tuple(terms)):
        if atom.word in ("average", "dense", "running", "sent", "incoming", "outgoing"):
            return False
        if atom.word == "read" and (atom.phase or atom.name not in ("pre", "post", "post.change", *_OWN)):
            return False
    return all(settling.can_send(connection) for connection in settling.system.loop.connections)


class Steps:
    """Keeps steps, and tells `each(states, earlier, count)` of them, so many at once."""

    def __init__(self, each: Callable[[States, States, int], None], together: bool) -> None:
        self.each = each
        self.together = together
        self.kept: list[tuple[States, States]] = []
        self.numbers = 0

    def take(self, before: States, after: States) -> tuple[Tensor, ...]:
        """Keep a step."""
        if not self.together:
            self.each(after, before, 1)
            return ()
        self.kept.append((before, tuple(state.clone() for state in after)))
        self.numbers += sum(state.numel() for state in after)
        if self.numbers > CHUNK:
            self.finish()
        return ()

    def finish(self) -> None:
        """Tell of what is kept."""
        if self.kept:
            earlier = _laid([before for before, _ in self.kept])
            self.each(_laid([after for _, after in self.kept]), earlier, len(self.kept))
        self.kept, self.numbers = [], 0


def _laid(found: list[States]) -> Any:
    import torch

    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))
