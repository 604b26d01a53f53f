"""Networks of units: functions of entries joined by linear maps, as a theorem about any connectivity speaks of them.

In: a derivation. Out: `Units`, or in words why the network is none. What stands between two layers of units
(streams, sums, maps in a row) is known to the function as one composite map alone: each unit reads the inputs and
units before it. On weights the composites say which units break a genericity condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import lgamma, log
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.relations import Contract, Elementwise, Move, Sum
from nnspec.compiler.symmetry.chain import Layer, layer_of
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.patterns import patterns
from nnspec.compiler.symmetry.places import key_of
from nnspec.compiler.symmetry.relate import Stated
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = Any
Composite: TypeAlias = dict[str, Array]  # [entries, size of the source], by source; "" is the number 1

_ZERO = 1e-12  # of the largest entry of a composite map
_EQUAL = 1e-9  # relative, of rows that count as equal


class UnitLayer(Node):
    """Units that one function makes of a vector: the path of the map before it, if one made it, and its depth."""

    path: str
    reads: str  # the tensor that the function takes
    made: str
    size: int
    depth: int  # how many layers of units lie on the longest way to it, itself included
    function: Elementwise


class Units:
    """A network of units. `masks` are those of weights, as 0 and 1."""

    def __init__(
        self, d: Derivation, layers: list[UnitLayer], steps: list[tuple[Stated, Layer | None]]
    ) -> None:
        self.d = d
        self.layers = layers
        self.steps = steps
        self.maps = [layer for _, layer in steps if layer is not None]
        self.masks = {
            name: pattern.classes
            for name, pattern in patterns(d.graph).items()
            if any(layer.weight == name for layer in self.maps)
        }

    @property
    def is_chain(self) -> bool:
        """Whether maps and functions of entries stand in turn."""
        kinds = [type(stated.relation) for stated, _ in self.steps if not isinstance(stated.relation, Move)]
        wanted = [Contract, Elementwise] * len(self.layers) + [Contract]
        return kinds == wanted and [layer.depth for layer in self.layers] == list(
            range(1, len(self.layers) + 1)
        )

    def log10_permutations(self) -> float:
        """Return how many permutations of units may keep all composites: within a depth, or those that keep masks."""
        if not self.masks:
            depths = [layer.depth for layer in self.layers]
            sizes = [sum(la.size for la in self.layers if la.depth == depth) for depth in sorted(set(depths))]
            return sum(lgamma(size + 1) for size in sizes) / log(10)
        touched = {
            layer.made
            for place, layer in enumerate(self.layers)
            if any(one.weight in self.masks for one in self.maps[place : place + 2])
        }
        free = sum(lgamma(layer.size + 1) for layer in self.layers if layer.made not in touched) / log(10)
        return free + (0.0 if self.d.neurons is None else self.d.neurons.log10_upper)

    def masked_off(self) -> str | None:
        """Name a unit that a mask leaves without incoming or without outgoing weights."""
        for layer in self.maps:
            if layer.weight in self.masks:
                kept = self.masks[layer.weight] != 0
                if layer is not self.maps[-1] and not kept.any(1).all():
                    return (
                        f"unit {int(kept.any(1).argmin())} of `{layer.path}` reads nothing through its mask"
                    )
                if layer is not self.maps[0] and not kept.any(0).all():
                    return f"the mask of `{layer.path}` reads nothing of unit {int(kept.any(0).argmin())} before it"
        return None

    # ------------------------------------------------------------------------------------------- on weights

    def violated(self, state: Mapping[str, Tensor]) -> list[str]:
        """Name units that are cut off, alike up to sign, or nearer to the inputs than they would be by structure."""
        import numpy as np

        known = self.composites(state)
        read = [known[layer.reads] for layer in self.layers] + [known[self.d.related.outputs[0]]]
        found: list[str] = []
        depths: dict[str, Array] = {name: np.zeros(1) for name in self.d.related.inputs}
        for layer, own in zip(self.layers, read, strict=False):
            parts = {name: _nonzero(part, own) for name, part in own.items() if name}
            silent = ~np.any([part.any(1) for part in parts.values()], axis=0)
            heard = np.any(
                [_nonzero(one[layer.made], one).any(0) for one in read if layer.made in one], axis=0
            )
            found += [f"unit {u} of `{layer.path}` has no incoming weights" for u in np.flatnonzero(silent)]
            found += [f"unit {u} of `{layer.path}` has no outgoing weights" for u in np.flatnonzero(~heard)]
            found += _alike(layer, np.concatenate([own[name] for name in sorted(own)], axis=1))
            reached = [
                np.where(part, 1 + depths.get(name, np.zeros(1)), 0).max(axis=1)
                for name, part in parts.items()
            ]
            depths[layer.made] = np.max(reached, axis=0)
            near = np.flatnonzero((depths[layer.made] < layer.depth) & ~silent)
            found += [f"unit {u} of `{layer.path}` reads no unit of the layer before it" for u in near]
        return found

    def composites(self, state: Mapping[str, Tensor]) -> dict[str, Composite]:
        """Return what each vector is of inputs, units and the number 1."""
        import numpy as np

        def array(name: str) -> Array:
            own = state[key_of(name)].detach().cpu().double().numpy()
            return own * (self.masks[name] != 0) if name in self.masks else own

        start = self.maps[0]
        values: dict[str, Composite] = {}
        for stated, layer in self.steps:
            relation = stated.relation
            if isinstance(relation, Move):
                continue
            if isinstance(relation, Elementwise):
                made = relation.output.tensor
                values[made] = {made: np.eye(self.sizes[made])}
            elif isinstance(relation, Sum):
                total: Composite = {}
                for term, factor in zip(relation.terms, relation.coefficients, strict=True):
                    for name, part in self._value(values, term.tensor, start).items():
                        total[name] = total.get(name, 0) + factor * part
                values[relation.output.tensor] = total
            elif isinstance(relation, Contract) and layer is not None:
                live = next(t.tensor for t in relation.terms if self.d.related.carriers[t.tensor].live)
                weight = array(layer.weight)
                found = {name: weight @ part for name, part in self._value(values, live, start).items()}
                if layer.bias is not None:
                    found[""] = found.get("", 0) + array(layer.bias)[:, None]
                values[relation.output.tensor] = found
        return values

    @property
    def sizes(self) -> dict[str, int]:
        return {layer.made: layer.size for layer in self.layers}

    def _value(self, values: Mapping[str, Composite], tensor: str, start: Layer) -> Composite:
        import numpy as np

        return values[tensor] if tensor in values else {self.d.related.inputs[0]: np.eye(start.inputs)}


def units_of(d: Derivation) -> Units | str:
    """Return a network as units joined by linear maps, or why it is none."""
    related = d.related
    if related.loops:
        return "its states settle in a loop"
    if len(related.inputs) != 1 or len(related.outputs) != 1:
        return "it has several inputs or outputs"
    masks = {name for name, p in patterns(d.graph).items() if p.is_mask and not p.weight.maps}
    depths, paths = {related.inputs[0]: 0}, dict[str, str]()
    layers: list[UnitLayer] = []
    steps: list[tuple[Stated, Layer | None]] = []
    for stated in related.stated:
        relation, layer = stated.relation, None
        if isinstance(relation, Move) and relation.input == related.inputs[0] and not layers:
            depths[relation.output] = 0  # inputs laid out anew
        elif isinstance(relation, Move) and not related.carriers[relation.input].live:
            continue  # a weight read another way, which the layer that reads it will be refused for
        elif isinstance(relation, Contract):
            live = next((t.tensor for t in relation.terms if related.carriers[t.tensor].live), "")
            layer = layer_of(related, stated, relation, live, masks)
            if isinstance(layer, str):
                return layer
            if live not in depths:
                return f"`{stated.use.path}` reads what no layer or function of a vector made"
            depths[relation.output.tensor], paths[relation.output.tensor] = depths[live], layer.path
        elif isinstance(relation, Sum) and all(
            t.tensor in depths and t.labels == relation.output.labels for t in relation.terms
        ):
            depths[relation.output.tensor] = max(depths[t.tensor] for t in relation.terms)
            paths[relation.output.tensor] = stated.use.path
        elif (
            isinstance(relation, Elementwise)
            and len(relation.terms) == 1
            and relation.terms[0].tensor in depths
            and not isinstance(relation.output, str)
        ):
            (term,), made = relation.terms, relation.output.tensor
            shape = related.carriers[made].shape
            if len(shape) != 1 or not isinstance(shape[0], int):
                return f"`{stated.use.path}` is no function of a vector"
            depths[made] = depths[term.tensor] + 1
            layers.append(
                UnitLayer(
                    path=paths.get(term.tensor, stated.use.path),
                    reads=term.tensor,
                    made=made,
                    size=shape[0],
                    depth=depths[made],
                    function=relation,
                )
            )
        else:
            return f"`{stated.use.path}` is neither a linear map, nor a sum, nor a function of one vector"
        steps.append((stated, layer))
    found = Units(d, layers, steps)
    weights = [layer.weight for layer in found.maps]
    if not layers or not found.maps or layers[-1].made == related.outputs[0]:
        return "a function stands behind the last layer"
    return "a weight is used twice" if len(set(weights)) < len(weights) else found


def _nonzero(part: Array, whole: Composite) -> Array:
    """Return which entries of a composite map are more than rounding."""
    return abs(part) > _ZERO * max(1e-300, *(float(abs(one).max()) for one in whole.values()))


def _alike(layer: UnitLayer, rows: Array) -> list[str]:
    """Name units that read the same up to sign; rows that are equal have equal shadows on a random vector."""
    import numpy as np

    shadow = rows @ np.random.default_rng(0).normal(size=rows.shape[1])
    rows = rows * np.sign(shadow)[:, None]
    order = np.argsort(abs(shadow))
    pairs = [sorted(pair) for pair in zip(order.tolist(), order[1:].tolist(), strict=False)]
    return [
        f"units {one} and {other} of `{layer.path}` are equal up to sign"
        for one, other in pairs
        if np.linalg.norm(rows[one] - rows[other]) <= _EQUAL * np.linalg.norm(rows[one])
    ]
