"""What is left of a network whose weights were pruned: the same network with a mask on each weight that lost entries.

In: a typed graph, and which entries of some weights there are. Out: a graph in which masks say so, instead of masks that
they had before; what asks for a network's pattern (its symmetry group, a picture) then sees what survived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.mask import Mask, MaskFile
from nnspec.compiler.ir import Constraint, Graph, Primitive, Weight, weight_path

if TYPE_CHECKING:
    import numpy as np

_NAME = "what survives"


def survivors(graph: Graph, entries: Mapping[str, np.ndarray[Any, Any]]) -> Graph:
    """Return the network in which weights of the root's own instances, by path, have these entries (truth values)."""
    children = tuple(
        child.replace(
            instances=tuple(
                _masked(one, child.name, entries) if isinstance(one, Primitive) else one
                for one in child.instances
            )
        )
        for child in graph.root.children
    )
    return graph.replace(root=graph.root.replace(children=children))


def _masked(primitive: Primitive, path: str, entries: Mapping[str, np.ndarray[Any, Any]]) -> Primitive:
    for weight in primitive.weights:
        there = entries.get(weight_path(path, weight.name))
        if there is not None:
            primitive = _with_mask(primitive, weight, there)
    return primitive


def _with_mask(primitive: Primitive, weight: Weight, there: np.ndarray[Any, Any]) -> Primitive:
    before = {c.rule.name for c in primitive.constraints if _is_topology(c, weight)}
    made = MaskFile(path=_NAME, shape=there.shape, entries=there.astype("uint8").tobytes())
    options = (("entries", made),)
    site = WeightSite(name=weight.name, shape=weight.shape, options=dict(options))
    part = Mask().part(site, None)
    others = tuple(item for item in weight.maps if item.name not in before)
    gone = {tensor.name for item in weight.maps if item.name in before for tensor in item.stored}
    stored = tuple(tensor for tensor in weight.stored if tensor.name not in gone)
    changed = weight.replace(maps=(*others, part), stored=(*stored, *part.stored))
    kept = tuple(c for c in primitive.constraints if not _is_topology(c, weight))
    return primitive.replace(
        constraints=(*kept, Constraint(weight=weight.name, rule=Mask(), options=options)),
        weights=tuple(changed if own is weight else own for own in primitive.weights),
    )


def _is_topology(constraint: Constraint, weight: Weight) -> bool:
    return constraint.weight == weight.name and constraint.rule.kind == "topology"
