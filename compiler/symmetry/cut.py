"""What the linear pieces of a network leave unseen of its weights, where these pieces are more than maps along one axis.

In: a derivation and weights. The network is cut at its functions (see `fibres/opened.py`): what no piece shows, whatever flows
between, is null in the whole. That finds what belongs to no family: convolutions in a row, tables that are looked
up and mixed, products of weights, values that all terms of a maximum share, the scales that an exponential makes of shifts,
and of scales what stays among the members of a constraint. It is linear algebra at the weights at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.ir import state_key
from nnspec.compiler.relations import Choice, Elementwise, Relation
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.members import member_steps
from nnspec.compiler.symmetry.places import State, key_of
from nnspec.compiler.symmetry.relate import Carrier

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-8  # of a unit step of what is stored


def is_worthwhile(d: Derivation) -> bool:
    """Whether pieces may leave more unseen than scales, shifts and the maps along one axis say."""
    weights = [d.related.carriers[name].weight for name in d.weights]
    if any(item.has_own_gradient for weight in weights if weight is not None for item in weight.maps):
        return False  # weights of few values: units may be alike
    return d.unseen.note is not None or any(_passes_more(d, stated.relation) for stated in d.related.stated)


def _passes_more(d: Derivation, relation: Relation) -> bool:
    """Whether a function lets through what the systems of scales and shifts do not say, or is of parameters alone."""
    if not isinstance(relation, Elementwise):
        return False
    shared = len(relation.terms) > 1 and relation.shifts is not None
    still = not any(d.related.carriers[term.tensor].live for term in relation.terms)
    turns = relation.growth is not None or relation.logarithm is not None
    return shared or still or turns or isinstance(relation, Choice)


def cut_steps(
    d: Derivation, state: State, stored: Mapping[str, State], beside: State
) -> Iterator[dict[str, Tensor]]:
    """Yield independent steps of weights in force, by name, that no piece shows.

    `state` are random weights by key, `stored` what those under constraints are made of, `beside` all else.
    """
    import torch

    from nnspec.compiler.fibres.opened import unseen

    carriers = [d.related.carriers[name] for name in d.weights]
    whole = dict(beside)
    for carrier in carriers:
        own = stored.get(carrier.name)
        whole |= {key_of(carrier.name): state[key_of(carrier.name)]} if own is None else _own(carrier, own)
    found = unseen(d.graph, whole, still=_irregular(d, stored))
    if found is None:
        return
    opened, null = found
    steps = [dict(zip(opened.keys, column.split(opened.sizes), strict=True)) for column in null.T]
    moved = [_in_force(carriers, set(stored), whole, step) for step in steps]
    if not moved:
        return
    flat = torch.stack([torch.cat([part.flatten() for part in one.values()]) for one in moved])
    _, values, right = torch.linalg.svd(flat, full_matrices=False)
    for row in right[values > TOLERANCE]:  # what a constraint does not use moves no weight
        parts = row.split([part.numel() for part in moved[0].values()])
        yield {name: part.view(own.shape) for (name, own), part in zip(moved[0].items(), parts, strict=True)}


def _own(carrier: Carrier, stored: State) -> State:
    assert carrier.weight is not None
    keys = [state_key(carrier.name.rpartition(".")[0], tensor.name) for tensor in carrier.weight.stored]
    return {key: stored[key] for key in keys}


def _in_force(
    carriers: list[Carrier], made: set[str], whole: State, step: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return how every weight in force moves with a step of what is stored."""
    import torch

    from nnspec.compiler.emit.load import weight_function

    found: dict[str, Tensor] = {}
    for carrier in carriers:
        path = carrier.name.rpartition(".")[0]
        if carrier.name not in made:
            own = whole[key_of(carrier.name)]
            found[carrier.name] = step.get(key_of(carrier.name), torch.zeros_like(own)).view(own.shape)
            continue
        assert carrier.weight is not None
        compute = weight_function(carrier.weight, path)
        stored = {key: whole[key] for t in carrier.weight.stored if (key := state_key(path, t.name)) in step}

        def weight(given: State, compute=compute) -> Tensor:  # type: ignore[no-untyped-def]
            return compute({**whole, **given})

        steps = {key: step[key].view(own.shape) for key, own in stored.items()}
        found[carrier.name] = (
            torch.func.jvp(weight, (stored,), (steps,))[1] if steps else torch.zeros_like(compute(whole))
        )
    return found


def _irregular(d: Derivation, stored: Mapping[str, State]) -> frozenset[str]:
    """Return the keys of weights that are projected, or of which small steps reach more or less elsewhere.

    Inside a bound any scale is free, at the bound not all are: that is no number of the architecture.
    """
    found: set[str] = set()
    for own in constrained_weights(d.graph):
        regular = not own.weight.projections
        if own.path in stored:
            regular &= member_steps(own.weight, own.owner, stored[own.path]).shape[1] == own.free
        if not regular:
            found |= {state_key(own.owner, tensor.name) for tensor in own.weight.stored}
    return frozenset(found)
