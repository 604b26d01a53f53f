"""Finite groups of permutations, given by generators: the words of `equivariant(cyclic(8))`.

A permutation of n positions is a tuple p in which position k goes to p[k].
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import Misfit
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.node import Node

MOST_POINTS = 1024

Permutation = tuple[int, ...]


class Generated(Node):
    """A group in use: as it is written, and permutations of which every element is a product."""

    text: str
    generators: tuple[Permutation, ...]

    def __repr__(self) -> str:
        return self.text


class Group(Node):
    """A word for a family of groups, one for each number of positions."""

    name: str
    doc: str

    def entry(self) -> Entry:
        """Return the catalog entry."""
        points = Argument(name="points", kind="int", doc="how many positions it moves", at_least=2)
        return Entry(name=self.name, family="group", doc=self.doc, arguments=(points,))

    def generators(self, points: int) -> tuple[Permutation, ...]:
        """Return permutations of which every other one is a product."""
        turn = (*range(1, points), 0)
        mirror = tuple(reversed(range(points)))
        exchange = (1, 0, *range(2, points))
        return {
            "cyclic": (turn,),
            "dihedral": (turn, mirror),
            "symmetric": (turn, exchange),
            "reflection": (mirror,),
        }[self.name]


_GROUPS = (
    Group(name="cyclic", doc="The turns of a ring: position k goes to k + 1, and so on around."),
    Group(name="dihedral", doc="The turns and mirrorings of a ring."),
    Group(name="symmetric", doc="All permutations."),
    Group(name="reflection", doc="The identity, and the order reversed."),
)


def groups() -> tuple[Group, ...]:
    """Return the groups that have a word."""
    return _GROUPS


def group(name: str) -> Group | None:
    """Return the group of a word."""
    return next((found for found in _GROUPS if found.name == name), None)


def checked(generators: tuple[Permutation, ...]) -> tuple[Permutation, ...]:
    """Return generators of one group, or raise Misfit."""
    points = len(generators[0])
    if points > MOST_POINTS:
        raise Misfit(f"a group of {points:,} positions is beyond the {MOST_POINTS:,} that are looked at")
    for generator in generators:
        if sorted(generator) != list(range(points)):
            shown = ", ".join(map(str, generator[:8])) + (", .." if len(generator) > 8 else "")
            raise Misfit(f"[{shown}] is no permutation of the positions 0 to {points - 1}")
    return generators


def orbit_count(generators: tuple[Permutation, ...], axes: int) -> int:
    """Return how many orbits the group has on positions (one axis) or on pairs of them (two)."""
    points = len(generators[0])
    root = list(range(points**axes))

    def find(member: int) -> int:
        while root[member] != member:
            root[member] = root[root[member]]
            member = root[member]
        return member

    for generator in generators:
        for member in range(len(root)):
            first, second = divmod(member, points)
            image = generator[second] + (generator[first] * points if axes == 2 else 0)
            root[find(member)] = find(image)
    return sum(parent == member for member, parent in enumerate(root))
