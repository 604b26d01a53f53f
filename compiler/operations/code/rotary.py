"""Rotary position embeddings: pairs of entries are turned by angles that grow with the position."""

import torch
from torch import Tensor


def rotary(x: Tensor, heads: int, base: float, interleaved: bool = False) -> Tensor:
    """Turn the i-th pair of each head of width d by position / base^(2 i / d) (RoFormer, Su et al., 2021).

    x [.., T, heads * d]; pairs are (i, i + d / 2), or (2 i, 2 i + 1) if interleaved.
    """
    shape, side = ((heads, -1, 2), -1) if interleaved else ((heads, 2, -1), -2)
    a, b = x.unflatten(-1, shape).unbind(side)
    cos, sin = rotary_table(x.shape[-2], 2 * a.shape[-1], base, x)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=side).flatten(-3)


def rotary_table(length: int, width: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [length, 1, width / 2] of the angles, computed in at least 32 bits."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    frequencies = base ** (-torch.arange(0, width, 2, device=like.device, dtype=dtype) / width)
    angles = torch.outer(torch.arange(length, device=like.device, dtype=dtype), frequencies)[:, None]
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)
