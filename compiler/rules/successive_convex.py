"""`successive_convex`: each step goes towards the minimum of a convex surrogate of the loss.

Scardapane and Di Lorenzo, "Stochastic Training of Neural Networks via Successive Convex Approximations"
(arXiv:1706.04769). At w_n the network is linearised and the convex loss is kept:

    F(w) = rho mean_i l(y_i, f_i + J_i (w - w_n)) + (1 - rho) d_n'(w - w_n) + tau/2 |w - w_n|^2 + l2/2 |w|^2,

d_n being the running mean of gradients, d <- (1 - rho) d + rho grad. The optimizer is given w_n - argmin F, so that `sgd(lr
= gamma)` makes the step w_n + gamma (argmin F - w_n) of the paper, and its schedule lets gamma fall. With the squared
loss the surrogates of all steps are averaged, not their gradients alone: A <- (1 - rho) A + rho J'HJ, b likewise, and
argmin F solves (A + (tau + l2) I) w = b + tau w_n. Linearising the loss too leaves averaged gradient descent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import state_key
from nnspec.compiler.rules.backprop import gradient
from nnspec.compiler.rules.flat import flat_gradient, lay, sizes_of
from nnspec.compiler.rules.needs import same_every_time, samples_apart
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.rules.setting import Setting
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.learning import KinkOutsideSurrogate, NotConvexInOutputs, TooManyToSolve

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.surrogate import Linearised
    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams

MOST = 4000  # parameters of which a matrix is solved
_SQUARED = "mean_squared_error"
_CONVEX = (_SQUARED, "cross_entropy", "binary_cross_entropy")


class SuccessiveConvex(Rule):
    name = "successive_convex"
    doc = """Successive convex approximation (Scardapane and Di Lorenzo, 2017): the optimizer gets w minus the minimum of a
surrogate, in which the network is linear in the weights and the loss is as it is; with `sgd(lr = 0.5)` a step goes half
of the way there. Surrogates are averaged with rho_n = n^-rho. The squared loss is solved as a ridge system, cross-entropy
by Newton's method; `blocks` random parts of the weights are solved each by itself. A step solves for all
parameters at once: few thousands at most."""
    requires = ("gradient",)
    arguments = (
        Argument(
            name="linearise",
            kind="choice",
            choices=("network", "all"),
            default="network",
            doc="network: the loss is kept; all: the loss too, which is averaged gradient descent",
        ),
        Argument(name="rho", kind="real", default=0.6, above=0, at_most=1, doc="step n weighs n^-rho"),
        Argument(name="tau", kind="real", default=0.1, above=0, doc="holds the minimum near the weights"),
        Argument(name="l2", kind="real", default=0.0, at_least=0, doc="adds l2/2 |w|^2 to the loss"),
        Argument(name="blocks", kind="int", default=1, at_least=1, doc="random parts that are solved apart"),
    )
    example = "learn = successive_convex(tau = 0.1)"

    def refusals(self, setting: Setting) -> Iterator[Error]:
        yield from kinks(setting)
        if setting.choice["linearise"] == "all":
            return
        span = setting.choice.span
        yield from samples_apart(setting)
        yield from same_every_time(setting)
        loss = setting.loss
        if not isinstance(loss, Choice) or loss.name not in _CONVEX:
            related = () if loss.span is None else (Related(span=loss.span, label="the loss"),)
            yield NotConvexInOutputs(span, related, known=", ".join(f"`{name}`" for name in _CONVEX))
        sizes = sizes_of(setting)
        if sizes is not None and sum(sizes) > MOST:
            yield TooManyToSolve(span, total=sum(sizes), most=MOST)

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        import torch

        loss = gradient(run, batch)
        at = torch.cat([parameter.detach().flatten() for parameter in run.parameters])
        steps = run.kept.get("steps", torch.zeros((), dtype=torch.int64)) + 1
        run.kept["steps"] = steps
        rho = float(steps) ** -float(run.options["rho"])
        blocks = self.blocks(run, streams, len(at))
        lay(run, at - self.minimum(run, batch, at, flat_gradient(run), rho, blocks))
        return loss

    def blocks(self, run: LearningGroup, streams: Streams, count: int) -> list[Tensor]:
        """Return the places of each block: a random division of all numbers."""
        import torch

        parts = min(int(run.options["blocks"]), count)
        order = torch.arange(count) if parts == 1 else streams.permutation("blocks", count)
        return [own.to(run.parameters[0].device) for own in order.tensor_split(parts)]

    def minimum(
        self, run: LearningGroup, batch: Batch, at: Tensor, slope: Tensor, rho: float, blocks: list[Tensor]
    ) -> Tensor:
        """Return the minimum of the surrogate at the weights `at`, where the loss has this gradient."""
        from nnspec.compiler.rules.surrogate import Linearised, newton

        tau, l2 = float(run.options["tau"]), float(run.options["l2"])
        if run.options["linearise"] == "all":
            return (tau * at - averaged(run, "slope", slope, rho)) / (tau + l2)
        near = Linearised(run, batch)
        own = near.pulled(near.slope(near.outputs))
        penalty = slope - own  # of the smooth penalties, which are no part of the network
        if isinstance(run.aim, Choice) and run.aim.name == _SQUARED:
            return self.solved(run, near, at, own, penalty, rho, blocks)
        before = run.kept.get("slope", own.new_zeros(len(own)))
        averaged(run, "slope", own, rho)
        return newton(near, rho, (1 - rho) * before + penalty, at, tau, l2, blocks)

    def solved(
        self,
        run: LearningGroup,
        near: Linearised,
        at: Tensor,
        slope: Tensor,
        penalty: Tensor,
        rho: float,
        blocks: list[Tensor],
    ) -> Tensor:
        """Return the minimum of the averaged surrogates of the squared loss."""
        from nnspec.compiler.rules.surrogate import ridge

        gram = near.gram(near.curvature(near.outputs))
        right = averaged(run, "right", gram @ at - slope, rho)
        averaged(run, "gram", gram, rho)
        tau, l2 = float(run.options["tau"]), float(run.options["l2"])
        return ridge(run.kept["gram"], right - penalty, at, tau, l2, blocks)


def kinks(setting: Setting) -> Iterator[Error]:
    """Yield an error for each penalty on what is taught that shrinks weights after the step: no part of a surrogate."""
    for given in constrained_weights(setting.graph):
        taught = any(state_key(given.owner, tensor.name) in setting.keys for tensor in given.weight.stored)
        for penalty in given.weight.penalties if taught else ():
            if penalty.proximal is not None:
                related = (
                    () if penalty.span is None else (Related(span=penalty.span, label="laid on it here"),)
                )
                yield KinkOutsideSurrogate(
                    setting.choice.span, related, penalty=penalty.name, weight=given.path
                )


def averaged(run: LearningGroup, name: str, new: Tensor, rho: float) -> Tensor:
    """Let the running mean of this name move towards a value by `rho`, keep it and return it."""
    before = run.kept.get(name)
    run.kept[name] = new * rho if before is None else before.lerp(new, rho)
    return run.kept[name]


RULES = (SuccessiveConvex(),)
