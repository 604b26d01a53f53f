"""Groups of permutations given by generators: their order, random members, and the best one by keys.

A permutation is an array p that puts the entry at place p[i] in place i: keys become keys[p]. Points that
transpositions exchange make classes, which the group permutes; what keeps the order inside of classes is a
complement of all exchanges within them. It acts on classes alone, and is taken apart by a chain of stabilisers
of these in order (Sims, 1970), found from random members (Leon, 1980): a chain is complete once 40 of them in a
row are products of what it knows, which a proper subgroup passes with a chance of about 2^-40.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations as arrangements
from itertools import product
from math import lgamma, log, log10
from typing import Any, TypeAlias

Array: TypeAlias = Any  # numpy's arrays have no shapes for the type checker to see

_CERTAIN = 40  # members in a row that the chain knows
_LARGEST = 400  # classes that one chain takes apart
_POOL = 12  # members that random ones are multiplied from
_MIXED = 60  # products before the first is drawn


class PermutationGroup:
    """What some permutations of `size` points generate; less what moves too many points (`left`) to be known."""

    def __init__(self, generators: Iterable[Array], size: int) -> None:
        import numpy as np

        self.size = size
        self.generators: list[Array] = [np.asarray(one) for one in generators]
        self.classes = _classes(self.generators, size)
        self.class_of = np.zeros(size, dtype=np.int64)
        for number, own in enumerate(self.classes):
            self.class_of[own] = number
        first = np.array([own[0] for own in self.classes], dtype=np.int64)
        self.chains: list[Chain] = []
        self.left = 0
        for points, own in _apart([self.class_of[one[first]] for one in self.generators]):
            if len(points) <= _LARGEST:
                self.chains.append(Chain(points, own))
            else:
                self.left += sum(len(self.classes[point]) for point in points)

    @property
    def log10_order(self) -> float:
        inside = sum(lgamma(len(own) + 1) / log(10) for own in self.classes)
        return inside + sum(chain.log10_order for chain in self.chains)

    def orbits(self) -> Array:
        """Return for each point a number that its orbit shares, in order of appearance."""
        import numpy as np

        first = _united([np.stack((np.arange(self.size), one)) for one in self.generators], self.size)
        return np.unique(first, return_inverse=True)[1]

    def best(self, keys: Array) -> Array:
        """Return the member that makes keys largest: one and the same result for all keys of an orbit."""
        import numpy as np

        inside = np.arange(self.size)
        for own in self.classes:
            inside[own] = own[np.argsort(-keys[own], kind="stable")]
        leading = np.array([keys[inside[own[0]]] for own in self.classes])
        return inside[self._of_classes((chain, chain.best(leading[chain.points])) for chain in self.chains)]

    def drawn(self, random: Any) -> Array:
        """Return a member drawn uniformly by a generator of numpy."""
        import numpy as np

        inside = np.arange(self.size)
        for own in self.classes:
            inside[own] = random.permutation(own)
        return inside[self._of_classes((chain, chain.drawn(random)) for chain in self.chains)]

    def apart(self) -> Iterator[Array]:
        """Yield members of which, with exchanges within classes, all others are products."""
        for chain in self.chains:
            for found in chain.near():
                yield self._of_classes([(chain, found)])

    def members(self) -> Iterator[Array]:
        """Yield every member."""
        import numpy as np

        inside = [list(arrangements(own)) for own in self.classes]
        for orders in product(*inside):
            member = np.arange(self.size)
            for own, order in zip(self.classes, orders, strict=True):
                member[own] = order
            for found in product(*(list(chain.members()) for chain in self.chains)):
                yield member[self._of_classes(zip(self.chains, found, strict=True))]

    def _of_classes(self, found: Iterable[tuple[Chain, Array]]) -> Array:
        """Return what permutes classes so, and keeps the order inside of each."""
        import numpy as np

        member = np.arange(self.size)
        for chain, own in found:
            for new, old in zip(chain.points, chain.points[own], strict=True):
                member[self.classes[new]] = self.classes[old]
        return member


class _Level:
    """The stabiliser of all points before one: what takes that point to the points of its orbit."""

    def __init__(self, point: int, size: int) -> None:
        import numpy as np

        self.reached: dict[int, Array] = {point: np.arange(size)}

    def spread(self, generators: list[Array]) -> None:
        """Reach what generators reach, of which the last one is new."""
        waiting = [(here, generators[-1:]) for here in self.reached]
        while waiting:
            here, own = waiting.pop()
            for one in own:
                there = int(one[here])
                if there not in self.reached:
                    self.reached[there] = one[self.reached[here]]
                    waiting.append((there, generators))


class Chain:
    """A group on some points by its chain of stabilisers; its members are permutations of the places of these."""

    def __init__(self, points: Array, generators: list[Array]) -> None:
        self.points = points
        self.levels: dict[int, _Level] = {}
        self.strong: list[tuple[int, Array]] = []  # with the first point that each moves
        for one in generators:
            self._learn(one)
        random, known = _Products(generators), 0
        while known < _CERTAIN:
            known = 0 if self._learn(random.following()) else known + 1

    def _learn(self, given: Array) -> bool:
        """Extend the chain by a permutation; whether it was not a product of what is known."""
        import numpy as np

        rest = given
        for point in range(len(rest)):
            there = int(rest[point])
            if there != point:
                level = self.levels.setdefault(point, _Level(point, len(rest)))
                if there not in level.reached:
                    self._extend(rest, point)
                    return True
                rest = np.argsort(level.reached[there])[rest]
        return False

    def _extend(self, found: Array, point: int) -> None:
        """Add a permutation that moves `point` and none before it."""
        self.strong.append((point, found))
        for place, level in self.levels.items():
            if place <= point:
                level.spread([one for first, one in self.strong if first >= place])

    @property
    def log10_order(self) -> float:
        return sum(log10(len(level.reached)) for level in self.levels.values())

    def _descent(self) -> list[_Level]:
        return [self.levels[point] for point in sorted(self.levels)]

    def best(self, keys: Array) -> Array:
        import numpy as np

        found = np.arange(len(keys))
        for level in self._descent():
            largest = max(level.reached, key=lambda point: (keys[found[point]], -point))
            found = found[level.reached[largest]]
        return found

    def drawn(self, random: Any) -> Array:
        import numpy as np

        found = np.arange(len(self.points))
        for level in self._descent():
            choices = list(level.reached.values())
            found = found[choices[int(random.integers(len(choices)))]]
        return found

    def near(self) -> Iterator[Array]:
        for point, level in self.levels.items():
            yield from (one for there, one in level.reached.items() if there != point)

    def members(self) -> Iterator[Array]:
        import numpy as np

        for chosen in product(*(level.reached.values() for level in self._descent())):
            found = np.arange(len(self.points))
            for one in chosen:
                found = found[one]
            yield found


class _Products:
    """Random members by product replacement (Celler, Leedham-Green, Murray, Niemeyer and O'Brien, 1995)."""

    def __init__(self, generators: list[Array]) -> None:
        import numpy as np

        self.random: Any = np.random.default_rng(0)
        self.pool = [generators[place % len(generators)] for place in range(max(_POOL, len(generators)))]
        self.product = generators[0]
        for _ in range(_MIXED):
            self.following()

    def following(self) -> Array:
        import numpy as np

        one, other = self.random.choice(len(self.pool), 2, replace=False)
        factor = self.pool[other] if self.random.integers(2) else np.argsort(self.pool[other])
        self.pool[one] = self.pool[one][factor] if self.random.integers(2) else factor[self.pool[one]]
        self.product = self.product[self.pool[one]]
        return self.product


def _classes(generators: list[Array], size: int) -> list[Array]:
    """Return the points in classes that transpositions join, of generators and of what is conjugate to these."""
    import numpy as np

    moved = [np.flatnonzero(one != np.arange(size)) for one in generators]
    pairs = [own[:, None] for own in moved if len(own) == 2]
    first = _united(pairs, size)
    while pairs:
        # Where i and j are of one class, p[i] and p[j] are of one too.
        joined = _united([*(np.stack((one, one[first])) for one in generators), *pairs], size, first)
        if (joined == first).all():
            break
        first = joined
    _, number = np.unique(first, return_inverse=True)
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _united(pairs: list[Array], size: int, start: Array | None = None) -> Array:
    """Return for each point the first one that pairs [2, count] join it to."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = [*pairs, *([] if start is None else [np.stack((np.arange(size), start))])]
    one, other = np.concatenate([np.zeros((2, 0), dtype=np.int64), *own], axis=1)
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(size, size))
    found = connected_components(graph, directed=False)[1]
    return np.unique(found, return_index=True)[1][found]


def _apart(generators: list[Array]) -> Iterator[tuple[Array, list[Array]]]:
    """Yield points that generators join, with what these generators do to the places of the points."""
    import numpy as np

    if not generators:
        return
    here = np.arange(len(generators[0]))
    moved = [np.flatnonzero(one != here) for one in generators]
    joined = _united([np.stack((own, np.full(len(own), own[0]))) for own in moved if len(own)], len(here))
    for first in sorted({int(joined[own[0]]) for own in moved if len(own)}):
        points = np.flatnonzero(joined == first)
        own = [
            one
            for one, places in zip(generators, moved, strict=True)
            if len(places) and joined[places[0]] == first
        ]
        yield points, [np.searchsorted(points, one[points]) for one in own]
