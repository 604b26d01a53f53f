"""`weight_perturbation`: a direction from differences of the loss; nothing is differentiated.

For v drawn from N(0, I), (L(w + sigma v) - L(w - sigma v)) / (2 sigma) * v is the gradient on average, up
to terms in sigma^2. The weights perturbed are the stored ones, so a constraint needs no derivative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.rules.perturbed import put_back, same_draws, shift
from nnspec.compiler.rules.rule import Rule
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class WeightPerturbation(Rule):
    name = "weight_perturbation"
    doc = """Weight perturbation: the optimizer gets the mean over `samples` random v of
    (L(w + sigma v) - L(w - sigma v)) / (2 sigma) * v, or of (L(w + sigma v) - L(w)) / sigma * v if not
    `antithetic`. Backpropagation never runs (Spall, 1992; Cauwenberghs, 1993)."""
    arguments = (
        Argument(name="sigma", kind="real", default=1e-3, above=0, doc="size of the perturbation"),
        Argument(name="samples", kind="int", default=1, at_least=1, doc="random directions a step"),
        Argument(
            name="antithetic", kind="bool", default=True, doc="compare with the opposite perturbation too"
        ),
    )
    example = "learn = weight_perturbation(sigma = 0.001, samples = 8)"

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        import torch

        with torch.no_grad():
            directions, loss = self.directions(run, batch, streams)
        for parameter, direction in zip(run.parameters, directions, strict=True):
            parameter.grad = direction
        return loss

    def directions(self, run: LearningGroup, batch: Batch, streams: Streams) -> tuple[list[Tensor], Tensor]:
        """Return an estimate of the gradient, and the loss: the mean of those that were measured."""
        import torch

        sigma, samples = float(run.options["sigma"]), int(run.options["samples"])
        antithetic = bool(run.options["antithetic"])
        stored = [parameter.detach().clone() for parameter in run.parameters]
        total = [torch.zeros_like(parameter) for parameter in stored]
        losses: list[Tensor] = []
        with same_draws(run) as again:
            centre = None if antithetic else again(lambda: run.mean_loss(batch))
            for _ in range(samples):
                noise = run.spared([streams.normal("perturbation", parameter) for parameter in stored])
                shift(run.parameters, stored, noise, sigma)
                above = again(lambda: run.mean_loss(batch))
                if centre is None:
                    shift(run.parameters, stored, noise, -sigma)
                    below = again(lambda: run.mean_loss(batch))
                    slope, loss = (above - below) / (2 * sigma), (above + below) / 2
                else:
                    slope, loss = (above - centre) / sigma, centre
                losses.append(loss)
                for sum_, v in zip(total, noise, strict=True):
                    sum_.add_(v * (slope / samples))
            put_back(run.parameters, stored)
        return total, torch.stack(losses).mean()


RULES = (WeightPerturbation(),)
