"""Where strands stand in the tensors of a state, and how to act on them there.

In: a derivation and a state dict of torch tensors. torch is imported by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import state_key
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.spaces import Atom, AxisOf
from nnspec.compiler.symmetry.strands import Strand

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


@lru_cache(maxsize=1 << 14)
def key_of(weight: str) -> str:
    """Return the state-dict key of a weight's path."""
    return state_key(weight, "")


def stored(d: Derivation, state: Mapping[str, Any]) -> list[str]:
    """Return the weights and buffers that a state holds as real numbers."""
    return [
        carrier.name
        for carrier in d.related.carriers.values()
        if carrier.kind in ("weight", "buffer")
        and key_of(carrier.name) in state
        and state[key_of(carrier.name)].dtype.is_floating_point
    ]


def axes_of(d: Derivation, tensor: str) -> list[AxisOf]:
    return [(tensor, axis) for axis in range(len(d.related.carriers[tensor].shape))]


def degree_of(d: Derivation, tensor: str) -> float:
    """Return k where the effective weight is homogeneous of degree k in the stored one; 1 where it has none."""
    action = d.related.carriers[tensor].action
    return 1.0 if action is None or not action.degree else action.degree


def shape_of(d: Derivation, tensor: str) -> list[int]:
    """Return the sizes of a tensor; 1 for those that are not known."""
    return [size if isinstance(size, int) else 1 for size in d.related.carriers[tensor].shape]


def act_on_strand(
    d: Derivation,
    strand: Strand,
    state: State,
    act: Callable[[Tensor, int], Tensor],
    besides: str | None = None,
) -> State:
    """Let `act` work on every place of a strand in the tensors of a state, but not on the weight `besides`.

    It is given [copies, size, others], and 1 or -1 for places that move with the wire or dually.
    """
    changed = dict(state)
    held = set(stored(d, state)) - {besides}
    for atoms, outer in strand.places:
        if atoms[0].tensor in held:
            key = key_of(atoms[0].tensor)
            sign = d.orientations.of(atoms[0])
            changed[key] = on_strand(d, strand, changed[key], (*outer, *atoms), lambda x, s=sign: act(x, s))
    return changed


def on_strand(
    d: Derivation, strand: Strand, tensor: Tensor, atoms: tuple[Atom, ...], act: Callable[[Tensor], Tensor]
) -> Tensor:
    """Let `act` work on a place of a strand, as [copies, size, others]."""

    def split(given: Tensor) -> Tensor:
        shape = (strand.copies, strand.size, given.shape[1])
        return act(given.reshape(shape)).reshape(given.shape)

    return on_atoms(d, tensor, atoms, split)


def on_atoms(
    d: Derivation, tensor: Tensor, atoms: tuple[Atom, ...], act: Callable[[Tensor], Tensor]
) -> Tensor:
    """Let `act` work on [entries along the atoms, others] of a tensor, in the segments that the atoms are in."""
    segments = {atom.axis: atom.segment for atom in atoms}
    name = atoms[0].tensor
    part, shape, places = tensor, list[int](), dict[tuple[int, int], int]()
    for axis, size in enumerate(tensor.shape):
        if axis not in segments:
            shape.append(size)
            continue
        layout = d.spaces.layouts[name, axis]
        start = sum(prod(segment) for segment in layout[: segments[axis]])
        part = part.narrow(axis, start, prod(layout[segments[axis]]))
        for factor, own in enumerate(layout[segments[axis]]):
            places[axis, factor] = len(shape)
            shape.append(own)
    first = [places[atom.axis, atom.factor] for atom in atoms]
    order = [*first, *(place for place in range(len(shape)) if place not in first)]
    moved = part.reshape(shape).permute(order)
    acted = act(moved.reshape(prod(moved.shape[: len(first)]), -1)).reshape(moved.shape)
    back = acted.permute([order.index(place) for place in range(len(shape))]).reshape(part.shape)
    if part.shape == tensor.shape:
        return back
    changed = tensor.clone()
    target = changed
    for axis, segment in segments.items():
        layout = d.spaces.layouts[name, axis]
        target = target.narrow(axis, sum(prod(s) for s in layout[:segment]), prod(layout[segment]))
    target.copy_(back)
    return changed
