"""Norms that may be turned: what feeds a norm, and what reads it, as one where they are rotated together.

A norm of root mean squares gives R n(x) for R x if R is a rotation, one that subtracts the mean if R fixes the vector of
ones, too. A rotation need not act on all that flows along a wire: of a stream that several norms read, what was added
between two of them may turn by itself, if what reads the norms makes it good. In: linear regions, and the norms between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nnspec.compiler.relations import Normalize
from nnspec.compiler.symmetry.regions import Maps, Region
from nnspec.dsl.node import Node


class Turn(Node):
    """A norm whose input and output may be turned at once, and a basis of these turns [count, n, n]."""

    norm: Normalize
    basis: Any  # a numpy array

    def touches(self, region: Region) -> bool:
        """Whether a region makes what the norm reads, or reads what it makes."""
        return any(
            item.output == self.norm.input or any(name == self.norm.output for name, _ in item.inputs)
            for item in region.maps
        )


class Joined(Node):
    """Regions that are looked at together, as one, and the norms between them that may be turned."""

    region: Region
    turns: tuple[Turn, ...]
    unknowns: int


def joined_regions(maps: Maps, norms: Mapping[str, Normalize], limit: int) -> list[Joined]:
    """Return all regions, joined where a norm stands between and no more than `limit` unknowns come together."""
    found = [
        Joined(region=region, turns=(), unknowns=sum(maps.columns(weight) for weight in region.weights))
        for region in maps.regions()
    ]
    for norm in norms.values():
        if _is_turnable(maps, norm):
            turn = Turn(norm=norm, basis=_basis(maps.size(norm.input), norm.group == "centred"))
            touched = [one for one in found if turn.touches(one.region)]
            joined = _together(maps, touched, turn)
            if touched and joined.unknowns <= limit:
                found = [*(one for one in found if one not in touched), joined]
    return found


def _together(maps: Maps, given: Iterable[Joined], turn: Turn) -> Joined:
    listed = list(given)
    own = {id(item) for one in listed for item in one.region.maps}
    ordered = tuple(item for item in maps.maps if id(item) in own)
    weights = dict.fromkeys(name for one in listed for name in one.region.weights)
    return Joined(
        region=Region(maps=ordered, weights=tuple(weights)),
        turns=(*(known for one in listed for known in one.turns), turn),
        unknowns=sum(one.unknowns for one in listed) + len(turn.basis),
    )


def _is_turnable(maps: Maps, norm: Normalize) -> bool:
    """Whether nothing but maps along its axis reads what a norm makes."""
    axes = {maps.axis.get(norm.input), maps.axis.get(norm.output)}
    return axes == set(norm.axes) and norm.output not in maps.sinks


def _basis(size: int, centred: bool) -> Any:
    """Return antisymmetric matrices that span all, or all that forget the vector of ones."""
    import numpy as np

    keep = np.eye(size) - (1.0 / size if centred else 0.0)
    rows, columns = np.triu_indices(size, 1)
    found = np.zeros((len(rows), size, size))
    number = np.arange(len(rows))
    found[number, rows, columns], found[number, columns, rows] = 1.0, -1.0
    return keep @ found @ keep
