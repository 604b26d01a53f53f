"""Flows: all continuous families of a group at once, and how weights begin to move along each.

In: a derivation. The numbers of a flow say how far to go along every family: matrices of GL, O and of masks, scales,
shifts, and what norms forget. `tangent` is the derivative of the weights by these numbers at zero, a sparse matrix;
`nearest` goes by it to the nearest member of an orbit that small steps reach (Levenberg and Marquardt).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.symmetry.blocks import Coordinates, seen
from nnspec.compiler.symmetry.derivation import MATRICES, Derivation
from nnspec.compiler.symmetry.elements import AnyMove, Element, directions, scale_directions
from nnspec.compiler.symmetry.incidence import Incidence
from nnspec.compiler.symmetry.moves import Add, Mix, Multiply, Shift, Transform
from nnspec.compiler.symmetry.places import State, key_of, shape_of
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    pass

Array: TypeAlias = Any  # numpy's and scipy's arrays have no shapes for the type checker to see

Place: TypeAlias = tuple[tuple[Atom, ...], tuple[Atom, ...]]  # of a strand: its atoms, and the outer ones

_STEPS = 60  # of Levenberg and Marquardt
NOTHING = 1e-28  # of the squared norm of the weights: a distance that is rounding
_FAR = 1.0  # the largest step of a matrix entry or a scale, in logarithms
_DENSE = 1500  # numbers, up to which the normal equations are solved as they stand
MOST_ENTRIES = 10**7  # of the sparse matrices of a wire; larger ones take their turns alone


class Turning(Node):
    """A group of matrices on a strand, and a basis of its Lie algebra: a sparse column for each member."""

    strand: Strand
    basis: Array  # [copies * size * size, members]
    masked: Incidence | None = None

    def move(self, numbers: Array) -> AnyMove:
        import torch

        n = self.strand.size
        own = torch.from_numpy(self.basis @ numbers).reshape(self.strand.copies, n, n)
        linear_algebra: Any = torch.linalg
        matrix = linear_algebra.matrix_exp(own)
        if self.masked is not None:
            return Mix(given=self.masked, matrix=matrix[0])
        return Transform(space=self.strand.space, matrix=matrix)


class Flows:
    """The continuous families of a group on some weights."""

    def __init__(self, d: Derivation, names: list[str]) -> None:
        import numpy as np

        self.d = d
        self.names = names
        sizes = [int(np.prod(shape_of(d, name), dtype=int)) for name in names]
        self.starts = dict(zip(names, accumulate([0, *sizes]), strict=False))
        self.total = sum(sizes)
        self.turnings = list(turnings(d, self.starts))
        self.scales = Coordinates(d, scale_directions(d))
        self.shifts = Coordinates(d, list(directions(d, d.shifts)))
        counts = [turning.basis.shape[1] for turning in self.turnings]
        counts += [self.scales.count, self.shifts.count, *(item.dimension for item in d.forgotten)]
        self.ends = list(accumulate(counts))
        self._indices: dict[tuple[Atom, ...], Array] = {}
        self.bent = sum(counts[: len(self.turnings) + 1])  # numbers of matrices and scales
        self.count = self.ends[-1] if counts else 0

    def flat(self, state: State) -> Array:
        import numpy as np

        return np.concatenate([state[key_of(name)].numpy().ravel() for name in self.names] or [np.zeros(0)])

    def indices(self, strand: Strand, place: Place) -> Array:
        """Return where the numbers at one place of a strand stand among all weights, [copies, size, others]."""
        import torch

        atoms, outer = place
        if atoms not in self._indices:
            name = atoms[0].tensor
            index = torch.arange(_entries(self.d, name)).reshape(shape_of(self.d, name))
            self._indices[atoms] = seen(self.d, strand, index, atoms, outer).numpy() + self.starts[name]
        return self._indices[atoms]

    def element(self, numbers: Array) -> Element:
        """Return the element that numbers lead to."""
        import numpy as np
        import torch

        parts = iter(np.split(numbers, self.ends[:-1]))
        moves = [turning.move(next(parts)) for turning in self.turnings]
        scales, shifts = (torch.from_numpy(next(parts)) for _ in range(2))
        if self.scales.count:
            moves.append(Multiply(given=self.scales.amounts(scales), sign=False))
        if self.shifts.count:
            moves.append(Shift(given=self.shifts.amounts(shifts)))
        for item in self.d.forgotten:
            moves.append(Add(item=item, added=torch.from_numpy(next(parts)).reshape(item.shape)))
        return Element(moves=tuple(moves))

    def tangent(self, state: State) -> Array:
        """Return how the weights of a state, flat, begin to move by each number."""
        from scipy.sparse import hstack

        return hstack(
            [
                *(self.turned(turning, state) for turning in self.turnings),
                _diagonal(self.flat(state)) @ self.logarithms,
                shifted(self, state),
                *self.forgotten(state),
            ]
        ).tocsr()

    def turned(self, turning: Turning, state: State) -> Array:
        """Return the columns of a group of matrices; behind a gain g that folds, diag(g) X diag(g)^-1 acts."""
        strand = turning.strand
        found = acting(self, strand, strand, state, dual=-1.0)
        for fold in self.d.folds:
            if fold.before == strand.space:
                gain = state[key_of(fold.gain)].numpy()
                behind = self.d.by_space[fold.behind]
                ratios = (gain[:, None] / gain).ravel()
                factors = _diagonal(list(ratios) * strand.copies)
                found = found + acting(self, behind, strand, state, dual=-1.0, besides=fold.gain) @ factors
        return found @ turning.basis

    @cached_property
    def logarithms(self) -> Array:
        """How the logarithm of each weight depends on the numbers of scales."""
        from scipy.sparse import csr_array, vstack

        if not self.scales.count or not self.names:
            return csr_array((self.total, self.scales.count))
        return vstack([self.scales.rows(name) for name in self.names])

    def forgotten(self, state: State) -> Iterator[Array]:
        import numpy as np
        import torch
        from scipy.sparse import csr_array

        before = self.flat(state)
        for item in self.d.forgotten:
            units = torch.eye(item.dimension, dtype=torch.float64)
            columns = [
                self.flat(Add(item=item, added=unit.reshape(item.shape)).apply(self.d, state)) - before
                for unit in units
            ]
            yield csr_array(np.stack(columns, axis=1))


def shifted(flows: Flows, state: State) -> Array:
    """Return how the weights of a state move by each number of the shifts."""
    import numpy as np
    import torch
    from scipy.sparse import csr_array

    before = flows.flat(state)
    columns = [
        flows.flat(Shift(given=flows.shifts.amounts(unit)).apply(flows.d, state)) - before
        for unit in torch.eye(flows.shifts.count, dtype=torch.float64)
    ]
    return csr_array(np.stack(columns, axis=1) if columns else np.zeros((flows.total, 0)))


def turnings(d: Derivation, names: dict[str, int]) -> Iterator[Turning]:
    """Yield the groups of matrices that move some weights and are not too large to be moved at once."""
    from scipy.sparse import eye_array, kron

    for strand in d.of_group(*MATRICES):
        if strand.size > 1 and entries_on(d, strand, names) * strand.size <= MOST_ENTRIES:
            single = _algebra(d.groups[strand.space], strand.size)
            yield Turning(strand=strand, basis=kron(eye_array(strand.copies), single).tocsr())
    for space, item in d.incidences.items():
        if item.beside and entries_on(d, d.by_space[space], names) * len(item.places) <= MOST_ENTRIES:
            basis = _columns([matrix.numpy() for matrix in item.basis()])
            yield Turning(strand=d.by_space[space], basis=basis, masked=item)


def entries_on(d: Derivation, strand: Strand, names: dict[str, int]) -> int:
    """Return how many numbers of some weights a strand moves."""
    tensors = [atoms[0].tensor for atoms, _ in strand.places]
    return sum(_entries(d, name) for name in tensors if name in names)


def acting(
    flows: Flows, strand: Strand, by: Strand, state: State, dual: float, besides: str | None = None
) -> Array:
    """Return what matrices X of a strand `by` make of a state at the places of another (or the same), as a sparse map of X.

    X acts on what moves with the wire, and `dual` times its transpose on what moves dually.
    """
    import numpy as np
    from scipy.sparse import coo_array

    parts: list[tuple[Array, Array, Array]] = [(np.zeros(0), np.zeros(0, int), np.zeros(0, int))]
    for atoms, outer in strand.places:
        if atoms[0].tensor in flows.starts and atoms[0].tensor != besides:
            sense = flows.d.orientations.of(atoms[0])
            parts.append(_acting(flows, strand, state, (atoms, outer), 0.0 if sense > 0 else dual))
    values, rows, columns = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    kept = values != 0
    shape = (flows.total, by.copies * by.size**2)
    return coo_array((values[kept], (rows[kept], columns[kept])), shape=shape).tocsr()


def _acting(
    flows: Flows, strand: Strand, state: State, place: Place, dual: float
) -> tuple[Array, Array, Array]:
    """Return entries, rows and columns of the map X -> X V at one place, or (dual) X -> dual * X' V."""
    import numpy as np

    index = flows.indices(strand, place)  # [copies, size, others]
    copies, n, others = index.shape
    flat = state[key_of(place[0][0].tensor)].numpy().ravel()
    values = flat[index - flows.starts[place[0][0].tensor]]
    shape = (copies, n, n, others)  # copy, row i, column j, other
    copy, i, j = (np.arange(size) for size in (copies, n, n))
    first, second = (i[:, None], j) if dual == 0.0 else (j, i[:, None])
    columns = copy[:, None, None] * n**2 + first * n + second
    return (
        (np.broadcast_to(values[:, None], shape) * (dual or 1.0)).ravel(),
        np.broadcast_to(index[:, :, None], shape).ravel(),
        np.broadcast_to(columns[..., None], shape).ravel(),
    )


