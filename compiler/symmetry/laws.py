"""Conserved quantities of gradient flow, from the generators of the group.

A family theta -> exp(t X) theta that leaves the loss as it is has <X theta, grad L> = 0. Where X is symmetric, that is
the change of <theta, X theta> / 2 under gradient flow, which is therefore conserved (Noether's argument; Zhao et
al. 2023, "Symmetries, flat minima, and the conserved quantities of gradient flow"; Marcotte et al. 2023,
arXiv 2307.00144): the difference of squared norms of a unit's weights for each scale, a symmetric matrix U U' - V' V for
each wire of linear maps. Rotations (X antisymmetric) give none of this kind. Constants v that may be added whatever
the weights are give <theta, v>.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.blocks import Coordinates, places
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import directions
from nnspec.compiler.symmetry.least_shifts import common
from nnspec.compiler.symmetry.moves import Shift
from nnspec.compiler.symmetry.places import State, key_of, on_strand, shape_of, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_MOST_SHIFTS = 400  # constants that are looked for among so many shifts
_RANK = 1e-9  # of the largest singular value


class Laws(Node):
    """Conserved numbers of one kind on one wire: `values` gives them from a state, `sizes` their scale."""

    wire: str
    family: str  # scale, linear, shift
    formula: str
    values: Callable[[State], Tensor]
    sizes: Callable[[State], Tensor]


def conserved(group: SymmetryGroup, state: State) -> tuple[Laws, ...]:
    """Return the laws of a network; those among shifts are found at the weights of a state."""
    d = group.derivation
    names = [name for name in stored(d, state) if d.related.carriers[name].kind == "weight"]
    found = [_scale(d, space_name, rows, names) for space_name, rows in _scales(d, names)]
    for strand in d.of_group("linear", "complex"):
        if strand.size > 1:
            found.append(_linear(d, strand, names))
    return (*found, *_constants(d, state), *_forgotten(d))


def independent(laws: tuple[Laws, ...], state: State, keys: list[str]) -> int:
    """Return how many of the laws are independent at some weights: the rank of their gradients."""
    import torch

    sizes = [state[key].numel() for key in keys]
    point = torch.cat([state[key].double().flatten() for key in keys])

    def values(flat: Tensor) -> Tensor:
        parts = zip(keys, torch.split(flat, sizes), strict=True)
        moved = {**state, **{key: part.view(state[key].shape) for key, part in parts}}
        return torch.cat([law.values(moved) for law in laws])

    if not laws:
        return 0
    gradients: Any = torch.func.jacrev(values)(point)
    linear_algebra: Any = torch.linalg
    spectrum = linear_algebra.svdvals(gradients)
    return int((spectrum > _RANK * spectrum[0]).sum())


# ------------------------------------------------------------------------------------------ scales and GL


def _scales(d: Derivation, names: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return for each free direction, and each common one that they do not hold, its sparse rows by tensor."""
    free = [one for one in directions(d, d.scales) if one.spaces]
    common = [one for one in directions(d, d.scales) if not one.spaces]
    found: list[tuple[str, dict[str, Any]]] = []
    held = [_trace(d, strand, names) for strand in d.of_group("linear", "complex") if strand.size > 1]
    for one in (*free, *common):
        coordinates = Coordinates(d, [one])
        rows = {name: coordinates.rows(name) for name in names}
        if not any(own.nnz for own in rows.values()):
            continue
        if not one.spaces:
            stacked = _flat(rows, names)
            if _spanned(held, stacked):
                continue
            held.append(stacked)
        else:
            held += [_flat(rows, names).sum(axis=1).reshape(-1, 1)]
        first = next(name for name in names if rows[name].nnz)
        title = first if not one.spaces else d.related.carriers[d.by_space[one.spaces[0]].space.tensor].shown
        found.append((title, rows))
    return found


def _trace(d: Derivation, strand: Strand, names: list[str]) -> Any:
    """Return the scale of a whole wire of matrices, which is counted with them, as a column over all entries."""
    import numpy as np
    import torch

    fields = {name: torch.zeros(shape_of(d, name), dtype=torch.float64) for name in names}
    for atoms, outer in strand.places:
        if (name := atoms[0].tensor) in fields:
            sign = d.orientations.of(atoms[0])
            fields[name] = on_strand(d, strand, fields[name], (*outer, *atoms), lambda x, sign=sign: x + sign)
    return np.concatenate([field.numpy().reshape(-1, 1) for field in fields.values()])


def _flat(rows: dict[str, Any], names: list[str]) -> Any:
    import numpy as np

    return np.concatenate([rows[name].toarray() for name in names])


def _spanned(held: list[Any], column: Any) -> bool:
    """Whether a common direction is a sum of those that are free at each index."""
    import numpy as np

    if not held:
        return False
    basis = np.concatenate(held, axis=1)
    fitted = basis @ np.linalg.lstsq(basis, column, rcond=None)[0]
    return bool(np.abs(fitted - column).max() < 1e-9)


