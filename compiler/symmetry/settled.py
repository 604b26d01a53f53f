"""Units that settle in a loop: h = f(W h + U x + b) at rest, and y = C h + D x + d, as a theorem on such states speaks of them.

In: a derivation. Out: `SettledUnits`, or in words why the network is none. On weights the maps U, W and C say which units
break the theorem's conditions, which are those of docs/settled.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log10
from typing import TYPE_CHECKING, Any

from nnspec.compiler.relations import Elementwise
from nnspec.compiler.symmetry.affine import Affine, Array, Composite, is_vector
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.patterns import patterns
from nnspec.compiler.symmetry.places import key_of
from nnspec.compiler.symmetry.relate import Settling, terms_of
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

Weights = Callable[[str], Array]  # a weight by the name of its carrier, as an array

FEWEST_STEPS = 4  # so many plain steps and rest agree in all powers that the theorem reads
FEWEST_INPUTS = 3
_ZERO = 1e-12  # of the largest entry of a map
_PLANE = 1e-11  # between directions of length 1, of three rows that count as in one plane


class Maps(Node):
    """What the units are at some weights: U [units, inputs], W [units, units], b [units], C [outputs, units]."""

    drive: Array
    recurrent: Array
    bias: Array
    read: Array
    shift: Array  # d [outputs]


class SettledUnits:
    """The units of all states of a loop, in one order. `functions` are those of the states."""

    def __init__(self, d: Derivation, loop: Settling) -> None:
        self.d = d
        self.loop = loop
        self.masks = {name: p.classes != 0 for name, p in patterns(d.graph).items() if p.is_mask}
        self.functions: list[Elementwise] = []
        self.sizes = [vector_size(d, name) for name in loop.before]
        self.names = [
            f"unit {unit} of `{name}`"
            for name, size in zip(loop.shown, self.sizes, strict=True)
            for unit in range(size)
        ]

    # ---------------------------------------------------------------------------------------- what the units are

    def maps(self, weights: Weights) -> Maps | str:
        """Return what the units are at some weights, or why the network is nothing but such units."""
        affine = Affine(self.d.related, lambda name: weights(name) * self.masks.get(name, 1))
        drives = self._followed(affine)
        if isinstance(drives, str):
            return drives
        rest = [self._at_rest(affine, drives, place) for place in range(len(self.sizes))]
        own = [drive for drive in rest if drive is not None]
        if len(own) < len(rest) or len(drives) > len(own):
            return "its states are no functions of linear maps of states and inputs where they rest"
        read = affine.known.get(self.d.related.outputs[0])
        if read is None:
            return "its output is no vector"
        sources = {source for part in (*own, read) for source in part} - {*self.loop.before, ""}
        if len(sources) > 1 or sources & set(drives):
            return "functions stand before or behind the loop"
        if not sources:
            return "no input drives its states"
        (given,) = sources
        return self._joined(affine, own, read, given)

    def _followed(self, affine: Affine) -> dict[str, Composite] | str:
        """Follow all relations; return what each function of entries takes, by what it makes."""
        related, loop = self.d.related, self.loop
        for name in (*related.inputs, *loop.before):
            if is_vector(related.carriers[name]):
                affine.begin(name)
        drives: dict[str, Composite] = {}
        self.functions = []
        for stated in related.stated:
            relation = stated.relation
            made = [term.tensor for term in terms_of(relation)][-1:]
            if made and made[0] in loop.results:  # what a step ties to the states is looked at by itself
                affine.known[made[0]] = affine.known[loop.before[loop.results.index(made[0])]]
            elif isinstance(relation, Elementwise) and (taken := _taken(affine, relation)) is not None:
                drives[made[0]] = taken
                affine.begin(made[0])
                self.functions.append(relation)
            elif not affine.follow(relation):
                return f"`{stated.use.path}` is neither a linear map, nor a sum, nor a function of one vector"
        return drives

    def _at_rest(self, affine: Affine, drives: Mapping[str, Composite], place: int) -> Composite | None:
        """Return W h + U x + b of one state: it rests where it is f of that and nothing else."""
        import numpy as np

        before = self.loop.before[place]
        after = affine.known.get(self.loop.after[place], {})
        made = [name for name in after if name in drives]
        if len(made) != 1 or {*after} - {made[0], before}:
            return None
        one = np.eye(self.sizes[place])
        rate = after[made[0]][0, 0] if self.loop.form == "flow" else 1.0
        wanted = {made[0]: rate * one} | ({before: -rate * one} if self.loop.form == "flow" else {})
        alike = all(np.array_equal(after.get(name, 0 * one), part) for name, part in wanted.items())
        return drives[made[0]] if alike and rate > 0 and {*after} == {*wanted} else None

    def _joined(self, affine: Affine, own: list[Composite], read: Composite, given: str) -> Maps:
        import numpy as np

        def rows(source: str, width: int) -> Array:
            return np.concatenate(
                [
                    part.get(source, np.zeros((size, width)))
                    for part, size in zip(own, self.sizes, strict=True)
                ]
            )

        outputs = affine.size(self.d.related.outputs[0])
        states = list(zip(self.loop.before, self.sizes, strict=True))
        return Maps(
            drive=rows(given, affine.size(given)),
            recurrent=np.concatenate([rows(name, size) for name, size in states], axis=1),
            bias=rows("", 1)[:, 0],
            shift=read.get("", np.zeros((outputs, 1)))[:, 0],
            read=np.concatenate([read.get(name, np.zeros((outputs, size))) for name, size in states], axis=1),
        )

    # ------------------------------------------------------------------------------------- what the theorem asks

    def lacks(self) -> str | None:
        """Return what generic weights of the network lack to be covered, None if nothing."""
        first, second = (self.maps(self.drawn(seed)) for seed in range(2))
        if isinstance(first, str) or isinstance(second, str):
            return first if isinstance(first, str) else "its maps are not known"
        if first.drive.shape[1] < FEWEST_INPUTS:
            return f"its states are driven by fewer than {FEWEST_INPUTS} numbers"
        if ((first.recurrent == second.recurrent) & (first.recurrent != 0)).any():
            return "some connections between its units do not learn"
        return next(iter(violated(first, self.names)), None)

    @property
    def biased(self) -> bool:
        """Whether each unit and each output has a bias that learns."""
        first, second = self.maps(self.drawn(0)), self.maps(self.drawn(1))
        if isinstance(first, str) or isinstance(second, str):
            return False
        return bool((first.bias != second.bias).all() and (first.shift != second.shift).all())

    def drawn(self, seed: int) -> Weights:
        """Return weights that are random, the same whenever they are asked for."""
        import numpy as np

        random = np.random.default_rng(seed)
        known: dict[str, Array] = {}

        def weights(name: str) -> Array:
            if name not in known:
                shape = self.d.related.carriers[name].shape
                known[name] = random.normal(size=[size for size in shape if isinstance(size, int)])
            return known[name]

        return weights

    def violated(self, state: Mapping[str, Tensor]) -> list[str]:
        """Say where weights break the theorem's conditions."""
        found = self.maps(lambda name: state[key_of(name)].detach().cpu().double().numpy())
        return [found] if isinstance(found, str) else violated(found, self.names)

    def log10_order(self) -> float:
        """Return how many signed permutations of units may keep what the maps are for all weights.

        A unit that meets a number which does not learn keeps its sign, and changes places with its like alone.
        """
        first, second = (self.maps(self.drawn(seed)) for seed in range(2))
        if isinstance(first, str) or isinstance(second, str):
            raise TypeError("they are not known to be such units")
        from nnspec.compiler.symmetry.automorphisms import automorphisms

        graph, free = _coloured(first, second)
        return automorphisms(graph).log10_upper + free * log10(2)


