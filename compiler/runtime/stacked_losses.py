"""The losses of many networks at once: their forward and their loss over one batch.

In: a plan, a loss, and whether each network has rows of its own. Out: a function (stacked state, batch) -> losses
(network, row), traced for each shape of batch when the first one comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice, Judged
from nnspec.compiler.runtime import losses
from nnspec.compiler.runtime.evaluation import stacked_losses
from nnspec.compiler.runtime.objectives import per_sample
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.stacked_forward import stacked, traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    State = dict[str, Tensor]
    StackedLosses = Callable[[State, Batch], Tensor]


def stacked_objective(plan: Plan, loss: Judged, own_rows: bool) -> StackedLosses:
    """Return the per-sample losses of stacked networks in training, as a function of state and batch."""
    from nnspec.compiler.emit.load import function

    forward = function(plan.sources.graph)
    if not isinstance(loss, Choice):
        return _Together(plan, loss, own_rows)
    known: dict[tuple[int, ...], Callable[..., Tensor]] = {}
    rowwise = losses.build(loss)
    several = len(plan.sources.values) > 1

    def over(state: State, batch: Batch) -> Tensor:
        shape = tuple(batch.inputs[0].shape)
        if shape not in known:
            known[shape] = traced(
                stacked(_first(forward, several), own_rows, training=True), state, batch.inputs
            )
        output, target = known[shape](state, *batch.inputs), batch.target
        if not own_rows:
            target = target.expand(output.shape[0], *target.shape)
        return stacked_losses(rowwise, output, target)

    return over


def _first(forward: Callable[..., Any], several: bool) -> Callable[..., Tensor]:
    """Return a forward that gives the first output alone, the one that a bare word compares."""
    if not several:
        return forward
    return lambda *given, **options: forward(*given, **options)[0]


class _Together:
    """Forward and loss as one function, so that one trace covers both."""

    def __init__(self, plan: Plan, loss: Judged, own_rows: bool) -> None:
        from nnspec.compiler.emit.load import function

        forward = function(plan.sources.graph)
        judge = per_sample(loss, plan.sources)
        inputs = len(plan.sources.inputs)

        def both(state: State, *given: Tensor, training: bool) -> Tensor:
            batch = Batch(given[:inputs], given[inputs], given[inputs + 1 :])
            return judge(forward(state, *batch.inputs, training=training), batch, state)

        self.both = stacked(both, own_rows, training=True)
        self.known: dict[tuple[int, ...], Callable[..., Tensor]] = {}

    def __call__(self, state: State, batch: Batch) -> Tensor:
        given = (*batch.inputs, batch.target, *batch.fields)
        shape = tuple(batch.target.shape)
        if shape not in self.known:
            self.known[shape] = traced(self.both, state, given)
        return self.known[shape](state, *given)