def _scale(d: Derivation, wire: str, rows: dict[str, Any], names: list[str]) -> Laws:
    import torch

    kept = {name: own.T for name, own in rows.items() if own.nnz}
    tensors = {name: torch.from_numpy(own.toarray()) for name, own in kept.items()}

    def weighed(state: State, parts: dict[str, Tensor]) -> Tensor:
        return sum(
            (part @ state[key_of(name)].flatten().to(part) ** 2 for name, part in parts.items()),
            torch.zeros(()),
        )

    magnitudes = {name: part.abs() for name, part in tensors.items()}
    signs = {1.0: "", -1.0: "-"}
    terms = [f"{signs.get(float(own.data[0]), f'{own.data[0]:g} ')}|{name}|^2" for name, own in kept.items()]
    return Laws(
        wire=wire,
        family="scale",
        formula=" + ".join(terms).replace("+ -", "- "),
        values=lambda state: weighed(state, tensors),
        sizes=lambda state: weighed(state, magnitudes),
    )


def _linear(d: Derivation, strand: Strand, names: list[str]) -> Laws:
    import torch

    both = [(atoms[0].tensor, d.orientations.of(atoms[0])) for atoms, _ in strand.places]
    upper = torch.triu_indices(strand.size, strand.size)

    def gram(state: State, sign: float) -> Tensor:
        total = torch.zeros(strand.copies, strand.size, strand.size, dtype=torch.float64)
        for atom, rows in places(d, strand, state, names):
            weight = 1.0 if d.orientations.of(atom) > 0 else sign
            total = total + weight * (rows.double() @ rows.double().mT)
        return total

    def values(state: State) -> Tensor:
        found = gram(state, -1.0)
        if d.groups[strand.space] == "complex":
            return found.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        return found[:, upper[0], upper[1]].flatten()

    def sizes(state: State) -> Tensor:
        trace = gram(state, 1.0).diagonal(dim1=-2, dim2=-1).sum(dim=-1) / strand.size
        return trace.repeat_interleave(len(values(state)) // strand.copies)

    kept = [(name, sign) for name, sign in both if name in names]
    terms = [f"{name} {name}'" if sign > 0 else f"- {name}' {name}" for name, sign in kept]
    formula = " + ".join(terms).replace("+ -", "-")
    return Laws(
        wire=d.related.carriers[strand.space.tensor].shown,
        family="linear",
        formula=formula,
        values=values,
        sizes=sizes,
    )


# ------------------------------------------------------------------------------------------------- constants


def _forgotten(d: Derivation) -> list[Laws]:
    found: list[Laws] = []
    for item in d.forgotten:

        def values(state: State, item: Any = item) -> Tensor:
            own = state[key_of(item.weight)].double()
            total = (common(item, state) if item.axis is None else own.sum(dim=item.axis)).double().flatten()
            if item.bias is None:
                return total
            return total - item.total * state[key_of(item.bias)].double().flatten()

        def sizes(state: State, item: Any = item) -> Tensor:
            return state[key_of(item.weight)].double().norm().expand(len(values(state)))

        formula = item.weight if item.axis is None else f"sum over axis {item.axis} of {item.weight}"
        if item.bias is not None and item.total:
            formula += f" - {item.total:g} {item.bias}"
        found.append(Laws(wire=item.weight, family="shift", formula=formula, values=values, sizes=sizes))
    return found


def _constants(d: Derivation, state: State) -> list[Laws]:
    """Return <theta, v> for shifts that add the same v whatever the weights are."""
    import torch

    shifts = Coordinates(d, list(directions(d, d.shifts)))
    if not 0 < shifts.count <= _MOST_SHIFTS:
        return []
    here = {key: t.double() if t.dtype.is_floating_point else t for key, t in state.items()}
    # Running statistics follow a shift, and take no part in a step: the law is about what learns.
    keys = [key_of(name) for name in stored(d, here) if d.related.carriers[name].kind == "weight"]

    def steps(given: State) -> Tensor:
        moved = [
            Shift(given=shifts.amounts(one)).apply(d, given)
            for one in torch.eye(shifts.count, dtype=torch.float64)
        ]
        return torch.stack(
            [torch.cat([(m[key] - given[key]).flatten() for key in keys]) for m in moved], dim=1
        )

    first = steps(here)
    linear_algebra: Any = torch.linalg
    free = torch.eye(shifts.count, dtype=torch.float64)  # shifts that were the same at all weights so far
    for seed in range(1000, 1000 + shifts.count):
        difference = (steps(_random_like(here, seed)) - first) @ free
        _, values, turned = linear_algebra.svd(difference, full_matrices=True)
        rank = int((values > _RANK * max(float(values[0]), 1.0)).sum())
        free = free @ turned[rank:].T
        if rank == 0 or not free.shape[1]:
            break
    left, size, _ = linear_algebra.svd(first @ free, full_matrices=False)
    left = left[:, size > _RANK * max(float(first.norm()), 1e-300)]
    if not left.shape[1]:
        return []
    sizes = [here[key].numel() for key in keys]
    touched = [
        key
        for key, part in zip(keys, torch.split(left, sizes), strict=True)
        if bool((part.abs() > 1e-9).any())
    ]

    def values_of(given: State) -> Tensor:
        return left.T @ torch.cat([given[key].double().flatten() for key in keys])

    def scale_of(given: State) -> Tensor:
        total = torch.cat([given[key].double().flatten() for key in touched]).norm()
        return total.clamp(min=1.0).expand(left.shape[1])

    formula = f"sums of {', '.join(touched)} along what a shift adds"
    return [Laws(wire=touched[0], family="shift", formula=formula, values=values_of, sizes=scale_of)]


def _random_like(state: State, seed: int) -> State:
    import torch

    random = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(t.shape, generator=random, dtype=t.dtype) if t.dtype.is_floating_point else t
        for key, t in state.items()
    }
