"""Attention of several heads, around torch's fused kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    groups: int,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al., 2017): a group of keys and values serves heads / groups heads.

    q [.., T, heads * d], k [.., S, groups * d] and v [.., S, groups * e] give [.., T, heads * e].
    """
    q = q.unflatten(-1, (heads, -1)).transpose(-3, -2)
    k = k.unflatten(-1, (groups, -1)).transpose(-3, -2)
    v = v.unflatten(-1, (groups, -1)).transpose(-3, -2)
    if mask is not None:
        mask = (mask & torch.ones_like(mask).tril() if causal else mask).unsqueeze(-3)
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None, scale=scale, enable_gqa=groups < heads
    )
    return y.transpose(-3, -2).flatten(-2)
