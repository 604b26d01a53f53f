"""`filtered_gradient`: the mean gradient of the samples that are left when the most suspicious are dropped.

Liu, Sun, Wang, Tan and Zhou, "Learning Deep Neural Networks under Agnostic Corrupted Supervision" (ICML 2021): of
each batch the fraction `rate` of samples with the largest norm of their gradient is dropped, and the gradients of the
others are averaged: a robust mean. PRL(G) takes the gradient by all parameters, PRL(L) that by the outputs of the
network; of two classes, or one number with the squared error, the latter grows with the loss, and the samples dropped
are those of largest loss, as in small-loss selection. The fraction grows linearly from 0 over the first epochs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.backprop import differentiate
from nnspec.compiler.rules.needs import losses_apart, samples_apart
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.rules.setting import Setting
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams

_NUMBERS = 1 << 25  # of gradients of single samples that exist at a time


class FilteredGradient(Rule):
    name = "filtered_gradient"
    doc = """The mean gradient of a batch without the fraction `rate` of samples whose own gradient is largest, which
are those with corrupted labels if all goes well (PRL: Liu and others, 2021). `by` says which gradient: by all parameters
that the rule teaches (PRL(G)), by the outputs (PRL(L)), or none, the loss itself. The history's `rule` tells which
fraction was kept and, where labels were corrupted with `corrupt`, how many of those kept are right (`purity`)."""
    requires = ("gradient",)
    arguments = (
        Argument(name="rate", kind="real", above=0, below=1, doc="the fraction of a batch that is dropped"),
        Argument(
            name="by",
            kind="choice",
            choices=("gradient", "output", "loss"),
            default="gradient",
            doc="the norm of which gradient is compared; loss: the loss",
        ),
        Argument(
            name="ramp",
            kind="int",
            default=10,
            at_least=0,
            doc="epochs over which the fraction grows from 0 to `rate`",
        ),
    )
    example = "learn = filtered_gradient(rate = 0.4)"

    def refusals(self, setting: Setting) -> Iterator[Error]:
        yield from losses_apart(setting)
        if setting.choice["by"] == "gradient":
            yield from samples_apart(setting)

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        import torch

        run.optimizer.zero_grad(set_to_none=True)
        kept = lowest(self.scores(run, batch), self.dropped(run))
        losses = run.sample_losses(batch)
        differentiate(run, run.penalized(losses[kept].mean()))
        with torch.no_grad():
            run.note("kept", losses.new_tensor(len(kept) / batch.rows))
            if batch.true is not None:
                run.note("purity", (batch.target == batch.true)[kept].to(losses.dtype).mean())
        return losses.detach().mean()

    def dropped(self, run: LearningGroup) -> float:
        """Return the fraction that is dropped now."""
        rate, ramp = float(run.options["rate"]), int(run.options["ramp"])
        phase = run.learner.phase
        epoch = run.learner.phase_step // phase.steps_per_epoch
        return rate * min(1.0, epoch / ramp) if ramp else rate

    def scores(self, run: LearningGroup, batch: Batch) -> Tensor:
        """Return how suspicious each sample is, (row,)."""
        match run.options["by"]:
            case "gradient":
                return gradient_norms(run, batch)
            case "output":
                return output_norms(run, batch)
            case _:
                import torch

                with torch.no_grad():
                    return run.functional.losses(run.functional.parameters, batch)


def lowest(scores: Tensor, dropped: float) -> Tensor:
    """Return the places of the samples that are kept, in order: one at least."""
    rows = len(scores)
    count = max(1, rows - int(dropped * rows))
    return scores.argsort(stable=True)[:count].sort().values


def gradient_norms(run: LearningGroup, batch: Batch) -> Tensor:
    """Return the norm of each sample's gradient by the group's parameters, (row,)."""
    import torch
    from torch.func import grad, vmap

    form = run.functional
    parameters = form.parameters

    def loss(own: dict[str, Tensor], *given: Tensor) -> Tensor:
        return form.losses(own, form.alone(given)).sum()

    def norm(*given: Tensor) -> Tensor:
        found: Any = grad(loss)(parameters, *given)
        return torch.stack([own.square().sum() for own in found.values()]).sum().sqrt()

    numbers = sum(own.numel() for own in parameters.values())
    over: Any = vmap(norm, randomness="different", chunk_size=max(1, _NUMBERS // max(1, numbers)))
    return over(*form.given(batch))


def output_norms(run: LearningGroup, batch: Batch) -> Tensor:
    """Return the norm of each sample's gradient by what the loss reads of the network, (row,)."""
    import torch

    form = run.functional
    parameters = form.parameters
    with torch.no_grad():
        values = form.values(parameters, batch)
    several = isinstance(values, tuple)
    given: tuple[Tensor, ...] = values if several else (values,)
    given = tuple(own.detach().requires_grad_(own.is_floating_point()) for own in given)
    losses = run.each_loss(given if several else given[0], batch, form.state(parameters))
    real = [own for own in given if own.requires_grad]
    found: Any = torch.autograd.grad(losses.sum(), real, allow_unused=True)
    squares = [own.flatten(1).square().sum(1) for own in found if own is not None]
    return torch.stack(squares).sum(0).sqrt()


RULES = (FilteredGradient(),)
