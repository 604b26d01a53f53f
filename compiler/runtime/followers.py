"""Weights that follow others: moved after each step, outside of what learns.

In: a typed graph and the state of a network, or of many stacked ones. Followers begin equal to what they
follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.following import followed_keys
from nnspec.compiler.ir import Graph

if TYPE_CHECKING:
    from torch import Tensor


class Followers:
    """The followers of a network."""

    def __init__(self, graph: Graph) -> None:
        self.pairs = tuple(followed_keys(graph.root))

    def move(self, state: Mapping[str, Tensor], step: int) -> None:
        """Let every follower take its step; `step` counts the steps made, this one too."""
        import torch

        with torch.no_grad():
            for own, leader, follow in self.pairs:
                follower, online = state[own], state[leader]
                if follow.decay is None:
                    if follow.every is not None and step % follow.every == 0:
                        follower.copy_(online)
                elif follower.is_floating_point():
                    follower.mul_(follow.decay).add_(online, alpha=1 - follow.decay)
                else:
                    follower.copy_(online)
