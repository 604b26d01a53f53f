"""The balanced member of an orbit: of all weights that continuous symmetries make of the given ones, the least.

Scales and GL(n) move along their orbit to the least sum of squares of the weights. That minimum is unique up
to what leaves sums of squares alone: permutations, signs and rotations (Kempf and Ness, 1979). Where all
weights of a layer may shrink for nothing, because a norm behind it forgets scales, the sum of the logarithms of
their magnitudes holds against it, so that their root mean square is near 1. What a norm or a softmax forgets
is taken out, and what shifts move (biases) is made as small as it can be, by least squares.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.blocks import Coordinates, along, places
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import AnyMove, Element, directions, scale_directions
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.moves import Add, Multiply, Shift, Transform
from nnspec.compiler.symmetry.places import State, act_on_strand, key_of, stored
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.wires import label
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS = 1000  # of balancing scales and GL wires in turn
_STILL = 1e-13  # a relative change that is none
_NEWTON = 100
_FAR = 2.0  # the largest step of a logarithm of a scale
_SINGULAR = 1e-10  # of the largest eigenvalue
_UNSEEN = 1e-9  # of the largest singular value


class Balance(Node):
    """An element that takes weights to the balanced member of their orbit, and what had to be left."""

    element: Element
    state: State  # in force
    is_limit: bool  # no element leads there
    notes: tuple[str, ...]


def balance(d: Derivation, state: State, limits: bool = False) -> Balance:
    """Return the balanced member of weights in force, in double precision, and the element that leads to it.

    A wire that is wider than what is mapped into it or read from it has no least member. With `limits`, it is taken
    to the limit of smaller and smaller ones: it computes the same, and is the same for all of the orbit.
    """
    balancer = _Balancer(d, state, limits)
    balancer.run()
    return Balance(
        element=Element(moves=tuple(balancer.moves)),
        state=balancer.state,
        is_limit=balancer.is_limit,
        notes=tuple(balancer.notes),
    )


class _Balancer:
    def __init__(self, d: Derivation, state: State, limits: bool) -> None:
        self.d = d
        self.state = state
        self.limits = limits
        self.is_limit = False
        self.lying: set[str] = set()  # keys of what shifts move on wires that are taken to their limits
        self.moves: list[AnyMove] = []
        self.notes: list[str] = []

    def move(self, move: AnyMove) -> None:
        self.moves.append(move)
        self.state = move.apply(self.d, self.state)

    def run(self) -> None:
        self.forget()
        for move in level_gains(self.d, self.state):
            self.move(move)
        shifted = shifted_keys(self.d, self.state)
        self.shifted = shifted
        self.names = [
            name
            for name in stored(self.d, self.state)
            if self.d.related.carriers[name].kind == "weight" and key_of(name) not in shifted
        ]
        self.balance()
        if shifted:
            self.move(nearest_shift(self.d, self.state, None))
            self.forget()  # what shifts gave to the biases of keys and the like

    def forget(self) -> None:
        for item in self.d.forgotten:
            self.move(Add(item=item, added=-common(item, self.state)))

    # ------------------------------------------------------------------------------------ scales and GL

    def balance(self) -> None:
        if self.limits:
            self.narrow()
        scales = Scales(self.d, self.names)
        held = {name for name in self.names if scales.holds(name)}
        wires = [s for s in self.d.of_group("linear", "complex") if self.is_limit or self.regular(s)]
        for _ in range(_ROUNDS):
            change = 0.0
            if scales.count:
                numbers = scales.least(self.state)
                change = max(change, float(numbers.abs().max()))
                self.move(Multiply(given=scales.amounts(numbers), sign=False))
            if any(key_of(name) in self.lying for name in self.names):
                shift = nearest_shift(self.d, self.state, None, self.lying)
                change = max(change, _largest(shift.apply(self.d, self.state), self.state, self.lying))
                self.move(shift)
            for strand in wires:
                matrix = self.even(strand, held)
                change = max(change, float((matrix - _identity(matrix)).abs().max()))
                self.move(Transform(space=strand.space, matrix=matrix))
            if change < _STILL or not wires:
                return
        self.notes.append(f"the balance of its GL wires was not found in {_ROUNDS} rounds")

    def grams(self, strand: Strand) -> tuple[Tensor, Tensor]:
        """Return the sums of products along a wire [copies, n, n], of what moves with it and of what moves dually."""
        import torch

        turned = self.d.groups[strand.space] in ("linear", "complex")  # rotations are their own duals
        shape = (strand.copies, strand.size, strand.size)
        found = {sign: torch.zeros(shape, dtype=torch.float64) for sign in (1, -1)}
        for atom, rows in places(self.d, strand, self.state, self.names):
            found[self.d.orientations.of(atom) if turned else 1] += rows @ rows.mT
        return found[1], found[-1]

    def regular(self, strand: Strand) -> bool:
        """Whether a wire is spanned by what it is made from and by what reads it."""
        import torch

        linear_algebra: Any = torch.linalg
        for gram in self.grams(strand):
            values = linear_algebra.eigvalsh(gram)
            if self.d.groups[strand.space] == "complex":
                values = values.sum(dim=-1, keepdim=True)
            if bool((values[..., 0] <= _SINGULAR * values[..., -1]).any()):
                name = self.d.related.carriers[strand.space.tensor].shown
                self.notes.append(
                    f"{label(self.d, strand)} of {name} is left as it is: the wire is wider than what is mapped "
                    "into it or read from it, and has no least member"
                )
                return False
        return True

    def even(self, strand: Strand, held: set[str]) -> Tensor:
        """Return the M of least tr(P A) + tr(P^-1 B) - k log det P, for P = M' M, M symmetric and both Grams A and B.

        There P A P = k P + B. The last term is that of the logarithms that hold weights, of which M makes k more
        than it takes; without it both Grams become equal.
        """
        ours, theirs = self.grams(strand)
        more = 0.0
        for atom, rows in places(self.d, strand, self.state, held):
            more += self.d.orientations.of(atom) * rows.shape[2]
        if self.d.groups[strand.space] == "complex":  # only what is alike in both parts is a complex number
            a, b = _trace(ours), _trace(theirs)
            ratio = (more + (more**2 + a * b) ** 0.5) / a
            return ratio[:, None, None] ** 0.5 * _identity(ours)
        return _evened(ours, theirs, more)

    # -------------------------------------------------------------------------------------------- limits

    def narrow(self) -> None:
        """Take wires to their limits: what is made and not read goes to nothing, and what reads nothing that is made.

        A wire that carries less may make its neighbours carry less. Biases on these wires go behind them first.
        """
        wires = [strand for strand in self.d.of_group("linear") if strand.size > 1]
        carried = {strand.space: [strand.size] * strand.copies for strand in wires}
        narrow: list[Strand] = []
        while True:
            ranks = {strand.space: [_rank(part) for part in self.seen(strand)] for strand in wires}
            fresh = [strand for strand in wires if ranks[strand.space] != carried[strand.space]]
            if not fresh:
                return
            narrow += [strand for strand in fresh if strand not in narrow]
            self.lying = {key for strand in narrow for key in self.shifted & self.keys_on(strand)}
            if self.lying and self.shift_behind():
                continue
            for strand in fresh:
                self.project(strand)
            carried, self.is_limit = ranks, True

    def shift_behind(self) -> bool:
        """Make what shifts move on narrow wires as small as it can be; whether something is left that was not counted.

        Such are the rows of a table, of which shifts take the common part alone: they count like other weights.
        """
        self.move(nearest_shift(self.d, self.state, None, self.lying))
        left = [
            name
            for name in stored(self.d, self.state)
            if (key := key_of(name)) in self.lying
            and name not in self.names
            and float(self.state[key].abs().max()) > _UNSEEN
        ]
        self.names += left
        return bool(left)

    def keys_on(self, strand: Strand) -> set[str]:
        return {key_of(atoms[0].tensor) for atoms, _ in strand.places}

    def seen(self, strand: Strand) -> list[Tensor]:
        """Return for each copy of a wire the projection that keeps what is both made and read."""
        import torch

        sides: dict[int, list[Tensor]] = {1: [], -1: []}
        for atom, rows in places(self.d, strand, self.state, self.names):
            sides[self.d.orientations.of(atom)].append(rows)
        nothing = torch.zeros(strand.copies, strand.size, 1, dtype=torch.float64)
        made, read = (torch.cat([*sides[sense], nothing], dim=2) for sense in (1, -1))
        return [_seen_part(*pair) for pair in zip(made, read, strict=True)]

    def project(self, strand: Strand) -> None:
        """Leave what a wire does not carry, at right angles to what it does."""
        import torch

        part = torch.stack(self.seen(strand))
        self.state = act_on_strand(
            self.d, strand, self.state, lambda given, sense: (part if sense > 0 else part.mT) @ given
        )
        rest = _identity(part) - part
        self.move(Transform(space=strand.space, matrix=power(part.mT @ part + rest.mT @ rest, 0.5)))


def level_gains(d: Derivation, state: State) -> Iterator[Multiply]:
    """Yield moves that make every gain that folds into the maps behind it 1: what acts before it then acts there alike."""
    for fold in d.folds:
        strand = d.by_space[fold.behind]
        gain = state[key_of(fold.gain)]
        for system, sign in ((d.signs, True), (d.scales, False)):
            for direction in along(d, system, strand):
                coordinates = Coordinates(d, [direction])
                moved = coordinates.rows(fold.gain).diagonal()
                if len(moved) == coordinates.count and bool(moved.all()):
                    numbers = (gain < 0).double() if sign else -gain.abs().log() / float(moved[0])
                    yield Multiply(given=coordinates.amounts(numbers), sign=sign)
                    break


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


def nearest_shift(d: Derivation, state: State, target: State | None, among: set[str] | None = None) -> Shift:
    """Return the shift that brings what it moves nearest to another state's, or (None) to zero, whatever is forgotten.

    With `among`, only the tensors of these keys count.
    """
    import torch

    shifts = Coordinates(d, list(directions(d, d.shifts)))
    keys = sorted(shifted_keys(d, state) if among is None else among)

    def flat(given: State) -> Tensor:
        given = remembered(d, given)
        return torch.cat([given[key].flatten() for key in keys])

    before = flat(state)
    columns = [
        flat(Shift(given=shifts.amounts(one)).apply(d, state)) - before
        for one in torch.eye(shifts.count, dtype=torch.float64)
    ]
    wanted = -before if target is None else flat(target) - before
    return Shift(given=shifts.amounts(least_squares(torch.stack(columns, dim=1), wanted)))


class Scales(Coordinates):
    """All scales of some weights as numbers, and the least sum of squares over them."""

    def __init__(self, d: Derivation, names: list[str]) -> None:
        super().__init__(d, scale_directions(d))
        from scipy.sparse import vstack

        self.names = names
        self.still = self._still()
        parts = [self.rows(name) for name in names]
        self.matrix: Any = vstack(parts).tocsr() if parts and self.count else None
        if self.matrix is None or self.matrix.nnz == 0:
            self.count = 0
        else:
            self.held = self._held()

    def rows(self, name: str) -> Any:
        found = super().rows(name)
        return found @ self.still if self.count else found

    def amounts(self, numbers: Tensor) -> Amounts:
        import torch

        return super().amounts(torch.from_numpy(self.still @ numbers.numpy()))

    def _still(self) -> Any:
        """Return the map to numbers under which gains that fold stay: what moves them is undone behind them."""
        from scipy.sparse import eye_array

        found: Any = eye_array(self.count).tolil()
        for fold in self.d.folds:
            rows = super().rows(fold.gain).tocsc()
            own = [
                place
                for start, one, shape in zip(self.starts, self.directions, self.shapes, strict=False)
                if one.spaces == (fold.behind,) and rows[:, [start]].nnz
                for place in range(start, start + prod(shape))
            ][: rows.shape[0]]
            if own:
                found[own, :] = -rows.toarray() / rows[:, own].diagonal()[:, None]
                found[:, own] = 0
        return found.tocsr()

    def holds(self, name: str) -> bool:
        """Return whether the logarithms of a weight's entries hold it."""
        return bool(self.count) and name in self.kept

    def _held(self) -> Any:
        """Return for each entry whether its tensor could shrink to nothing while no other grows.

        By symmetry under permutations that is so for all indices alike, so that common scales decide it.
        """
        import numpy as np
        from scipy.optimize import linprog

        parts = [self.rows(name)[:, self.common].toarray() for name in self.names]
        kinds = [np.unique(part, axis=0) for part in parts]
        stacked = np.concatenate(kinds)
        bounds = np.concatenate([np.zeros(len(stacked)), np.ones(len(stacked))])
        limits = np.concatenate([stacked, -stacked])
        found: list[Any] = []
        self.kept: set[str] = set()
        for name, part, kind in zip(self.names, parts, kinds, strict=True):
            solved = linprog(kind.sum(axis=0), A_ub=limits, b_ub=bounds, bounds=(None, None))
            if solved.fun < -1e-9:
                self.kept.add(name)
            found.append(np.full(len(part), name in self.kept))
        return np.concatenate(found)

    def least(self, state: State) -> Tensor:
        """Return the numbers of the least sum of squares, by Newton's method on a convex function."""
        import numpy as np
        import torch

        values = torch.cat([state[key_of(name)].detach().flatten() for name in self.names]).numpy() ** 2
        held = self.matrix.T @ self.held.astype(float)
        numbers = np.zeros(self.count)
        level = self._height(values, held, numbers)
        for _ in range(_NEWTON):
            terms = values * np.exp(2 * (self.matrix @ numbers))
            slope = 2 * (self.matrix.T @ terms - held)
            curve = (self.matrix.T @ (self.matrix * (4 * terms)[:, None])).toarray()
            step = -np.linalg.lstsq(curve, slope, rcond=1e-13)[0]
            step *= min(1.0, _FAR / max(float(np.abs(self.matrix @ step).max()), 1e-300))
            while self._height(values, held, numbers + step) > level + 1e-15 * abs(level):
                step /= 2
            numbers = numbers + step
            level = self._height(values, held, numbers)
            if float(np.abs(step).max()) < 1e-15:
                break
        return torch.from_numpy(numbers)

    def _height(self, values: Any, held: Any, numbers: Any) -> float:
        import numpy as np

        return float((values * np.exp(2 * (self.matrix @ numbers))).sum() - 2 * held @ numbers)


