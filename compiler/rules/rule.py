"""What a learning rule is: one class that owns its step.

A rule states its word and arguments, and what it asks of a network. `step` is given a group (network,
parameters, loss, optimizer), one batch and the run's streams, changes the parameters once, and returns the batch's
loss on the device, without waiting for it. Nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.runtime.component import Component

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class Rule(Component):
    """A learning rule. Subclasses state the class attributes and `step`."""

    family = "rule"
    requires: ClassVar[tuple[str, ...]] = ()  # "gradient": a loss that can be differentiated
    # Many networks at once: the direction is the gradient of the batch's mean loss, and nothing is drawn.
    follows_gradient: ClassVar[bool] = False

    # An optimizer may ask for the loss and its direction several times a step.
    repeats: ClassVar[bool] = False

    def stacks(self, options: dict[str, Any]) -> bool:
        """Return whether many networks can learn at once with these options."""
        return self.follows_gradient

    def step(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        """Change the parameters once; return the mean loss of the batch, detached and on the device."""
        raise TypeError(f"{self.name} has no step")
