"""`weight_perturbation`: a direction from differences of the loss; nothing is differentiated.

For v drawn from N(0, I), (L(w + sigma v) - L(w - sigma v)) / (2 sigma) * v is the gradient on average, up
to terms in sigma^2. The weights perturbed are the stored ones, so a constraint needs no derivative.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from nnspec.compiler.rules.rule import Rule
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams

    Loss = Callable[[Batch], Tensor]


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
        with _same_draws(run) as again:
            centre = None if antithetic else again(batch)
            for _ in range(samples):
                noise = run.spared([streams.normal("perturbation", parameter) for parameter in stored])
                _shift(run.parameters, stored, noise, sigma)
                above = again(batch)
                if centre is None:
                    _shift(run.parameters, stored, noise, -sigma)
                    below = again(batch)
                    slope, loss = (above - below) / (2 * sigma), (above + below) / 2
                else:
                    slope, loss = (above - centre) / sigma, centre
                losses.append(loss)
                for sum_, v in zip(total, noise, strict=True):
                    sum_.add_(v * (slope / samples))
            _shift(run.parameters, stored, stored, 0.0)
        return total, torch.stack(losses).mean()


def _shift(parameters: Sequence[Tensor], stored: list[Tensor], noise: list[Tensor], by: float) -> None:
    """Set parameters to `stored + by * noise`: from the kept values, so that rounding never adds up."""
    import torch

    for parameter, centre, v in zip(parameters, stored, noise, strict=True):
        parameter.copy_(torch.add(centre, v, alpha=by))


@contextmanager
def _same_draws(run: LearningGroup) -> Generator[Loss]:
    """Yield the loss as a function of the batch that draws the same numbers at every call.

    Otherwise the difference of two dropout masks, over sigma, would drown the slope. Running statistics
    move once a step, as they do in backprop.
    """
    before = run.draws()
    buffers: list[Tensor] | None = None

    def loss(batch: Batch) -> Tensor:
        nonlocal buffers
        run.draw_again(before)
        found = run.mean_loss(batch)
        if buffers is None:
            buffers = [buffer.clone() for buffer in run.network.buffers()]
        return found

    yield loss
    for buffer, kept in zip(run.network.buffers(), buffers or (), strict=False):
        buffer.copy_(kept)


RULES = (WeightPerturbation(),)
