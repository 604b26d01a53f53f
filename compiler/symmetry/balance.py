"""The balanced member of an orbit: of all weights that continuous symmetries make of the given ones, the least.

Scales and GL(n) move along their orbit to the least sum of squares of the weights. That minimum is unique up
to what leaves sums of squares alone: permutations, signs and rotations (Kempf and Ness, 1979). Where all
weights of a layer may shrink for nothing, because a norm behind it forgets scales, the sum of the logarithms of
their magnitudes holds against it, so that their root mean square is near 1. What a norm or a softmax forgets
is taken out, and what shifts move (biases) is made as small as it can be, by least squares.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.blocks import Coordinates, along, places
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import AnyMove, Element
from nnspec.compiler.symmetry.least_scales import Scales
from nnspec.compiler.symmetry.least_shifts import common, nearest_shift, shifted_keys, tables
from nnspec.compiler.symmetry.moves import Add, Multiply, Transform
from nnspec.compiler.symmetry.places import State, act_on_strand, key_of, stored
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.wires import label
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS = 1000  # of balancing scales and GL wires in turn
_STILL = 1e-13  # a relative change that is none
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
        import torch

        self.d = d
        self.state = state
        self.limits = limits
        self.is_limit = False
        self.lying: set[str] = set()  # keys of what shifts move that is balanced all the same
        # 0 for each entry on a wire that carries nothing, else 1
        self.carried: State = {
            key_of(name): torch.ones_like(state[key_of(name)]) for name in stored(d, state)
        }
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
        self.lying = tables(self.d, self.state)
        self.shift_behind()
        self.balance()
        if shifted:
            self.shift()
            self.forget()  # what shifts gave to the biases of keys and the like

    def forget(self) -> None:
        for item in self.d.forgotten:
            self.move(Add(item=item, added=-common(item, self.state)))

    def shift(self, among: set[str] | None = None) -> None:
        """Make what shifts move as small as it can be; on wires that carry nothing, rounding leaves nothing either."""
        self.move(nearest_shift(self.d, self.state, None, among))
        self.state = self.state | {key: self.state[key] * kept for key, kept in self.carried.items()}

    # ------------------------------------------------------------------------------------ scales and GL

    def balance(self) -> None:
        if self.limits:
            self.narrow()
        scales = Scales(self.d, self.names, self.carried)
        held = {name for name in self.names if scales.holds(name)}
        wires = [s for s in self.d.of_group("linear", "complex") if self.is_limit or self.regular(s)]
        for _ in range(_ROUNDS):
            change = 0.0
            if scales.count:
                numbers = scales.least(self.state)
                change = max(change, float(numbers.abs().max()))
                self.move(Multiply(given=scales.amounts(numbers), sign=False))
            if any(key_of(name) in self.lying for name in self.names):
                before = self.state
                self.shift(self.lying)
                change = max(change, _largest(self.state, before, self.lying))
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
            self.lying |= {key for strand in narrow for key in self.shifted & self.keys_on(strand)}
            if self.shift_behind():
                continue
            for strand in fresh:
                self.project(strand)
            carried, self.is_limit = ranks, True

    def shift_behind(self) -> bool:
        """Make what lies on the way of shifts as small as it can be; whether something is left that was not counted.

        Such are the rows of a table, of which shifts take the common part alone: they count like other weights.
        """
        if not self.lying:
            return False
        before = self.state
        self.shift(self.lying)
        left = [
            name
            for name in stored(self.d, self.state)
            if (key := key_of(name)) in self.lying
            and name not in self.names
            and float(self.state[key].abs().max()) > _UNSEEN * float(before[key].abs().max())
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
        some = part.diagonal(dim1=1, dim2=2).sum(dim=1).round()[:, None, None] > 0
        self.carried = act_on_strand(self.d, strand, self.carried, lambda given, _: given * some)
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


def _identity(matrix: Tensor) -> Tensor:
    import torch

    return torch.eye(matrix.shape[-1], dtype=matrix.dtype)


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
