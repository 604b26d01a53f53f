"""`backprop`: the gradient of the batch's mean loss, by reverse-mode differentiation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.rule import Rule
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.objectives import NoGradient

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.ir import Graph
    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class Backprop(Rule):
    name = "backprop"
    doc = """Gradient descent by backpropagation: the optimizer gets the gradient of the mean loss of the
    batch with respect to every parameter (Rumelhart, Hinton and Williams, 1986)."""
    requires = ("gradient",)
    follows_gradient = True
    repeats = True
    arguments = (
        Argument(
            name="clip",
            kind="real",
            default=None,
            nullable=True,
            above=0,
            doc="the norm of the gradient is cut to this; none: it is left as it is",
        ),
    )
    example = "learn = backprop(clip = 1.0)"

    def stacks(self, options: dict[str, Any], graph: Graph) -> bool:
        return options.get("clip") is None  # the norm is that of one network

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        loss = gradient(run, batch)
        clip = run.options.get("clip")
        if clip is not None:
            from torch.nn.utils import clip_grad_norm_

            clip_grad_norm_(run.parameters, clip)
        return loss


def gradient(run: LearningGroup, batch: Batch) -> Tensor:
    """Give the group's parameters the gradient of the batch's mean loss; return that loss, detached."""
    run.optimizer.zero_grad(set_to_none=True)
    return differentiate(run, run.mean_loss(batch))


def differentiate(run: LearningGroup, loss: Any) -> Tensor:
    """Add the gradient of a loss to that of the group's parameters; RunError where there is none."""
    if not loss.requires_grad:
        raise RunError(NoGradient(run.span))
    loss.backward(inputs=run.parameters if run.apart else None)  # torch types it only in part
    return loss.detach()


RULES = (Backprop(),)
