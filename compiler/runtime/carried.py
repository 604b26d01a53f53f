"""A network's weights as another training of it left them, under the constraints that it stands under now.

In: the graph that was trained and the state that it ended with, and the graph that begins. Out: the stored
tensors of the latter. A weight that stands under all constraints that it stood under takes over what was
stored; what further constraints store is made from it, as from an initial weight. Any other weight begins
from the one in use there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from nnspec.compiler.ir import Graph, Weight, instances, state_key
from nnspec.compiler.operations.registry import operation

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]


def carried(
    there: Graph, here: Graph, state: Mapping[str, Tensor], paths: Mapping[str, str] | None = None
) -> State:
    """Return the tensors with which `here` begins, from the state of `there`.

    With `paths`, those of the instances that it names, each as the instance at another path there.
    """
    import torch

    trained = {(found.path, w.name): w for found in instances(there.root) for w in found.primitive.weights}
    begun: State = {}
    with torch.no_grad():
        for found in instances(here.root):
            if operation(found.primitive.operation).tracks:  # no weight: training sets it
                continue
            source = found.path if paths is None else paths.get(found.path)
            for weight in found.primitive.weights:
                if weight.stored and source is not None:
                    other = trained[source, weight.name]
                    own = _renamed(other, source, found.path, state)
                    begun |= _weight(weight, other, found.path, own)
    return begun


def _renamed(weight: Weight, source: str, path: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state in which what a weight stores stands under another path."""
    if source == path:
        return state
    names = [tensor.name for tensor in weight.stored]
    found = {state_key(path, name): state.get(state_key(source, name)) for name in names}
    return {key: tensor for key, tensor in found.items() if tensor is not None}


def still_removed(
    here: Graph,
    state: Mapping[str, Tensor],
    removed: Mapping[str, Tensor],
    paths: Mapping[str, str] | None = None,
) -> State:
    """Return the masks of pruned entries that are 0 in the weights which `here` begins with."""
    from nnspec.compiler.emit.load import effective_weight

    kept: State = {}
    for found in instances(here.root):
        for weight in found.primitive.weights:
            source = found.path if paths is None else paths.get(found.path)
            mask = None if source is None else removed.get(state_key(source, weight.name))
            own = any(tensor.name == weight.name and tensor.kind == "learned" for tensor in weight.stored)
            if own and mask is not None and not effective_weight(weight, found.path, state)[mask].any():
                kept[state_key(found.path, weight.name)] = mask
    return kept


def _weight(weight: Weight, other: Weight, path: str, state: Mapping[str, Tensor]) -> State:
    """Return the stored tensors of one weight; `other` is the same weight where it was trained."""
    from nnspec.compiler.emit.load import code_function, effective_weight, weight_function

    main = state_key(path, weight.name)
    known = other.maps if all(item in weight.maps for item in other.maps) else ()
    own = {key: state[key] for t in other.stored if (key := state_key(path, t.name)) in state}
    if not known and other.maps:
        own = {}
    if main not in own:
        own[main] = effective_weight(other, path, state)
    for index, item in enumerate(weight.maps):
        if item in known or item.start is None:
            continue
        before = weight_function(weight.replace(maps=weight.maps[:index]), path)(own)
        made = code_function(item.start)(before)
        values = (made,) if len(item.stored) == 1 else cast("tuple[Tensor, ...]", made)
        own |= {state_key(path, t.name): value for t, value in zip(item.stored, values, strict=True)}
    names = {state_key(path, tensor.name) for tensor in weight.stored}
    return {key: value for key, value in own.items() if key in names}