def _taken(affine: Affine, relation: Elementwise) -> Composite | None:
    """Return what a function of one known vector takes."""
    return affine.known.get(relation.terms[0].tensor) if len(relation.terms) == 1 else None


def settled_units(d: Derivation) -> SettledUnits | str:
    """Return a network as units that settle, or why it is none."""
    related = d.related
    if not related.loops:
        return "no states settle in it"
    loop, *others = related.loops
    if others or len(related.inputs) != 1 or len(related.outputs) != 1:
        return "it has several loops, inputs or outputs"
    if loop.is_clipped:
        return "its states are kept between two numbers"
    if loop.steps < FEWEST_STEPS:
        return f"its states take fewer than {FEWEST_STEPS} steps"
    if not all(is_vector(related.carriers[name]) for name in loop.before):
        return "its states are no vectors"
    found = SettledUnits(d, loop)
    for carrier in related.carriers.values():
        if carrier.kind == "weight" and not (carrier.is_free or carrier.name in found.masks):
            names = " & ".join(carrier.action.names) if carrier.action is not None else ""
            return f"`{carrier.name}` is not free" + (f" ({names})" if names else "")
    return found.lacks() or found


def vector_size(d: Derivation, name: str) -> int:
    (size,) = d.related.carriers[name].shape
    if not isinstance(size, int):
        raise TypeError(f"the size of {name} is not known")
    return size


