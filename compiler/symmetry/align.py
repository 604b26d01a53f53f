"""Alignment: the element of the group that brings one network's weights as near to another's as it can.

Both are balanced first (`balance`), so that what is left of the group leaves sums of squares alone, and the `matcher`
finds what is nearest wire by wire, from several starts. Where an orbit has no least member, and for matrices that keep
masks, `intertwiners` give all matrices at once. The best are then fitted to the weights as they are, by
all continuous families at once (`flows`). The result is a local optimum; its distance is told, and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.symmetry.balance import balance
from nnspec.compiler.symmetry.canonical import exact, sorted_weights
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import Element, act, left_out, random_element
from nnspec.compiler.symmetry.flows import Flows
from nnspec.compiler.symmetry.intertwiners import Intertwiners
from nnspec.compiler.symmetry.matcher import Matcher, Reached
from nnspec.compiler.symmetry.moves import Exchange, Multiply, Permute, in_force
from nnspec.compiler.symmetry.neurons import Rearrange
from nnspec.compiler.symmetry.places import State, key_of, stored
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.swaps import Swap
from nnspec.dsl.node import Node

_EXACT = 1e-20  # of the squared norm: a squared distance that is none
_SAME = 1e-3  # of a squared distance, that two starts reached alike
_FINE = 1e-9  # of what is left of a squared distance, when the last steps end
_FINISHED = 2  # starts whose ends are fitted to the weights as they are


class Aligned(Node):
    """B moved near to A. Distances are norms of differences of weights, over the norm of A's."""

    element: Element
    state: State
    before: float
    after: float
    solvers: tuple[tuple[str, str], ...]  # by wire
    starts: int
    notes: tuple[str, ...]


def align(group: SymmetryGroup, ours: State, theirs: State, restarts: int = 4, seed: int = 0) -> Aligned:
    """Return `theirs` moved near to `ours` by an element of the group."""
    d = group.derivation
    ours, given = exact(ours), exact(theirs)
    element, matcher, tried, notes = _aligned(
        group, seen_weights(d, ours), seen_weights(d, given), restarts, seed
    )
    moved = act(d, element, given)
    return Aligned(
        element=element,
        state=moved,
        before=distance(d, ours, given),
        after=distance(d, ours, moved),
        solvers=tuple(
            (d.related.carriers[space.tensor].shown, how) for space, how in matcher.solvers.items()
        ),
        starts=tried,
        notes=tuple(dict.fromkeys((*left_out(group), *notes))),
    )


def _aligned(
    group: SymmetryGroup, ours: State, theirs: State, restarts: int, seed: int
) -> tuple[Element, Matcher, int, tuple[str, ...]]:
    """Return the element found for weights in force, the matcher that knows how, and how many starts it had."""
    d = group.derivation
    mine, other = balance(d, ours), balance(d, theirs)
    flows = Flows(d, [name for name in stored(d, ours) if d.related.carriers[name].kind == "weight"])
    # Of wires that have no least member, and of matrices that keep masks, a balanced member is not near another.
    mapped = Intertwiners(flows, mine.state) if mine.notes or other.notes or d.incidences else None
    matcher = Matcher(flows, mine.state, restarts, seed, mapped)
    reached: list[Reached] = []
    for start in _starts(group, ours, theirs, restarts, seed):
        start = other.element.inverse().then(start).then(mine.element) if start.moves else start
        reached.append(matcher.run(start, other.state, flowing=mapped is not None))
        if _is_enough(reached, matcher.size):
            break
    best = sorted(reached, key=lambda one: one.gap)[:_FINISHED]
    begun = [other.element.then(one.element).then(mine.element.inverse()) for one in best]
    # The same gauge is not the nearest one where the two differ: all is fitted once more to the weights as they are.
    finisher = Matcher(flows, ours, restarts, seed)
    ended: list[Reached] = []
    for start in (*begun, Element()):
        ended.append(finisher.run(start, theirs, flowing=True))
        if _is_enough(ended, finisher.size):
            break
    element = finisher.flown(min(ended, key=lambda one: one.gap), _FINE).element
    return element, matcher, len(reached), (*mine.notes, *other.notes)


def _is_enough(reached: list[Reached], size: float) -> bool:
    """Whether nothing is left of the distance, or the best that was reached was reached twice."""
    gaps = sorted(one.gap for one in reached)
    return gaps[0] <= _EXACT * size or (len(gaps) > 1 and gaps[1] <= (1 + _SAME) * gaps[0])


def distance(d: Derivation, ours: State, theirs: State) -> float:
    """Return the norm of the difference of two networks' weights in force, over the norm of the first one's."""
    ours, theirs = seen_weights(d, ours), seen_weights(d, theirs)
    keys = weight_keys(d, ours)
    gap = sum(float(((ours[key] - theirs[key]) ** 2).sum()) for key in keys)
    size = sum(float((ours[key] ** 2).sum()) for key in keys)
    return (gap / size) ** 0.5 if size else gap**0.5


def seen_weights(d: Derivation, state: State) -> State:
    """Return weights in force, zero where a mask removes entries."""
    import torch

    found = in_force(d, state)
    masks = {} if d.neurons is None else d.neurons.masks
    for name, kept in masks.items():
        if (key := key_of(name)) in found:
            found = {**found, key: found[key] * torch.from_numpy(kept != 0).to(found[key])}
    return found


def weight_keys(d: Derivation, state: State) -> list[str]:
    """Return the keys of the weights on which the group acts; buffers follow them."""
    return [key_of(name) for name in stored(d, state) if d.related.carriers[name].kind == "weight"]


def _starts(group: SymmetryGroup, ours: State, theirs: State, restarts: int, seed: int) -> Iterator[Element]:
    """Yield where to start: as they come, both in canonical form, and at random."""
    yield Element()
    yield sorted_weights(group, theirs).element.then(sorted_weights(group, ours).element.inverse())
    for number in range(restarts):
        random = random_element(group, seed + number)
        kept = [
            m
            for m in random.moves
            if isinstance(m, Permute | Rearrange | Exchange | Swap) or (isinstance(m, Multiply) and m.sign)
        ]
        yield Element(moves=tuple(kept))
