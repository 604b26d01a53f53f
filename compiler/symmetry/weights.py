"""Weights that come from outside, checked against the network that they are to be of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.rewrites.hard import hard, hard_state, is_soft
from nnspec.compiler.symmetry.patterns import patterns
from nnspec.compiler.tensors import tensors
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.weights import NotNumbers, OtherTensors

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 4  # names in a message
_LARGEST = 1e100  # products of a few larger numbers overflow in double precision
_NETWORK_HELP = "choose the network and the parameters that the weights are of, with `--network` and `-p`"
_KIND_HELP = "store each tensor as the kind of number that the network has; quantized weights as the real ones they mean"
_KINDS = {
    "real": "real numbers",
    "complex": "complex numbers",
    "int": "whole numbers",
    "bool": "true or false",
}


def checked(graph: Graph, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return weights that a network has; raise RunError if they are another's, of another kind, or not finite.

    They may be `in_use` already, as canonical members are.
    """
    own = dict(tensors(hard(graph) if _is_hard(graph, state) else graph))
    wanted = {key: tuple(tensor.shape) for key, tensor in own.items()}
    given: dict[str, tuple[Any, ...]] = {key: tuple(tensor.shape) for key, tensor in state.items()}
    parts = (
        _listed("missing", [key for key in wanted if key not in given]),
        _listed("not of this network", [key for key in given if key not in wanted]),
        _listed(
            "of another shape",
            [
                f"{key} {list(given[key])} for {list(shape)}"
                for key, shape in wanted.items()
                if key in given and given[key] != shape
            ],
        ),
        _listed(
            "of another kind of number",
            [
                f"{key} {str(state[key].dtype).removeprefix('torch.')} for {_KINDS[tensor.dtype]}"
                for key, tensor in own.items()
                if key in state and _kind(state[key]) != tensor.dtype
            ],
        ),
    )
    difference = "; ".join(part for part in parts if part)
    if difference:
        help_text = _KIND_HELP if difference == parts[-1] else _NETWORK_HELP
        error = OtherTensors(None, where=where, network=graph.name, difference=difference, help=help_text)
        raise RunError(error)
    found = {key: _calculable(tensor) for key, tensor in state.items()}
    for key, tensor in found.items():
        if tensor.dtype.is_floating_point and not bool((sizes := tensor.double().abs()).le(_LARGEST).all()):
            infinite = int((~sizes.isfinite()).sum())
            count, what = (
                (infinite, "that are not finite")
                if infinite
                else (int((sizes > _LARGEST).sum()), f"beyond {_LARGEST:g}")
            )
            raise RunError(NotNumbers(None, where=where, name=key, count=count, what=what))
    return found


def in_use(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state without what is stored for learning alone.

    Weights that take few values are those values, and entries that a mask removes are zero.
    """
    import torch

    if _is_hard(graph, state):
        return dict(state)
    found = hard_state(graph, dict(state)) if is_soft(graph) else dict(state)
    for name, pattern in patterns(graph, state).items():  # what is not in use may say which entries are
        own = found.get(key := state_key(name, ""))
        if own is not None and pattern.is_mask and not pattern.weight.maps:
            kept: Any = torch.from_numpy(pattern.classes.copy())
            found[key] = own * kept.to(own)
    return found


def _is_hard(graph: Graph, state: Mapping[str, Tensor]) -> bool:
    """Whether weights of few values stand in a state as these values, without what else is stored to learn them."""
    if not is_soft(graph):
        return False
    names = {key for key, _ in tensors(hard(graph))}
    return set(state) == names != {key for key, _ in tensors(graph)}


def _kind(tensor: Tensor) -> str:
    """Return the kind of number that a tensor holds, in the words of the language."""
    if tensor.dtype.is_floating_point:
        return "real"
    if tensor.dtype.is_complex:
        return "complex"
    return "bool" if str(tensor.dtype) == "torch.bool" else "int"


def _calculable(tensor: Tensor) -> Tensor:
    """Return numbers of eight bits, with which torch does not calculate, in single precision."""
    return tensor.float() if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1 else tensor


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}" if names else ""
