"""Losses of complex outputs: the analytic continuation of those of real ones, where there is one.

Holomorphic nudging moves outputs off the real line. The continuation of (y - t)^2 is the square, not |y - t|^2, and
that of a softmax has complex exponentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice, Judged

if TYPE_CHECKING:
    from torch import Tensor

WORDS = ("mean_squared_error", "cross_entropy")


def has_continuation(loss: Judged) -> bool:
    """Return whether a loss can be read of complex outputs; of an expression its functions decide."""
    return not isinstance(loss, Choice) or loss.name in WORDS


def continued(choice: Choice, values: Tensor, target: Tensor) -> Tensor:
    """Return the mean of a loss over a batch of complex outputs."""
    if choice.name == "mean_squared_error":
        return _squared(values, target)
    return _cross_entropy(values, target, float(choice.options.get("smoothing", 0.0)))


def _squared(values: Tensor, target: Tensor) -> Tensor:
    from nnspec.compiler.runtime.losses import like

    difference: Any = values - like(target, values.real)
    return (difference * difference).mean()


def _cross_entropy(values: Tensor, target: Tensor, smoothing: float) -> Tensor:
    from nnspec.compiler.runtime.losses import like

    classes = values.shape[-1]
    wanted = like(target, values.real).to(values.dtype)
    wanted = (1 - smoothing) * wanted + smoothing / classes
    shift = values.real.detach().amax(-1, keepdim=True)  # keeps exp finite, and cancels
    logs = values - shift - (values - shift).exp().sum(-1, keepdim=True).log()
    return -(wanted * logs).sum(-1).mean()
