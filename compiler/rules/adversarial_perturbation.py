"""`adversarial_perturbation`: the gradient at the worst weights nearby.

Zheng, Zhang and Mao, "Regularizing Neural Networks via Adversarial Model Perturbation" (CVPR 2021): the loss is
max over ||v|| <= eps of L(w + v). `inner_steps` times v <- project(v + inner_lr * grad L(w + v)), from v = 0, on
the batch of the step; then w takes the optimizer's step along grad L(w + v). The ball is that of each tensor, as in
the paper's code, or of all together. Their projection leaves v inside the ball; one that puts it on the sphere, of a
global ball and in one step, is sharpness-aware minimisation (Foret, Kleiner, Mobahi and Neyshabur, 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.rules.backprop import gradient
from nnspec.compiler.rules.perturbed import put_back, same_draws, shift
from nnspec.compiler.rules.rule import Rule
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class AdversarialPerturbation(Rule):
    name = "adversarial_perturbation"
    doc = """Adversarial model perturbation: the optimizer gets the gradient at w + v, v of norm `eps` or less that
raises the loss of the batch (Zheng, Zhang and Mao, 2021). `ball = "global", project = "sphere"` is sharpness-aware
minimisation. All forwards of a step draw the same dropout masks, and running statistics move by the first, at w.
The loss in the history is that at w; with `eps = 0` this is backpropagation."""
    requires = ("gradient",)
    arguments = (
        Argument(name="eps", kind="real", default=0.5, at_least=0, doc="radius of the ball"),
        Argument(name="inner_lr", kind="real", default=1.0, above=0, doc="how far each inner step goes"),
        Argument(name="inner_steps", kind="int", default=1, at_least=1, doc="steps of ascent"),
        Argument(
            name="ball",
            kind="choice",
            choices=("tensor", "global"),
            default="tensor",
            doc="a ball for each tensor, or one for all",
        ),
        Argument(
            name="project",
            kind="choice",
            choices=("clip", "sphere"),
            default="clip",
            doc="clip: v is cut to the ball; sphere: v is put on its surface",
        ),
    )
    example = "learn = adversarial_perturbation(eps = 0.5)"

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        if run.options["eps"] == 0:
            return gradient(run, batch)
        stored = [parameter.detach().clone() for parameter in run.parameters]
        with same_draws(run) as again:
            loss = again(lambda: gradient(run, batch))
            climbed = [parameter.new_zeros(()).expand_as(parameter) for parameter in stored]
            for _ in range(int(run.options["inner_steps"])):
                climbed = self.climb(run, climbed)
                shift(run.parameters, stored, climbed, 1.0)
                again(lambda: gradient(run, batch))
            put_back(run.parameters, stored)
        return loss

    def climb(self, run: LearningGroup, start: list[Tensor]) -> list[Tensor]:
        """Return the perturbation after one inner step from `start`, along the gradient that parameters have."""
        import torch

        rate, eps = float(run.options["inner_lr"]), float(run.options["eps"])
        up = run.spared([torch.zeros_like(p) if p.grad is None else p.grad for p in run.parameters])
        moved = [v + rate * g for v, g in zip(start, up, strict=True)]
        squares = [v.square().sum() for v in moved]
        if run.options["ball"] == "global":
            squares = [torch.stack(squares).sum()] * len(squares)
        sizes = [own.sqrt() for own in squares]
        clip = run.options["project"] == "clip"
        factors = [torch.where(size > 0, eps / size, 0.0) for size in sizes]  # nowhere to climb: stay
        return [v * (f.clamp(max=1.0) if clip else f) for v, f in zip(moved, factors, strict=True)]


RULES = (AdversarialPerturbation(),)