def nearest(flows: Flows, target: State, state: State, gain: float) -> Element:
    """Return the element that brings a state nearest to another by small steps.

    Steps end when one shortens the squared distance by less than `gain` of it.
    """
    import numpy as np

    wanted = flows.flat(target)
    element, size = Element(), float(wanted @ wanted)
    gap, damping = _squared(wanted - flows.flat(state)), 1e-3
    if not flows.count:
        return element
    for _ in range(_STEPS):
        tangent = flows.tangent(state)
        while damping < 1e8:
            step = _step(tangent, wanted - flows.flat(state), damping)
            far = np.abs(step[: flows.bent]).max(initial=0.0)
            tried = flows.element(step * min(1.0, _FAR / far if far else 1.0))
            with np.errstate(all="ignore"):  # a step that goes too far is not taken
                found = tried.moved(flows.d, state)
                closer = _squared(wanted - flows.flat(found))
            if closer < gap:
                break
            damping *= 8
        else:
            return element
        shorter, gap, damping = gap - closer, closer, max(damping / 20, 1e-13)
        element, state = element.then(tried), found
        if shorter <= gain * gap or gap <= NOTHING * size:
            break
    return element


def _step(tangent: Array, gap: Array, damping: float) -> Array:
    """Return the step of least |tangent x - gap|^2 + damping |x|^2, each number by the size of what it moves."""
    import numpy as np
    from scipy.sparse.linalg import lsmr

    sizes = np.sqrt(tangent.power(2).sum(axis=0))
    sizes = np.where(sizes > 1e-12 * max(sizes.max(), 1e-300), sizes, np.inf)  # nothing moves: stays
    scaled = tangent @ _diagonal(1 / sizes)
    if len(sizes) <= _DENSE:
        normal = (scaled.T @ scaled).toarray() + damping * np.eye(len(sizes))
        return np.linalg.solve(normal, scaled.T @ gap) / sizes
    return lsmr(scaled, gap, damp=damping**0.5, atol=1e-12, btol=1e-12, maxiter=1000)[0] / sizes


