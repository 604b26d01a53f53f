"""The Jacobian of a large network in part: some entries of the weights move, the others stand still.

In: a typed graph and its group. Entries are drawn by units: for a random index of a random wire, all entries of
weights at that index move. Directions of the group that move nothing else are known without a rank, and they are in
the kernel of the columns drawn: as many at least is what the nullity of these columns must be. The converse says
nothing of the whole network: what is hidden across more units than were drawn is not seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.rewrites.sloped import sloped
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.draws import (
    idealised,
    learned_keys,
    outputs_of,
    random_inputs,
    random_state,
    with_same_draws,
)
from nnspec.compiler.symmetry.generators import key_of
from nnspec.compiler.symmetry.guards import jacobian_spectrum
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.dsl.diagnostics import InternalError
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_WORK = 1e11  # multiplications that the columns may cost
_FEWEST = 20  # columns below which nothing is looked at


class Sampled(Node):
    """Of so many units all entries moved: `columns` in all. Of these `nullity` directions are flat; `derived` of them
    follow from the group, at least."""

    units: int
    columns: int
    nullity: int
    derived: int

    def json(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "columns": self.columns,
            "nullity": self.nullity,
            "derived": self.derived,
        }


def sampled_nullity(graph: Graph, group: SymmetryGroup, seed: int, most: int) -> Sampled | None:
    """Return what a part of at most `most` columns shows; None where not even a few can be afforded.

    Raises InternalError if the columns leave fewer directions flat than the group has in them.
    """
    state = random_state(graph, group, seed, calm=True)
    most = min(most, _affordable(graph, group, state, seed))
    units, entries = _draw(graph, group.derivation, state, seed, most)
    columns = sum(index.numel() for index in entries.values())
    if columns < _FEWEST:
        return None
    ready = sloped(idealised(graph))
    spectrum = jacobian_spectrum(ready, group, state, seed, entries)
    derived = sum(_known(group.derivation, space, len(own)) for space, own in units.items())
    if derived > spectrum.nullity:
        raise InternalError(
            f"{graph.name}: {derived} directions are known in a part of nullity {spectrum.nullity}"
        )
    count = sum(len(own) for own in units.values())
    return Sampled(units=count, columns=columns, nullity=spectrum.nullity, derived=derived)


def _affordable(graph: Graph, group: SymmetryGroup, state: dict[str, Tensor], seed: int) -> int:
    """Return how many columns can be paid for: each is a forward of several numbers for each column."""
    found = with_same_draws(graph, seed)(state, *random_inputs(graph, 1, seed))
    outputs = max(1, outputs_of(found).shape[1])
    work = cost_table(graph).flops
    forward = max(float(work), 1.0) if isinstance(work, int) else 1e6
    return int((_WORK * outputs / (12 * forward)) ** 0.5)


def _draw(
    graph: Graph, d: Derivation, state: dict[str, Tensor], seed: int, most: int
) -> tuple[dict[Atom, list[int]], dict[str, Tensor]]:
    """Draw units while the entries that move with them are at most so many."""
    import torch

    learned = set(learned_keys(graph))
    spaces = [space for space in d.used if _is_drawn(d, space, learned)]
    draw = random.Random(seed)
    chosen: dict[Atom, list[int]] = {}
    moved: dict[str, Tensor] = {}
    count, misses = 0, 0
    while spaces and misses < 20:
        space = draw.choice(spaces)
        index = draw.randrange(d.spaces.sizes[space])
        if index in chosen.get(space, ()):
            misses += 1
            continue
        added = {
            key: own | moved[key] if key in moved else own for key, own in _slices(d, space, index, state)
        }
        more = sum(
            int(own.sum()) - (int(moved[key].sum()) if key in moved else 0) for key, own in added.items()
        )
        if count + more > most:
            misses += 1
            continue
        count += more
        moved |= added
        chosen.setdefault(space, []).append(index)
    return chosen, {key: torch.nonzero(own.flatten()).flatten() for key, own in moved.items()}


def _is_drawn(d: Derivation, space: Atom, learned: set[str]) -> bool:
    """Whether something acts on a space, and all weights that have it are learned as they are."""
    if d.groups[space] == "fixed" or d.spaces.sizes[space] == 1:
        return False
    tensors = {atom.tensor for atom in d.weight_atoms[space]}
    return all(d.related.carriers[name].is_free and key_of(name) in learned for name in tensors)


def _slices(d: Derivation, space: Atom, index: int, state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield, by state-dict key, which entries of a weight stand at an index of a space."""
    import torch

    found: dict[str, Tensor] = {}
    for atom in d.weight_atoms[space]:
        layout = d.spaces.layouts[atom.tensor, atom.axis]
        marks: list[Tensor] = []
        for number, segment in enumerate(layout):
            mark = torch.zeros(segment, dtype=torch.bool)
            if number == atom.segment:
                mark.select(atom.factor, index).fill_(True)
            marks.append(mark.flatten())
        key = key_of(atom.tensor)
        view = [1] * state[key].dim()
        view[atom.axis] = -1
        own = torch.cat(marks).view(view).expand(state[key].shape)
        found[key] = own | found[key] if key in found else own
    yield from found.items()


def _known(d: Derivation, space: Atom, units: int) -> int:
    """Return how many directions of the group certainly move entries of these units of a space alone: the scales
    of each of them."""
    return units * d.rank(d.scales, (space,)) if d.groups[space] in ("monomial", "linear") else 0