def violated(maps: Maps, names: list[str]) -> list[str]:
    """Say which units no input drives, which are driven along one line or plane, and which units no output hears of."""
    found = [f"no input drives {names[u]}" for u in (~_nonzero(maps.drive).any(1)).nonzero()[0]]
    if not found:
        units = _one_plane(maps.drive)
        where = "on one line" if len(units) == 2 else "in one plane"
        found += [f"what drives {', '.join(names[u] for u in units)} lies {where}"] if units else []
    read = _nonzero(maps.read).any(0)
    if not read.any():
        return [*found, "the output reads no unit"]
    heard = _nonzero(maps.recurrent)[read].all(0) | read
    found += [
        f"{names[u]} is not read by the output, nor by all units that are" for u in (~heard).nonzero()[0]
    ]
    return found


def _nonzero(given: Array) -> Array:
    return abs(given) > _ZERO * max(1e-300, float(abs(given).max(initial=0)))


def _one_plane(rows: Array) -> tuple[int, ...]:
    """Return two units, or three, whose rows are dependent: the first such, () if there are none.

    Rows that are independent in a projection to three dimensions are so; a random one loses none, but for bad luck.
    """
    import numpy as np

    shadows = rows @ np.random.default_rng(0).normal(size=(rows.shape[1], 3))
    shadows = shadows / np.linalg.norm(shadows, axis=1, keepdims=True)
    three: tuple[int, ...] = ()
    for unit, own in enumerate(shadows):
        across = np.linalg.svd(own[None])[2][1:]  # two directions at right angles to it
        flat = shadows[unit + 1 :] @ across.T
        parallel = np.flatnonzero(np.hypot(*flat.T) < _PLANE)
        if parallel.size:
            return unit, unit + 1 + int(parallel[0])
        angles = np.arctan2(flat[:, 1], flat[:, 0]) % np.pi
        order = angles.argsort()
        gaps = np.diff(angles[order], append=angles[order[:1]] + np.pi)
        if len(order) > 1 and gaps.min() < _PLANE and not three:
            place = int(gaps.argmin())
            pair = (order[place], order[(place + 1) % len(order)])
            three = (unit, *sorted(unit + 1 + int(other) for other in pair))
    return three


def _coloured(first: Maps, second: Maps) -> tuple[Any, int]:
    """Return the units as a coloured graph, whose automorphisms keep what does not learn, and how many may flip."""
    import numpy as np

    from nnspec.compiler.symmetry.refinement import ColouredGraph

    columns: list[Array] = [np.diag(first.recurrent)[:, None] != 0]
    still = np.zeros(len(first.bias), dtype=bool)
    for one, other in (
        (first.drive, second.drive),
        (first.bias[:, None], second.bias[:, None]),
        (first.read.T, second.read.T),
    ):
        fixed = one == other
        columns.append(np.where(fixed, one, np.inf))
        still |= (fixed & (one != 0)).any(1)
    kinds = np.concatenate(columns, axis=1)
    colours = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    targets, sources = (first.recurrent != 0).nonzero()
    labels = np.zeros(len(sources), dtype=int)
    return ColouredGraph(colours, sources, targets, labels), int((~still).sum())