def _squared(vector: Array) -> float:
    return float(vector @ vector)


def _entries(d: Derivation, name: str) -> int:
    import numpy as np

    return int(np.prod(shape_of(d, name), dtype=int))


def _diagonal(numbers: Array) -> Array:
    from scipy.sparse import diags_array

    return diags_array(numbers).tocsr()


def _columns(matrices: list[Array]) -> Array:
    import numpy as np
    from scipy.sparse import csr_array

    return csr_array(np.stack([matrix.ravel() for matrix in matrices], axis=1))


def _algebra(group: str, size: int) -> Array:
    """Return a basis of the Lie algebra of a group of matrices, [size * size, members], few entries in each."""
    import numpy as np
    from scipy.sparse import csr_array, eye_array

    if group == "linear":
        return eye_array(size**2).tocsr()
    if group == "complex":
        return _columns([np.eye(2), np.array([[0.0, -1.0], [1.0, 0.0]])])
    vectors: Array = csr_array(eye_array(size))
    if group == "centred":  # rotations that keep the vector of ones turn differences of neighbours
        vectors = csr_array(vectors - eye_array(size, k=-1))[:, :-1]
    first, second = np.triu_indices(vectors.shape[1], 1)
    left, right = vectors[:, first].tocsc(), vectors[:, second].tocsc()
    return _outer(left, right) - _outer(right, left)


def _outer(left: Array, right: Array) -> Array:
    """Return the outer product of each column of one matrix with that of another, flat, a column each."""
    import numpy as np
    from scipy.sparse import coo_array

    size, count = left.shape
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for column in range(count):
        ours = slice(left.indptr[column], left.indptr[column + 1])
        theirs = slice(right.indptr[column], right.indptr[column + 1])
        rows = left.indices[ours][:, None] * size + right.indices[theirs]
        values = np.outer(left.data[ours], right.data[theirs])
        parts.append((rows.ravel(), np.full(rows.size, column), values.ravel()))
    row, column, value = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    return coo_array((value, (row, column)), shape=(size**2, count)).tocsr()
