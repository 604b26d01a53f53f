"""Weights in force, and directions brought back to what is stored.

The equations of a rule speak of the effective weight, after its constraints. What a rule wishes is minus a
cotangent of it; the vector-Jacobian product of the constraint's map brings it to the stored tensors: masks, manifolds
and straight-through gradients need no code in any rule. Where there is no map, the cotangent is the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.flat import Held

if TYPE_CHECKING:
    from torch import Tensor


class Effective:
    """The weights in force for one step of a rule, each worked out once. `makers`, how so, outlive the step."""

    def __init__(
        self, state: Mapping[str, Tensor], makers: dict[str, Callable[..., Tensor]] | None = None
    ) -> None:
        self.state = state
        self.makers = {} if makers is None else makers
        self._made: dict[str, Any] = {}
        self._cotangents: dict[str, Any] = {}

    def of(self, held: Held) -> Tensor:
        """Return a weight as its use takes it, detached."""
        found = self._whole(held).detach()
        return found.transpose(0, 1) if held.transposed else found

    def pull(self, held: Held, cotangent: Tensor) -> None:
        """Add a cotangent of a weight as its use takes it; several uses add up."""
        own = cotangent.transpose(0, 1) if held.transposed else cotangent
        before = self._cotangents.get(held.key)
        self._cotangents[held.key] = own if before is None else before + own

    def settle(self, parameters: Mapping[str, Tensor]) -> None:
        """Add what was pulled to `.grad` of the stored tensors among these parameters."""
        import torch

        mapped: list[str] = []
        for key, cotangent in self._cotangents.items():
            whole = self._made[key]
            if whole.is_leaf:
                _add(whole, cotangent)
            elif whole.requires_grad:
                mapped.append(key)
        if mapped:
            torch.autograd.backward(
                [self._made[key] for key in mapped],
                [self._cotangents[key].contiguous() for key in mapped],
                inputs=list(parameters.values()),
            )

    def _whole(self, held: Held) -> Any:
        if held.key not in self._made:
            import torch

            if held.key not in self.makers:
                from nnspec.compiler.emit.load import weight_function

                self.makers[held.key] = weight_function(held.weight, held.path)
            with torch.enable_grad():
                self._made[held.key] = self.makers[held.key](self.state)
        return self._made[held.key]


def _add(parameter: Any, gradient: Tensor) -> None:
    parameter.grad = gradient.contiguous() if parameter.grad is None else parameter.grad + gradient
