"""The shifts that bring weights nearest to zero, or to others: by least squares, whatever norms and softmaxes forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.blocks import Coordinates
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import directions
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.moves import Add, Shift
from nnspec.compiler.symmetry.places import State, key_of, stored

if TYPE_CHECKING:
    from torch import Tensor

_SINGULAR = 1e-10  # of the largest number


def common(item: Forgotten, state: State) -> Tensor:
    """Return the part of a weight that is forgotten, in the shape of what may be added."""
    own = state[key_of(item.weight)]
    if item.axis is not None:
        return own.mean(dim=item.axis, keepdim=True)
    return own if own.shape == item.shape else own.narrow(0, item.start, item.shape[0])


def remembered(d: Derivation, state: State) -> State:
    """Return a state without what is forgotten."""
    for item in d.forgotten:
        state = Add(item=item, added=-common(item, state)).apply(d, state)
    return state


def shifted_keys(d: Derivation, state: State) -> set[str]:
    """Return the keys of what shifts move."""
    import torch

    shifts = Coordinates(d, list(directions(d, d.shifts)))
    random = torch.Generator().manual_seed(0)
    numbers = torch.randn(shifts.count, generator=random, dtype=torch.float64)
    moved = Shift(given=shifts.amounts(numbers)).apply(d, state)
    return {key for key, tensor in moved.items() if not torch.equal(tensor, state[key])}


def tables(d: Derivation, state: State) -> set[str]:
    """Return the keys of what shifts move by itself, not to take up others: rows that are looked up, and added."""
    import torch

    shifts = Coordinates(d, list(directions(d, d.shifts)))
    if not shifts.count:
        return set()
    given = shifts.amounts(torch.ones(shifts.count, dtype=torch.float64))
    return {key_of(name) for name in stored(d, state) if given.field(d, name) is not None}


def nearest_shift(d: Derivation, state: State, target: State | None, among: set[str] | None = None) -> Shift:
    """Return the shift that brings what it moves nearest to another state's, or (None) to zero, whatever is forgotten.

    With `among`, only the tensors of these keys count.
    """
    import torch

    shifts = Coordinates(d, list(directions(d, d.shifts)))
    keys = sorted(shifted_keys(d, state) if among is None else among)

    def flat(given: State, forgets: bool = True) -> Tensor:
        given = remembered(d, given) if forgets else given
        return torch.cat([given[key].flatten() for key in keys])

    units = torch.eye(shifts.count, dtype=torch.float64)
    moved = [Shift(given=shifts.amounts(one)).apply(d, state) for one in units]

    def columns(forgets: bool) -> Tensor:
        return torch.stack([flat(one, forgets) - flat(state, forgets) for one in moved], dim=1)

    wanted = -flat(state) if target is None else flat(target) - flat(state)
    size = float(
        columns(forgets=False).abs().max()
    )  # what is forgotten of a column is nothing beside the whole
    return Shift(given=shifts.amounts(least_squares(columns(forgets=True), wanted, size)))


def least_squares(matrix: Tensor, target: Tensor, size: float) -> Tensor:
    """Return the shortest x of least |matrix x - target|; what is small beside `size` counts as nothing."""
    import torch

    linear_algebra: Any = torch.linalg
    return linear_algebra.pinv(matrix, rtol=_SINGULAR, atol=_SINGULAR * size) @ target
