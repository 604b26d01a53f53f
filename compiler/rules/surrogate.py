"""The convex surrogate of a loss near given weights: the network linearised, the loss kept.

In: a learning group, its weights as one flat vector w (D,), a batch. Every sample i has outputs f_i (K,), their
Jacobian J_i (K, D), and a loss that is convex in the outputs, so that l(f_i + J_i v) is convex in v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch

NEWTON_STEPS = 8
HALVINGS = 20


class Linearised:
    """The outputs of a batch as linear functions of the weights, and the loss of given outputs."""

    def __init__(self, run: LearningGroup, batch: Batch) -> None:
        import torch
        from torch.func import grad, hessian, jacrev, vmap

        form = run.functional
        parameters = form.parameters
        state = form.state(parameters)
        given = form.given(batch)

        def outputs(own: dict[str, Tensor], *row: Tensor) -> Tensor:
            values = form.values(own, form.alone(row))
            return (values[0] if isinstance(values, tuple) else values).squeeze(0)

        def loss(output: Tensor, *row: Tensor) -> Tensor:
            return run.each_loss(output.view(shape).unsqueeze(0), form.alone(row), state).sum()

        over: Any = vmap(outputs, in_dims=(None, *(0 for _ in given)))
        values: Tensor = over(parameters, *given)
        shape = values.shape[1:]
        self.rows = batch.rows
        self.outputs = values.flatten(1)  # (B, K)
        slopes: Any = vmap(jacrev(outputs), in_dims=(None, *(0 for _ in given)))(parameters, *given)
        flat = [own.reshape(*self.outputs.shape, -1) for own in slopes.values()]
        self.jacobian = torch.cat(flat, dim=2)  # (B, K, D)
        slope: Any = vmap(grad(loss))
        curvature: Any = vmap(hessian(loss))
        value: Any = vmap(loss)
        self._slope: Callable[..., Tensor] = slope
        self._curvature: Callable[..., Tensor] = curvature
        self._value: Callable[..., Tensor] = value
        self._given = given

    def value(self, outputs: Tensor) -> Tensor:
        """Return the mean loss of these outputs (B, K)."""
        return self._value(outputs, *self._given).mean()

    def slope(self, outputs: Tensor) -> Tensor:
        """Return the derivative of each sample's loss by its outputs, (B, K)."""
        return self._slope(outputs, *self._given)

    def curvature(self, outputs: Tensor) -> Tensor:
        """Return the second derivative of each sample's loss by its outputs, (B, K, K)."""
        return self._curvature(outputs, *self._given)

    def pulled(self, slope: Tensor) -> Tensor:
        """Return the mean over samples of J_i' s_i, (D,)."""
        import torch

        return torch.einsum("bkd,bk->d", self.jacobian, slope) / self.rows

    def gram(self, curvature: Tensor) -> Tensor:
        """Return the mean over samples of J_i' H_i J_i, (D, D)."""
        import torch

        return torch.einsum("bkd,bkl,ble->de", self.jacobian, curvature, self.jacobian) / self.rows


def ridge(gram: Tensor, right: Tensor, at: Tensor, tau: float, l2: float, blocks: list[Tensor]) -> Tensor:
    """Return the minimum of w'Aw/2 - b'w + tau |w - at|^2 / 2 + l2 |w|^2 / 2, of each block with the others at `at`."""
    import torch

    found = at.clone()
    for block in blocks:
        own = gram[block][:, block]
        others = gram[block] @ at - own @ at[block]
        matrix = own + (tau + l2) * torch.eye(len(block), dtype=at.dtype, device=at.device)
        found[block] = torch.linalg.solve(matrix, right[block] + tau * at[block] - others)
    return found


def newton(
    near: Linearised, rho: float, linear: Tensor, at: Tensor, tau: float, l2: float, blocks: list[Tensor]
) -> Tensor:
    """Return the minimum of rho l(f + J (w - at)) + linear'(w - at) + tau |w - at|^2 / 2 + l2 |w|^2 / 2.

    Newton's method, each step halved until the surrogate falls; of each block with the others at `at`.
    """
    found = at.clone()
    for block in blocks:
        found[block] = _newton_in(near, rho, linear[block], at[block], tau, l2, near.jacobian[:, :, block])
    return found


def _newton_in(
    near: Linearised, rho: float, linear: Tensor, at: Tensor, tau: float, l2: float, jacobian: Tensor
) -> Tensor:
    import torch

    def outputs(w: Tensor) -> Tensor:
        return near.outputs + jacobian @ (w - at)

    def surrogate(w: Tensor) -> Tensor:
        away = w - at
        curved = tau * away.square().sum() / 2 + l2 * w.square().sum() / 2
        return rho * near.value(outputs(w)) + linear @ away + curved

    w, value = at, surrogate(at)
    eye = torch.eye(len(at), dtype=at.dtype, device=at.device)
    for _ in range(NEWTON_STEPS):
        slope = torch.einsum("bkd,bk->d", jacobian, near.slope(outputs(w))) / near.rows
        slope = rho * slope + linear + tau * (w - at) + l2 * w
        curvature = near.curvature(outputs(w))
        hessian = torch.einsum("bkd,bkl,ble->de", jacobian, curvature, jacobian) * (rho / near.rows)
        step = torch.linalg.solve(hessian + (tau + l2) * eye, slope)
        for _ in range(HALVINGS):
            lower = surrogate(w - step)
            if bool(lower <= value):
                w, value = w - step, lower
                break
            step = step / 2
    return w
