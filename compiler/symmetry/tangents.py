"""The tangents of a derived group at random weights, and how many of them are independent.

In: a derivation. Every one-parameter family of the group moves the weights in some direction; the number of
independent directions is the dimension of the orbit, whatever stabilisers there are and however families
overlap. Directions that no composite map of a linear region shows belong to no group (they depend on the
weights) and are counted last, as the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.composites import kernel_vectors
from nnspec.compiler.symmetry.cut import cut_steps, is_worthwhile
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.draws import buffers_of_constraints, learned_keys
from nnspec.compiler.symmetry.elements import directions, every_unit
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.members import member_steps
from nnspec.compiler.symmetry.moves import Add, Shift
from nnspec.compiler.symmetry.places import State, key_of, on_strand
from nnspec.compiler.symmetry.relate import Carrier
from nnspec.compiler.symmetry.strands import Strand
from nnspec.compiler.symmetry.unknowns import Unknowns

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-8  # of a unit vector, beside the span of those before it


def tangent_dimensions(derivation: Derivation) -> dict[str, int]:
    """Count independent directions by family, each beside those before it."""
    weights = _Weights(derivation)
    return {
        family: weights.add(list(found))
        for family, found in (
            ("linear", weights.matrices("linear", "complex")),
            ("orthogonal", weights.matrices("orthogonal", "centred")),
            ("scale", weights.scales()),
            ("shift", weights.shifts()),
            ("kernel", weights.kernels()),
        )
    }


class _Weights:
    """Random weights, and the span of the directions found so far."""

    def __init__(self, derivation: Derivation) -> None:
        import torch

        self.derivation = derivation
        random = torch.Generator().manual_seed(0)
        self.state: State = {}
        self.stored: dict[str, State] = {}  # of weights under constraints: what they are made of
        self.moving: list[str] = []
        for name, carrier in derivation.related.carriers.items():
            if carrier.kind in ("weight", "buffer"):
                sizes = [size if isinstance(size, int) else 1 for size in carrier.shape]
                drawn = torch.randn(sizes, generator=random, dtype=torch.float64)
                self.state[key_of(name)] = self._member(carrier, drawn)
            if carrier.kind == "weight" and carrier.action is not None and carrier.action.moves:
                self.moving.append(name)
        self.total = sum(self.state[key_of(name)].numel() for name in self.moving)
        self.span = torch.zeros(0, self.total, dtype=torch.float64)

    def _member(self, carrier: Carrier, drawn: Tensor) -> Tensor:
        """Return what the maps of a constraint make of random numbers, with the buffers that it begins with."""
        from nnspec.compiler.emit.load import effective_weight

        weight = carrier.weight
        if weight is None or not weight.maps:
            return drawn
        path = carrier.name.rpartition(".")[0]
        real = {**self._begun, **self._beside}
        if key_of(carrier.name) in real:
            real[key_of(carrier.name)] = drawn
        self.stored[carrier.name] = real
        return effective_weight(weight, path, real).double()

    @cached_property
    def _begun(self) -> State:
        import torch

        from nnspec.compiler.emit.load import initial_state

        begun = initial_state(self.derivation.graph, 0)
        made = {key: own.double() if own.dtype.is_floating_point else own for key, own in begun.items()}
        random = torch.Generator().manual_seed(1)
        return made | buffers_of_constraints(self.derivation.graph, random)

    @cached_property
    def _beside(self) -> State:
        """Random numbers near the first ones for all that is learned, such as what constraints hold beside a weight."""
        import torch

        random = torch.Generator().manual_seed(2)
        return {
            key: self._begun[key]
            + 0.3 * torch.randn(self._begun[key].shape, generator=random, dtype=torch.float64)
            for key in learned_keys(self.derivation.graph)
        }

    def add(self, found: list[Tensor]) -> int:
        """Add directions to the span; return how many were independent of it and of each other."""
        import torch

        linear_algebra: Any = torch.linalg
        if not found or not self.total:
            return 0
        stacked = torch.stack(found)
        sizes: Tensor = linear_algebra.vector_norm(stacked, dim=1, keepdim=True)
        stacked = (stacked / sizes)[sizes.flatten() > 0]
        for _ in range(2):  # twice, for rounding
            stacked = stacked - (stacked @ self.span.T) @ self.span
        _, spectrum, right = linear_algebra.svd(stacked, full_matrices=False)
        rank = int((spectrum > TOLERANCE).sum())
        self.span = torch.cat([self.span, right[:rank]])
        return rank

    def vector(self, changes: dict[str, Tensor]) -> Tensor:
        """Return changes of weights as one vector."""
        import torch

        parts = [
            changes[name].flatten()
            if name in changes
            else torch.zeros_like(self.state[key_of(name)]).flatten()
            for name in self.moving
        ]
        return torch.cat(parts)

    def matrices(self, *groups: str) -> Iterator[Tensor]:
        """Yield the directions of a basis of the Lie algebra of every strand, copy by copy."""
        for strand in self.derivation.of_group(*groups):
            if strand.size > 1:
                for generator in _basis(self.derivation.groups[strand.space], strand.size):
                    for copy in range(strand.copies):
                        yield self.vector(self.turned(strand, generator, copy))
        for space, item in self.derivation.incidences.items():
            if item.group in groups:
                for generator in item.basis():
                    yield self.vector(self.turned(self.derivation.by_space[space], generator, 0))

    def turned(self, strand: Strand, generator: Tensor, copy: int) -> dict[str, Tensor]:
        """Return how the weights change when a matrix begins to act on one copy of a strand."""
        d = self.derivation
        changes: dict[str, Tensor] = {}
        self._turn(strand, generator, copy, changes)
        for fold in d.folds:
            if fold.before == strand.space:
                gain = self.state[key_of(fold.gain)]
                inner = gain[:, None] * generator / gain
                self._turn(d.by_space[fold.behind], inner, copy, changes, besides=fold.gain)
        return changes

    def _turn(
        self,
        strand: Strand,
        generator: Tensor,
        copy: int,
        changes: dict[str, Tensor],
        besides: str | None = None,
    ) -> None:
        import torch

        for atoms, outer in strand.places:
            name = atoms[0].tensor
            if name not in self.moving or name == besides:
                continue
            acting = generator if self.derivation.orientations.of(atoms[0]) > 0 else -generator.T

            def act(given: Tensor, acting: Tensor = acting) -> Tensor:
                moved = torch.zeros_like(given)
                moved[copy] = acting @ given[copy]
                return moved

            own = self.state[key_of(name)]
            inside = on_strand(self.derivation, strand, own, (*outer, *atoms), act)
            outside = on_strand(self.derivation, strand, own, (*outer, *atoms), torch.zeros_like)
            changes[name] = changes.get(name, torch.zeros_like(own)) + inside - outside

    def scales(self) -> Iterator[Tensor]:
        for given in (*self._units(self.derivation.scales), *self.derivation.graded.scales):
            changes: dict[str, Tensor] = {}
            for name in self.moving:
                field = given.field(self.derivation, name)
                if field is not None:
                    changes[name] = field * self.state[key_of(name)]
            yield self.vector(changes)

    def shifts(self) -> Iterator[Tensor]:
        for given in self._units(self.derivation.shifts):
            yield self._difference(Shift(given=given).apply(self.derivation, self.state, effective=True))
        for item in self.derivation.forgotten:
            yield from self._forgotten(item)

    def _units(self, system: Unknowns) -> Iterator[Any]:
        for direction in directions(self.derivation, system):
            yield from every_unit(self.derivation, direction)

    def _difference(self, state: State) -> Tensor:
        return self.vector({name: state[key_of(name)] - self.state[key_of(name)] for name in self.moving})

    def _forgotten(self, item: Forgotten) -> Iterator[Tensor]:
        import torch

        for unit in torch.eye(item.dimension, dtype=torch.float64):
            yield self._difference(
                Add(item=item, added=unit.reshape(item.shape)).apply(self.derivation, self.state)
            )

    def kernels(self) -> Iterator[Tensor]:
        import torch

        values = {name: self.state[key_of(name)].numpy() for name in self.derivation.weights}
        for found in kernel_vectors(self.derivation.related, values, self._steps):
            yield self.vector({name: torch.as_tensor(array) for name, array in found.items()})
        if is_worthwhile(self.derivation):
            beside = self._begun | self._beside
            yield from map(self.vector, cut_steps(self.derivation, self.state, self.stored, beside))

    def _steps(self, name: str) -> Any:
        """Return an orthonormal basis of how a weight under a constraint may move, a column each."""
        import numpy

        weight = self.derivation.related.carriers[name].weight
        if (
            weight is None or name not in self.stored
        ):  # a projection alone: what stays in its set is not known
            return numpy.zeros((self.state[key_of(name)].numel(), 0))
        return member_steps(weight, name.rpartition(".")[0], self.stored[name])


def _basis(group: str, size: int) -> Iterator[Tensor]:
    """Yield a basis of the Lie algebra of a group of matrices."""
    import torch

    eye = torch.eye(size, dtype=torch.float64)
    if group == "complex":
        yield eye
        yield torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
        return
    keep = eye - 1.0 / size
    for row in range(size):
        for column in range(size):
            unit = torch.outer(eye[row], eye[column])
            if group == "linear":
                yield unit
            elif row < column:
                turn = unit - unit.T
                yield keep @ turn @ keep if group == "centred" else turn
