"""What a learning rule is: one class that gives a direction.

A rule states its word and arguments, and what it asks of a network. `direction` is given a group (network,
parameters, loss, optimizer), one batch and the run's streams, and fills `.grad` of the group's parameters with what the
optimizer descends. The optimizer's step follows; a rule that must own more than a direction overrides `step`. Both
return the batch's loss on the device, without waiting for it. Nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nnspec.compiler.runtime.component import Component

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from nnspec.compiler.ir import Graph
    from nnspec.compiler.rules.setting import Setting
    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.stack import StackedGroup
    from nnspec.compiler.runtime.streams import Streams
    from nnspec.dsl.diagnostics import Error


class ManyDirections(Protocol):
    """Directions of many networks at once. `more` is what the optimizer may change beside their parameters."""

    more: list[Tensor]

    def direction(self, batch: Batch) -> Tensor:
        """Fill `.grad` of the group's parameters, stacked; return the mean loss of each network."""
        ...


class Rule(Component):
    """A learning rule. Subclasses state the class attributes and `direction`, or else `step`."""

    family = "rule"
    requires: ClassVar[tuple[str, ...]] = ()  # "gradient": a loss that can be differentiated
    # Many networks at once: the direction is the gradient of the batch's mean loss, and nothing is drawn.
    follows_gradient: ClassVar[bool] = False

    # What `direction` and `step` return, as a row of history calls it.
    objective: ClassVar[str] = "loss"

    # An optimizer may ask for the loss and its direction several times a step.
    repeats: ClassVar[bool] = False

    def stacks(self, options: dict[str, Any], graph: Graph) -> bool:
        """Return whether many networks like this one can learn at once with these options."""
        return self.follows_gradient

    def together(self, group: StackedGroup) -> ManyDirections | None:
        """Return what gives the directions of many networks at once; None: their gradients are."""
        return None

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        """Return the argument, and why, whose value does not go with the others; None if all do."""
        return None

    def network(self, graph: Graph, options: dict[str, Any]) -> Graph:
        """Return the network as the rule reads it, which is then trained, judged and analysed.

        Its instances, paths and tensors are those of the one given. Raises NotAChain where it cannot be read so.
        """
        return graph

    def refusals(self, setting: Setting) -> Iterator[Error]:
        """Yield what a network, a loss or an optimizer lacks that the rule needs, before anything runs."""
        yield from ()

    def begin(self, run: LearningGroup) -> object:
        """Return what the steps of the rule in a group share, found as `run.begun`; None if nothing is.

        An object with `more`, a list of tensors, lets the optimizer change these beside the parameters.
        """
        return None

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        """Fill `.grad` of every parameter of the group with what the optimizer descends; return the mean loss.

        That is minus the change that the rule wishes. No parameter is changed, and the loss is detached.
        """
        raise TypeError(f"{self.name} gives no direction")

    def step(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        """Change the parameters once; return the mean loss of the batch, detached and on the device."""
        if run.repeats:
            return self._search(run, batch, streams)
        loss = self.direction(run, batch, streams)
        run.optimizer.step()
        return loss

    def _search(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        """Let the optimizer ask for the loss as often as it likes; a forward then draws the same each time."""
        before = run.draws()

        def again() -> Tensor:
            run.draw_again(before)
            return self.direction(run, batch, streams)

        optimizer: Any = run.optimizer  # torch says that a closure returns a float
        return optimizer.step(again).detach()
