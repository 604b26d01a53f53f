"""Whether two networks with weights are one function because a symmetry takes the one to the other.

Yes comes with the element, and is checked by applying it, or else with canonical members that are one; no with inputs on
which the outputs differ, or with what tells the architectures apart; what is neither is undecided, and why is said.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.hard import hard
from nnspec.compiler.symmetry.align import Aligned, align
from nnspec.compiler.symmetry.architecture import correspondences, difference
from nnspec.compiler.symmetry.canonical import canonical, exact
from nnspec.compiler.symmetry.elements import Element
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import largest_change
from nnspec.compiler.symmetry.places import State
from nnspec.compiler.symmetry.weights import in_use
from nnspec.dsl.node import Node

_SEEN = 100  # times the tolerance: a change of an output that is no rounding


class Equivalence(Node):
    """`answer` is "yes", "no" or "undecided". Distances are relative; None where nothing was compared."""

    answer: str
    reason: str
    distance: float | None = None  # of the nearest member of the orbit that was found
    output_change: float | None = None  # the largest on random inputs, over the largest output
    element: Element | None = None  # takes the second network's weights to the first's
    names: dict[str, str] | None = None  # keys of the first for those of the second

    def json(self) -> dict[str, Any]:
        return {
            "answer": self.answer,
            "reason": self.reason,
            "distance": self.distance,
            "output_change": self.output_change,
            "names": self.names,
        }


def same_architecture(ours: Graph, theirs: Graph) -> Equivalence:
    """Compare two specs without weights."""
    said = difference(ours, theirs)
    if said is not None:
        return Equivalence(answer="no", reason=said)
    names = next(correspondences(ours, theirs))
    return Equivalence(answer="yes", reason="one is the other with its parts renamed", names=names)


def equivalent(
    ours: Graph, our_state: State, theirs: Graph, their_state: State, tolerance: float = 1e-6
) -> Equivalence:
    """Compare two networks with weights that are theirs."""
    said = difference(ours, theirs)
    if said is not None:
        return Equivalence(answer="no", reason=f"the architectures differ: {said}")
    group = symmetry_group(ours)
    first = exact(in_use(ours, our_state))
    second = exact(in_use(theirs, their_state))
    best: tuple[Aligned, dict[str, str]] | None = None
    for names in correspondences(ours, theirs):
        found = align(group, first, {names[key]: tensor for key, tensor in second.items()})
        if best is None or found.after < best[0].after:
            best = (found, names)
        if best[0].after <= tolerance and _others_equal(first, best[0].state, tolerance):
            exactly = "exactly" if _others_equal(first, best[0].state, 0.0) else f"to {best[0].after:.1e}"
            reason = f"an element of the group takes the one to the other, {exactly}"
            return Equivalence(
                answer="yes", reason=reason, distance=best[0].after, element=best[0].element, names=names
            )
    assert best is not None
    found, names = best
    moved = {names[key]: tensor for key, tensor in second.items()}
    change = largest_change(hard(ours), group, first, moved, 0)
    given: dict[str, Any] = {"distance": found.after, "output_change": change, "names": names}
    if change > _SEEN * tolerance:
        return Equivalence(answer="no", reason="their outputs differ on random inputs", **given)
    forms = [canonical(group, state, is_tried=False).state for state in (first, moved)]
    if _others_equal(forms[0], forms[1], tolerance):
        reason = (
            "their canonical members are one: they differ in what no element moves and no output depends on"
        )
        return Equivalence(answer="yes", reason=reason, **given)
    parts = (
        "a symmetry of these very weights",
        "an element that the search missed, which finds local optima",
    )
    may = " or ".join(parts)
    if found.notes:
        may = f"what is not searched ({'; '.join(found.notes)}), {', or '.join(parts)}"
    why = (
        "their outputs agree on random inputs, and no element of the group was found that takes the one to the other; "
        f"there may be one all the same: {may}"
    )
    return Equivalence(answer="undecided", reason=why, **given)


def _others_equal(ours: State, theirs: State, tolerance: float) -> bool:
    """Whether all tensors agree, those that no group acts on and buffers too."""
    return all(
        float((ours[key].double() - theirs[key].double()).abs().max() if ours[key].numel() else 0.0)
        <= tolerance * max(1.0, float(ours[key].double().abs().max()) if ours[key].numel() else 0.0)
        for key in ours
    )
