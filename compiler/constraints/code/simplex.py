"""The probability simplex."""

import torch
from torch import Tensor


def simplex(weight: Tensor, shape: tuple[int, ...], axis: int, kept: Tensor | None = None) -> Tensor:
    """The nearest weight whose entries are >= 0 and sum to 1 along an axis (Duchi et al., 2008, figure 1).

    `shape` is what the axis is one of. Entries that are not `kept` take no part and become 0.
    """
    if kept is not None:
        weight = weight.masked_fill(~kept, -torch.inf)
    vectors = weight.reshape(shape)
    vectors = vectors - vectors.amax(axis, keepdim=True)  # moves no solution, and saves digits
    ordered = vectors.sort(dim=axis, descending=True).values
    excess = ordered.cumsum(axis) - 1
    places = torch.arange(1, shape[axis] + 1, device=weight.device, dtype=weight.dtype)
    places = places.view(-1, *(1 for _ in shape[axis + 1 :]))
    positive = (ordered * places > excess).sum(axis, keepdim=True).clamp(min=1)
    threshold = excess.gather(axis, positive - 1) / positive
    return (vectors - threshold).clamp(min=0).reshape(weight.shape)
