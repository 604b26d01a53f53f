"""Weights that take few values, with a gradient that passes straight through the step."""

import torch
from torch import Tensor


def pass_through(weight: Tensor, chosen: Tensor, clip: float | None) -> Tensor:
    """The value `chosen`; its gradient goes to `weight`, where |weight| <= clip (everywhere without one)."""
    if clip is not None:
        weight = weight * (weight.detach().abs() <= clip).to(weight.dtype)
    return chosen.detach() + (weight - weight.detach())  # plus exactly 0


def signs(weight: Tensor, clip: float | None) -> Tensor:
    """-1 and +1; a weight of zero counts as positive."""
    positive = (weight >= 0).to(weight.dtype)
    return pass_through(weight, positive.mul_(2).sub_(1), clip)


def mean_size(weight: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mean of |w| over these axes."""
    return weight.abs().mean(axes, keepdim=True)


def binary_scaled(weight: Tensor, axes: tuple[int, ...], clip: float | None) -> Tensor:
    """Signs times the mean of |w|: the nearest scaled signs (Rastegari et al. 2016)."""
    return mean_size(weight, axes) * signs(weight, clip)


def binary_learned(weight: Tensor, scale: Tensor, clip: float | None) -> Tensor:
    """Signs times a learned scale."""
    return scale * signs(weight, clip)


def ternary(weight: Tensor, threshold: float | Tensor, clip: float | None) -> Tensor:
    """-1, 0 and +1: the sign where |w| > threshold."""
    chosen = torch.where(weight.abs() > threshold, weight.sign(), 0.0)
    return pass_through(weight, chosen, clip)


def ternary_relative(weight: Tensor, threshold: float, axes: tuple[int, ...], clip: float | None) -> Tensor:
    """The sign where |w| > threshold * mean |w| (Li and Liu 2016: 0.7)."""
    return ternary(weight, threshold * mean_size(weight, axes).detach(), clip)


def mean_kept(weight: Tensor, chosen: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mean of |w| over the entries that are not zero in `chosen`."""
    kept = chosen.detach().abs()
    return (kept * weight.abs()).sum(axes, keepdim=True) / kept.sum(axes, keepdim=True).clamp(min=1)


def ternary_scaled(weight: Tensor, threshold: float, axes: tuple[int, ...], clip: float | None) -> Tensor:
    """-1, 0 and +1 times the mean of |w| over the entries kept (Li and Liu 2016)."""
    chosen = ternary_relative(weight, threshold, axes, clip)
    return mean_kept(weight, chosen, axes) * chosen


@torch.no_grad()
def ternary_scale(weight: Tensor, threshold: float, axes: tuple[int, ...]) -> Tensor:
    """The scale that `ternary_scaled` would take."""
    return mean_kept(weight, ternary_relative(weight, threshold, axes, None), axes)


def ternary_learned(
    weight: Tensor, scale: Tensor, threshold: float, axes: tuple[int, ...], clip: float | None
) -> Tensor:
    """-1, 0 and +1 times a learned scale."""
    return scale * ternary_relative(weight, threshold, axes, clip)


def grid_step(weight: Tensor, levels: int, axes: tuple[int, ...]) -> Tensor:
    """The step with which the largest |w| is `levels` steps; one where all are zero."""
    step = weight.abs().amax(axes, keepdim=True) / levels
    return torch.where(step > 0, step, 1.0)


def quantize(weight: Tensor, levels: int, axes: tuple[int, ...]) -> Tensor:
    """The nearest multiples of a step, -levels to levels of them; the largest |w| stays as it is."""
    step = grid_step(weight, levels, axes)
    return pass_through(weight, step * torch.round(weight / step), None)


@torch.no_grad()
def fitting_step(weight: Tensor, levels: int, axes: tuple[int, ...]) -> Tensor:
    """The step that rounds the weight least, of those with which the largest |w| is 1 to `levels` steps."""
    best = grid_step(weight, levels, axes)
    away = (weight - best * torch.round(weight / best)).square().sum(axes, keepdim=True)
    for count in range(levels - 1, 0, -1):
        step = grid_step(weight, count, axes)
        distance = (weight - step * torch.round(weight / step)).square().sum(axes, keepdim=True)
        best = torch.where(distance < away, step, best)
        away = torch.minimum(distance, away)
    return best


def quantize_learned(weight: Tensor, step: Tensor, levels: int) -> Tensor:
    """The nearest multiples of a learned step, -levels to levels of them (Esser et al. 2020, eq. 1 and 2)."""
    count = (weight / step).clamp(-levels, levels)
    return step * pass_through(count, torch.round(count), None)


def nearest_value(weight: Tensor, values: tuple[float, ...], clip: float | None) -> Tensor:
    """The nearest of these ascending values; halfway between two, the larger."""
    chosen = torch.full_like(weight, values[0])
    for place in range(1, len(values)):
        low, high = values[place - 1 : place + 1]
        chosen = torch.where(weight >= (low + high) / 2, high, chosen)
    return pass_through(weight, chosen, clip)
