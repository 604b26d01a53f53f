"""Weights that come from outside, checked against the network that they are to be of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.hard import hard_state, is_soft
from nnspec.compiler.tensors import tensors
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.weights import NotNumbers, OtherTensors

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 4  # names in a message


def checked(graph: Graph, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return weights that a network has; raise RunError if they are another's, or not finite."""
    wanted = {key: tuple(tensor.shape) for key, tensor in tensors(graph)}
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
    )
    difference = "; ".join(part for part in parts if part)
    if difference:
        raise RunError(OtherTensors(None, where=where, network=graph.name, difference=difference))
    for key, tensor in state.items():
        if tensor.dtype.is_floating_point and not bool(tensor.isfinite().all()):
            count = int((~tensor.isfinite()).sum())
            raise RunError(NotNumbers(None, where=where, name=key, count=count))
    return dict(state)


def in_use(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state in which weights that take few values are those values, not what is stored for learning."""
    return hard_state(graph, dict(state)) if is_soft(graph) else dict(state)


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}" if names else ""
