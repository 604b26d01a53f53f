"""What is emitted for which purpose: targets x kinds of weight, a table without a hole.

The target chooses the form of the emitted text, never the graph. `KINDS` are kinds of weights: `plain`,
`binary` (a straight-through map), `sparse` (a map that sets entries to zero), `compressed` (what a mask keeps is
stored alone, as rows or as blocks). What is stored is the same for every target. A test runs every cell.
"""

from __future__ import annotations

from nnspec.compiler.ir import Graph, WeightMap, instances
from nnspec.dsl.node import Node

TARGETS = ("train", "vmap", "export", "compile", "jacobian")
KINDS = ("plain", "binary", "sparse", "compressed")


class Cell(Node):
    """How one kind of weight is emitted for one target."""

    form: str  # "module" or "function"
    weights: str  # what the operation multiplies by
    note: str = ""


_STRAIGHT = "an autograd function, run once a forward"
_MASKED = "masked dense: zeros are stored and multiplied"
_KEPT = "what is kept alone: compressed rows by an autograd function, blocks gathered and multiplied"
_FILLED = "the matrix, made once a forward of what is kept"

TABLE: dict[tuple[str, str], Cell] = {
    ("train", "plain"): Cell(form="module", weights="as stored"),
    ("train", "binary"): Cell(form="module", weights=_STRAIGHT),
    ("train", "sparse"): Cell(form="module", weights=_MASKED),
    ("vmap", "plain"): Cell(form="function", weights="as stored, stacked over networks"),
    ("vmap", "binary"): Cell(form="function", weights=_STRAIGHT, note="with a generated vmap rule"),
    ("vmap", "sparse"): Cell(form="function", weights=_MASKED, note="compressed rows have no vmap rule"),
    ("export", "plain"): Cell(form="module", weights="as stored"),
    ("export", "binary"): Cell(form="module", weights="the map alone, traced", note="for inference"),
    ("export", "sparse"): Cell(form="module", weights=_MASKED, note="compressed rows do not export"),
    ("compile", "plain"): Cell(form="module", weights="as stored"),
    ("compile", "binary"): Cell(form="module", weights=_STRAIGHT, note="without a graph break"),
    ("compile", "sparse"): Cell(form="module", weights=_MASKED),
    ("jacobian", "plain"): Cell(form="function", weights="as stored", note="both modes"),
    ("jacobian", "binary"): Cell(
        form="function", weights=_STRAIGHT, note="reverse mode; with respect to the stored weights"
    ),
    ("jacobian", "sparse"): Cell(form="function", weights=_MASKED, note="both modes"),
    ("train", "compressed"): Cell(form="module", weights=_KEPT),
    ("vmap", "compressed"): Cell(form="function", weights=_FILLED, note="compressed rows have no vmap rule"),
    ("export", "compressed"): Cell(form="module", weights=_FILLED, note="compressed rows do not export"),
    ("compile", "compressed"): Cell(form="module", weights=_FILLED, note="compressed rows break the graph"),
    ("jacobian", "compressed"): Cell(form="function", weights=_FILLED, note="both modes"),
}


def multiplies_as_stored(target: str) -> bool:
    """Return whether a target multiplies by what is stored of a compressed weight, making no matrix."""
    return TABLE[target, "compressed"].weights == _KEPT


def kinds(graph: Graph) -> tuple[str, ...]:
    """Return the kinds of weight that a typed graph has, in the order of `KINDS`."""
    found = {
        kind(item)
        for located in instances(graph.root)
        for weight in located.primitive.weights
        for item in weight.maps or (None,)
    }
    return tuple(name for name in KINDS if name in found)


def kind(item: WeightMap | None) -> str:
    """Return the kind of a weight from its map. A map with its own derivative is dense in the same way."""
    if item is None:
        return "plain"
    if item.product is not None:
        return "compressed"
    return "binary" if item.has_own_gradient else "sparse"
