"""A group's parameters as one vector, one tensor after another in their order: its gradient, and how long it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nnspec.compiler.rules.setting import Setting
from nnspec.compiler.tensors import tensors

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup


def flat_gradient(run: LearningGroup) -> Tensor:
    """Return the gradients of the group's parameters one after another, without those of pruned entries."""
    import torch

    found = run.spared([torch.zeros_like(p) if p.grad is None else p.grad for p in run.parameters])
    return torch.cat([own.flatten() for own in found])


def lay(run: LearningGroup, vector: Tensor) -> None:
    """Give the group's parameters a flat vector as their gradient."""
    directions: list[Tensor] = []
    at = 0
    for parameter in run.parameters:
        directions.append(vector[at : at + parameter.numel()].view_as(parameter))
        at += parameter.numel()
    for parameter, own in zip(run.parameters, run.spared(directions), strict=True):
        parameter.grad = own


def sizes_of(setting: Setting) -> list[int] | None:
    """Return how many numbers each tensor holds; None where one of them is known only with the data."""
    found: dict[str, int] = {}
    for key, tensor in tensors(setting.graph):
        if not all(isinstance(size, int) for size in tensor.shape):
            return None
        found[key] = math.prod(size for size in tensor.shape if isinstance(size, int))
    return [found[key] for key in setting.keys]
