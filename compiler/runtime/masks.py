"""Pruning: which entries of the learned tensors are gone, and keeping them at zero.

A mask is a tensor of truth values, true where an entry was removed. It is laid on after every step, so that
nothing an optimizer keeps of former steps can bring an entry back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    State = dict[str, Tensor]


_ABSENT = -2.0  # the score of what never was there


def prune(
    choice: Choice,
    state: Mapping[str, Tensor],
    masks: State,
    generator: torch.Generator | None,
    absent: Mapping[str, Tensor] | None = None,
) -> State:
    """Return the masks after a `prune` stage; `masks` are those before, of which nothing comes back.

    Of the entries selected, in all tensors together or in each (`scope`), the nearest whole number to
    `density` times their number is kept: the greatest by magnitude, the first of equals. Entries that a topology
    leaves out, true in `absent`, are not counted.
    """
    names = tuple(choice["select"])
    scores = {name: _scores(choice["by"], state[name], masks.get(name), generator) for name in names}
    for name in set(names) & set(absent or {}):
        scores[name] = scores[name].masked_fill((absent or {})[name], _ABSENT)
    scopes = [names] if choice["scope"] == "global" else [(name,) for name in names]
    found = dict(masks)
    for scope in scopes:
        found |= _removed({name: scores[name] for name in scope}, choice["density"])
    return found


def lay(state: Mapping[str, Tensor], masks: State) -> None:
    """Set every removed entry to zero."""
    import torch

    with torch.no_grad():
        for name, mask in masks.items():
            state[name].masked_fill_(mask, 0)


def _scores(by: str, tensor: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """Return how much each entry counts; less than nothing for what is gone already."""
    import torch

    found = tensor.detach().abs()
    if by == "random":  # drawn on the CPU, so that every device removes the same ones
        found = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(found)
    return found if mask is None else found.masked_fill(mask, -1)


def _removed(scores: State, density: float) -> State:
    import torch

    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = round(density * int((flat != _ABSENT).sum()))
    mask = torch.ones_like(flat, dtype=torch.bool)
    mask[flat.argsort(descending=True, stable=True)[:kept]] = False
    mask |= flat < 0
    pieces: Any = mask.split([score.numel() for score in scores.values()])
    return {name: piece.view_as(scores[name]) for name, piece in zip(scores, pieces, strict=True)}
