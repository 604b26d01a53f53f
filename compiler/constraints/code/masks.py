"""Masks, and those that are known before any weight is drawn."""

from collections.abc import Callable

import torch
from torch import Tensor


def masked(weight: Tensor, mask: Tensor) -> Tensor:
    """The entries that the mask keeps; zero elsewhere."""
    return weight * mask.to(weight.dtype)  # much faster than by truth values


def where(weight: Tensor, condition: Callable[..., Tensor], whole: bool = True) -> Tensor:
    """The mask of the entries whose indices obey a condition, in whole numbers or double precision."""
    dtype = torch.int64 if whole else torch.float64
    ranges = [torch.arange(n, dtype=dtype, device=weight.device) for n in weight.shape]
    return condition(*torch.meshgrid(*ranges, indexing="ij"))


def unpacked(weight: Tensor, bits: str) -> Tensor:
    """The mask whose bits, row by row, are in a text: base64 of zlib of eight to a byte."""
    import base64
    import zlib

    packed = torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(bits))), dtype=torch.uint8)
    places = torch.arange(7, -1, -1, dtype=torch.uint8)
    mask = (packed[:, None] >> places & 1).flatten()[: weight.numel()]
    return mask.bool().view_as(weight).to(weight.device)


def neighbourhood(
    weight: Tensor, inputs: tuple[int, ...], outputs: tuple[int, ...], kernel: tuple[int, ...]
) -> Tensor:
    """The mask of a window around each unit: both sides lie on grids, which may hold several channels.

    Along an axis of n inputs and m outputs, output o looks at the `kernel` inputs nearest to the point
    (o + 1/2) n / m, in whole numbers: -k m <= m (2 i + 1) - n (2 o + 1) < k m.
    """
    near = torch.ones(1, 1, dtype=torch.bool, device=weight.device)
    for n, m, k in zip(inputs, outputs, kernel, strict=True):
        i, o = (torch.arange(size, device=weight.device) for size in (n, m))
        away = m * (2 * i + 1) - n * (2 * o[:, None] + 1)
        near = torch.kron(near, (away >= -k * m) & (away < k * m))
    channels_out, channels_in = weight.shape[0] // near.shape[0], weight.shape[1] // near.shape[1]
    return near.repeat(channels_out, channels_in)
