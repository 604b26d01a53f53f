"""A group's network and loss as pure functions of its parameters: for derivatives of each sample.

In: a learning group. Parameters are dicts by state-dict key; tensors that the group does not teach are those of the
network. A forward is one of training, and moves no running statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch

    Parameters = dict[str, Tensor]


class FunctionalForm:
    """The pure functions of one group."""

    def __init__(self, group: LearningGroup) -> None:
        from nnspec.compiler.emit.load import function

        self._group = group
        self._forward = function(group.learner.plan.sources.graph)

    @property
    def parameters(self) -> Parameters:
        """The group's parameters as they are now, cut from any graph."""
        return {name: p.detach() for name, p in zip(self._group.names, self._group.parameters, strict=True)}

    def values(self, parameters: Parameters, batch: Batch) -> Any:
        """Return what the forward returns: one tensor, batch first, or a tuple of those that losses read."""
        return self._forward(self.state(parameters), *batch.inputs, training=True)

    def losses(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Return the loss of each sample, (row,)."""
        values = self.values(parameters, batch)
        return self._group.each_loss(values, batch, self.state(parameters))

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the tensors of a batch, row first: what `alone` takes one row of each of."""
        return (*batch.inputs, batch.target, *batch.fields)

    def alone(self, given: tuple[Tensor, ...]) -> Batch:
        """Return a batch of one sample, whose tensors have no axis of rows."""
        from nnspec.compiler.runtime.plan import Batch

        rows = tuple(values.unsqueeze(0) for values in given)
        inputs = len(self._group.learner.plan.sources.inputs)
        return Batch(rows[:inputs], rows[inputs], rows[inputs + 1 :])

    def state(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return all tensors of the network, those that are learned from `parameters`."""
        buffers = dict(self._group.network.named_buffers())
        return {**self._group.learner.state, **buffers, **parameters}
