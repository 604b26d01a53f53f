"""`backprop`: the gradient of the batch's mean loss, by reverse-mode differentiation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.rule import Rule

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class Backprop(Rule):
    name = "backprop"
    doc = """Gradient descent by backpropagation: the optimizer gets the gradient of the mean loss of the
    batch with respect to every parameter (Rumelhart, Hinton and Williams, 1986)."""
    requires = ("gradient",)
    follows_gradient = True
    example = "learn = backprop"

    def step(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        run.optimizer.zero_grad(set_to_none=True)
        loss: Any = run.mean_loss(batch)  # torch types its `backward` only in part
        loss.backward(inputs=run.parameters if run.apart else None)
        run.optimizer.step()
        return loss.detach()


RULES = (Backprop(),)