def _evened(ours: Tensor, theirs: Tensor, more: float) -> Tensor:
    """Return the least M of `even`, a stack of one a copy; what a wire at its limit does not carry stays."""
    import torch

    linear_algebra: Any = torch.linalg
    found: list[Tensor] = []
    for a, b in zip(ours, theirs, strict=True):
        values, vectors = linear_algebra.eigh(a + b)
        axes = vectors[:, values > _SINGULAR * values[-1]]
        a, b, one = axes.T @ a @ axes, axes.T @ b @ axes, _identity(axes)
        root, inverse = power(a, 0.5), power(a, -0.5)
        inside = power(root @ b @ root + (more / 2) ** 2 * one, 0.5)
        least = power(inverse @ (inside + more / 2 * one) @ inverse, 0.5)
        found.append(_identity(vectors) + axes @ (least - one) @ axes.T)
    return torch.stack(found)


def _seen_part(made: Tensor, read: Tensor) -> Tensor:
    """Return the projection E of least rank with R' E A = R' A, for A and R of shape [size, others]."""
    import torch

    linear_algebra: Any = torch.linalg
    a, r = (linear_algebra.qr(side.T, mode="r").R.T for side in (made, read))
    left, values, right = linear_algebra.svd(r.T @ a, full_matrices=False)
    kept = values > _UNSEEN * values.max()
    return a @ (right[kept].T / values[kept]) @ left[:, kept].T @ r.T


def _largest(ours: State, theirs: State, keys: set[str]) -> float:
    return max(float((ours[key] - theirs[key]).abs().max()) for key in keys)


def _rank(projection: Tensor) -> int:
    return round(float(projection.diagonal().sum()))


def power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of a symmetric matrix without negative eigenvalues."""
    import torch

    linear_algebra: Any = torch.linalg
    values, vectors = linear_algebra.eigh((matrix + matrix.mT) / 2)
    return (vectors * (values.clamp(min=0.0) ** exponent).unsqueeze(-2)) @ vectors.mT


def least_squares(matrix: Tensor, target: Tensor) -> Tensor:
    """Return the shortest x of least |matrix x - target|."""
    import torch

    linear_algebra: Any = torch.linalg
    return linear_algebra.pinv(matrix, rtol=_SINGULAR) @ target


def _identity(matrix: Tensor) -> Tensor:
    import torch

    return torch.eye(matrix.shape[-1], dtype=matrix.dtype)


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
