"""Which units of a system hear the nudge: those to which a way leads, along connections, from what the loss reads.

In: a typed system. Out: for each state the bits of its units that are reached. Masks that are known before any weight is
drawn count unit by unit; a connection without one joins all its sources with all its targets. Imports no torch.
"""

from __future__ import annotations

from functools import reduce
from math import prod

from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.ir import Connection, Graph, Loop, Type
from nnspec.compiler.reach import mask_rows
from nnspec.compiler.rules.settled.scheme import is_within, loop_of

Reached = dict[str, int]  # bits by the name of a state


def read_states(graph: Graph) -> tuple[str, ...]:
    """Return the states that the network's outputs are made of: where the nudge is given."""
    loop, root = loop_of(graph), graph.root
    read = {port.value for port in root.outputs}
    for statement in reversed([s for s in root.body if s is not loop]):
        if read & set(statement.outputs):
            read |= set(statement.inputs)
    return tuple(state.name for state in loop.carried if state.result in read)


def unheard(graph: Graph) -> tuple[str, ...]:
    """Return the states that no unit of which hears anything of the loss."""
    loop = loop_of(graph)
    reached = hearing(graph)
    return tuple(state.name for state in loop.carried if not reached[state.name])


def hearing(graph: Graph) -> Reached:
    """Return the units that the nudge reaches along connections."""
    loop = loop_of(graph)
    sizes = {state.name: _size(state.declared) for state in loop.carried}
    at = read_states(graph)
    found = {name: (1 << size) - 1 if name in at else 0 for name, size in sizes.items()}
    walk = _Walk(graph, loop, sizes)
    while True:
        before = dict(found)
        for connection in loop.connections:
            walk.along(connection, found)
        if found == before:
            return found


class _Walk:
    def __init__(self, graph: Graph, loop: Loop, sizes: dict[str, int]) -> None:
        self.loop = loop
        self.sizes = sizes
        self.types = dict(graph.root.types)
        self.before = {state.before: state.name for state in loop.carried}
        masked = {weight.path: mask_rows(weight) for weight in constrained_weights(graph)}
        self.rows = {c.child: masked.get(f"{c.child}.weight") for c in loop.connections}

    def along(self, connection: Connection, found: Reached) -> None:
        """Add what a connection carries on, and back if it is used both ways."""
        sources = tuple(self.before.get(value, "") for value in connection.sources)
        widths = [
            self.sizes[name] if name else _size(self.types[value])
            for name, value in zip(sources, connection.sources, strict=True)
        ]
        given = _laid([found.get(name, 0) for name in sources], widths)
        rows = self.rows[connection.child]
        targets = connection.targets
        ends = [self.sizes[name] for name in targets]
        self._add(targets, ends, _onward(given, rows, sum(ends)), found)
        if connection.both and not is_within(self.loop, connection):
            back = _backward(_laid([found[name] for name in targets], ends), rows, sum(widths))
            self._add(sources, widths, back, found)

    def _add(self, names: tuple[str, ...], widths: list[int], bits: int, found: Reached) -> None:
        for name, width in zip(names, widths, strict=True):
            if name:
                found[name] |= bits & ((1 << width) - 1)
            bits >>= width


def _size(kind: Type) -> int:
    return prod(size for size in kind.shape if isinstance(size, int))


def _laid(bits: list[int], widths: list[int]) -> int:
    """Lay bits end to end, the first at the low end."""
    found, place = 0, 0
    for own, width in zip(bits, widths, strict=True):
        found |= own << place
        place += width
    return found


def _onward(given: int, rows: tuple[int, ...] | None, count: int) -> int:
    if rows is None:
        return (1 << count) - 1 if given else 0
    return sum(1 << place for place, row in enumerate(rows) if row & given)


def _backward(given: int, rows: tuple[int, ...] | None, count: int) -> int:
    if rows is None:
        return (1 << count) - 1 if given else 0
    return reduce(lambda bits, row: bits | row, (r for p, r in enumerate(rows) if given >> p & 1), 0)
