"""Intertwiners: the matrices on all GL wires at once that take one network's weights to another's.

Where matrices G and H act on the two sides of a weight, A = G B H^-1 is A H = G B, which is linear in both: of two
networks in one orbit, all matrices between them are the solutions of one linear system, whatever wires are wider
than what they carry (maps of representations of a quiver; Derksen and Weyman, 2005). Of other networks they are
found by least squares. Constants that shifts add are further unknowns. A weight with two sides that move
alike is not linear in G, and is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from nnspec.compiler.symmetry.elements import AnyMove
from nnspec.compiler.symmetry.flows import MOST_ENTRIES, Flows, Place, acting, entries_on, shifted
from nnspec.compiler.symmetry.incidence import Incidence
from nnspec.compiler.symmetry.moves import Mix, Transform
from nnspec.compiler.symmetry.places import State
from nnspec.compiler.symmetry.strands import Strand

Array: TypeAlias = Any

_CONDITION = 1e8  # of matrices beyond which they are none
_DAMPING = 1e-9  # draws what nothing decides to the identity
_DENSE = 1500  # unknowns, up to which least squares are solved as they stand


class Unknown(NamedTuple):
    """Matrices on a strand, in all its copies; `masked` ones have entries at some places alone."""

    strand: Strand
    masked: Incidence | None
    free: Array  # which of the entries of [copies, size, size], flat, there are


class Intertwiners:
    """The linear system for the matrices that take states to a target, for the weights of flows."""

    def __init__(self, flows: Flows, target: State) -> None:
        self.flows = flows
        self.d = flows.d
        self.target = target
        self.unknowns = list(self._unknowns())

    def _unknowns(self) -> list[Unknown]:
        import numpy as np

        def small(strand: Strand) -> bool:
            return entries_on(self.d, strand, self.flows.starts) * strand.size <= MOST_ENTRIES

        found = [
            Unknown(strand, None, np.arange(strand.copies * strand.size**2))
            for strand in self.d.of_group("linear")
            if strand.size > 1 and small(strand)
        ]
        for space, item in self.d.incidences.items():
            if item.group == "linear" and item.beside and small(self.d.by_space[space]):
                found.append(Unknown(self.d.by_space[space], item, np.flatnonzero(item.places)))
        return found

    def moves(self, state: State) -> tuple[AnyMove, ...] | None:
        """Return matrices that take a state to the target, or near to it; None where there are none that are regular."""
        import numpy as np
        import torch

        solved = self._solved(*self._system(state))
        found: list[AnyMove] = []
        start = 0
        for strand, masked, free in self.unknowns:
            flat = np.zeros(strand.copies * strand.size**2)
            flat[free] = solved[start : start + len(free)]
            start += len(free)
            matrix = flat.reshape(strand.copies, strand.size, strand.size)
            if not np.isfinite(matrix).all() or np.linalg.cond(matrix).max() > _CONDITION:
                return None
            given = torch.from_numpy(matrix)
            found.append(
                Transform(space=strand.space, matrix=given)
                if masked is None
                else Mix(given=masked, matrix=given[0])
            )
        return tuple(found)

    def _system(self, state: State) -> tuple[Array, Array, Array]:
        """Return the rows of G B + shifts - A H = 0 as (matrix, right side), and the numbers of the identity."""
        import numpy as np
        from scipy.sparse import csr_array, hstack

        flows, columns, begun = self.flows, list[Array](), list[Array]()
        made, read = (np.zeros(flows.total) for _ in range(2))  # how often an entry is acted on, by sense
        none = csr_array((flows.total, 0))
        for strand, _, free in self.unknowns:
            count = strand.copies * strand.size**2
            forward, back = self._sides(strand, made, read)
            here = _some(flows, strand, state, forward) - _some(flows, strand, self.target, back, dual=True)
            columns.append(here[:, free] if count else none)
            begun.append(np.tile(np.eye(strand.size).ravel(), strand.copies)[free])
        moved = shifted(flows, self.target)
        kept = (made <= 1) & (read <= 1) & ((read == 0) | (abs(moved).sum(axis=1) == 0))
        still = np.where(read > 0, 0.0, flows.flat(self.target)) - np.where(made > 0, 0.0, flows.flat(state))
        rows = hstack([*columns, moved]).tocsr()[kept]
        return rows, still[kept], np.concatenate([*begun, np.zeros(moved.shape[1])])

    def _sides(self, strand: Strand, made: Array, read: Array) -> tuple[list[Place], list[Place]]:
        """Return the places of a strand that move with it, and those that move dually; count them at their entries."""
        sides: tuple[list[Place], list[Place]] = ([], [])
        for place in strand.places:
            if place[0][0].tensor not in self.flows.starts:
                continue
            forward = self.d.orientations.of(place[0][0]) > 0
            (made if forward else read)[self.flows.indices(strand, place).ravel()] += 1
            sides[0 if forward else 1].append(place)
        return sides

    def _solved(self, rows: Array, right: Array, begun: Array) -> Array:
        """Return the solution by least squares, nearest to the identity where nothing decides."""
        import numpy as np
        from scipy.sparse.linalg import lsmr

        gap = right - rows @ begun
        if rows.shape[1] <= _DENSE:
            return begun + np.linalg.lstsq(rows.toarray(), gap, rcond=_DAMPING)[0]
        return begun + lsmr(rows, gap, atol=1e-13, btol=1e-13, maxiter=2 * rows.shape[1])[0]


def _some(flows: Flows, strand: Strand, state: State, places: list[Place], dual: bool = False) -> Array:
    """Return `acting` at some of the places of a strand; `dual`: of transposed matrices at places that move dually."""
    return acting(flows, strand.replace(places=tuple(places)), strand, state, 1.0 if dual else -1.0)
