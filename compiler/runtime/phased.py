"""What networks in training have in common, one or many at once: the phases, and whose turn it is in each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nnspec.compiler.experiment import Group
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.runtime import masks
from nnspec.compiler.runtime.followers import Followers
from nnspec.compiler.runtime.group import Pace
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.progress import Progress
from nnspec.compiler.runtime.trials import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.stages import Phase


class Taught(Protocol):
    """Parameters that learn together."""

    pace: Pace

    def learn(self, batch: Batch, step: int) -> Tensor:
        """Make one step; return the loss."""
        ...

    def mean_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch."""
        ...


class Phased:
    """Base of networks in training. `learned` and `state` are by state-dict key."""

    plan: Plan
    trials: tuple[Trial, ...]
    state: dict[str, Tensor]
    learned: dict[str, Tensor]
    masks: dict[str, Tensor]
    followers: Followers
    progress: Progress
    phase: Phase
    phase_number: int
    phase_step: int
    step: int

    @property
    def taught(self) -> Sequence[Taught]:
        """The groups of the phase."""
        raise TypeError("networks in training have groups")

    @property
    def descended(self) -> str:
        """What the losses of a step are, as a row of history calls them: of the first group's rule."""
        choice = self.phase.groups[0].rule
        return "loss" if choice is None else rule_of(choice).objective

    def begin_phase(self, number: int) -> list[tuple[Group, dict[str, Tensor]]]:
        """Stand at the start of a phase; return its groups, each with the parameters that it teaches."""
        self.phase_number = number
        self.phase = self.plan.phases[number]
        self.phase_step = 0
        members = members_of(self.learned, self.phase)
        together = {name for own in members for name in own}
        for name, parameter in self.learned.items():
            parameter.requires_grad_(name in together)
        return [(group, own) for group, own in zip(self.phase.groups, members, strict=True) if own]

    def learn_all(self, batches: Iterable[Batch]) -> list[Tensor]:
        """Make a step on each batch; return the losses."""
        found = [self.learn(batch) for batch in batches]
        self.progress.finish(self.state)
        return found

    def learn(self, batch: Batch) -> Tensor:
        """Let every group whose turn it is make a step; return the mean of their losses."""
        import torch

        self.progress.show(self.state, self.step)
        due = [group for group in self.taught if group.pace.due(self.phase_step)]
        losses = [group.learn(batch, self.phase_step) for group in due]
        self.step += 1
        self.phase_step += 1
        self.thin()
        if self.masks:
            masks.lay(self.learned, self.masks)
        if self.followers.pairs:
            self.followers.move(self.state, self.step)
        if len(losses) == 1:
            return losses[0]
        if losses:
            return torch.stack(losses).mean(0)
        with torch.no_grad():
            return self.taught[0].mean_loss(batch)

    def thin(self) -> None:
        """Prune after a step, where the phase says so."""

    def where(self) -> dict[str, Any]:
        """Return which networks these are, and how far they have come."""
        return {
            "trials": [list(trial) for trial in self.trials],
            "phase": self.phase_number,
            "step": self.step,
            "phase_step": self.phase_step,
        }


def members_of(learned: Mapping[str, Tensor], phase: Phase) -> list[dict[str, Tensor]]:
    """Return the parameters that each group of a phase teaches; with `train` blocks, others are frozen."""
    free = {name: tensor for name, tensor in learned.items() if name not in phase.frozen}
    return [
        {name: tensor for name, tensor in free.items() if group.keys is None or name in group.keys}
        for group in phase.groups
    ]
