"""Lion, which torch does not have: steps by the sign of an average of gradients.

Chen and others, "Symbolic discovery of optimization algorithms" (2023), algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lion(Optimizer):
    """w -= lr * (sign(beta1 m + (1 - beta1) g) + weight_decay * w), then m = beta2 m + (1 - beta2) g."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        super().__init__(parameters, options)

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move the parameters that have a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._move(weight, group)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        own: dict[str, Tensor] = self.state[weight]
        if not own:
            own["mean"] = torch.zeros_like(weight)
        mean, gradient = own["mean"], weight.grad
        assert gradient is not None
        direction = mean.lerp(gradient, 1 - group["beta1"]).sign_()
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
        mean.lerp_(gradient, 1 - group["beta2"])
