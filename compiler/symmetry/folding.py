"""Gains that fold into the maps behind them, so that a norm's rotations pass.

In: the relations of a network. Behind a norm, z = g * n (+ b), and W reads z: the network sees W diag(g)
alone. A rotation R of n is undone where W becomes W S^-1 with S = diag(g) R diag(g)^-1, b becomes S b, and g
stays; besides, each entry of g may be scaled against the column of W that reads it. That holds where only
free linear maps see z, and not where a function of entries does: then n and z are one index space, as ever.
"""

from __future__ import annotations

from nnspec.compiler.relations import Contract, Normalize
from nnspec.compiler.symmetry.kinds import Kind, kinds
from nnspec.compiler.symmetry.relate import Gain, Related, Stated
from nnspec.compiler.symmetry.spaces import Atom, Spaces, Why
from nnspec.dsl.node import Node


class Fold(Node):
    """A gain that folds: the space before it, whose rotations pass, and the one behind it."""

    gain: str  # the weight
    before: Atom
    behind: Atom


class Folded(Node):
    """Index spaces and their kinds, when all gains that can be folded are."""

    spaces: Spaces
    kinds: dict[Atom, Kind]
    folds: tuple[Fold, ...]


def fold_gains(related: Related) -> Folded:
    """Fold every gain that can be; what is behind such a gain is fixed but for its scales."""
    gains = _candidates(related)
    while True:
        stated = tuple(
            item.replace(gain=gains[index]) if index in gains else item
            for index, item in enumerate(related.stated)
        )
        spaces = Spaces(related.replace(stated=stated))
        found = kinds(spaces)
        kept = _foldable(spaces, found, gains)
        if len(kept) == len(gains):
            break
        gains = kept
    folds: list[Fold] = []
    for index in gains:
        fold = _fold(spaces, stated[index])
        spaces.fixed.setdefault(
            fold.behind, Why(stated=stated[index], text="a gain that folds into the maps behind")
        )
        folds.append(fold)
    return Folded(spaces=spaces, kinds=found, folds=tuple(folds))


def _candidates(related: Related) -> dict[int, Gain]:
    """Return the products of a norm's output with a learned vector along the norm's axis, by number."""
    norms = {
        stated.relation.output: stated.relation
        for stated in related.stated
        if isinstance(stated.relation, Normalize) and stated.relation.group != "unit"
    }
    found: dict[int, Gain] = {}
    for index, stated in enumerate(related.stated):
        relation = stated.relation
        if not isinstance(relation, Contract) or len(relation.terms) != 2 or relation.powers:
            continue
        given, weight = sorted(relation.terms, key=lambda term: not related.carriers[term.tensor].live)
        norm = norms.get(given.tensor)
        plain = given.labels == relation.output.labels and related.carriers[weight.tensor].is_free
        if norm is None or not plain or len(norm.axes) != 1:
            continue
        if weight.labels == (given.labels[norm.axes[0]],):
            found[index] = Gain(given=given, weight=weight, label=weight.labels[0])
    return found


def _foldable(spaces: Spaces, found: dict[Atom, Kind], gains: dict[int, Gain]) -> dict[int, Gain]:
    folds = {index: _fold(spaces, spaces.related.stated[index]) for index in gains}
    behind = [fold.behind for fold in folds.values()]
    return {
        index: gains[index]
        for index, fold in folds.items()
        if fold.before not in spaces.fixed
        and fold.behind not in spaces.fixed
        and found[fold.before].name in ("orthogonal", "centred")
        and found[fold.behind].name == "linear"
        and behind.count(fold.behind) == 1
        and spaces.sizes[fold.before] == spaces.sizes[fold.behind]
    }


def _fold(spaces: Spaces, stated: Stated) -> Fold:
    """Return a fold; its axes are whole, or the spaces are of different sizes."""
    gain = stated.gain
    assert gain is not None
    before = spaces.atoms((gain.given.tensor, gain.given.labels.index(gain.label)))[0][0]
    behind = spaces.atoms((gain.weight.tensor, 0))[0][0]
    whole = len(spaces.layouts[gain.weight.tensor, 0]) == 1 == len(spaces.layouts[gain.weight.tensor, 0][0])
    return Fold(
        gain=gain.weight.tensor,
        before=spaces.space(before),
        behind=spaces.space(behind) if whole else spaces.space(before),
    )
