"""What the outputs of a network hear of: which values are certainly equal, which are wanted, which states count."""

from __future__ import annotations

from nnspec.compiler.flat import Flat
from nnspec.compiler.operations.registry import operation


def equal_values(flat: Flat) -> list[int]:
    """Return for each value the first value that certainly equals it."""
    same = list(range(len(flat.values)))
    known: dict[tuple[object, ...], tuple[int, ...]] = {}
    for index, use in enumerate(flat.uses):
        drawn = index if operation(use.primitive.operation).draws else None
        weights = tuple((name, held.key, held.transposed) for name, held in use.weights)
        inputs = tuple(same[number] for number in use.inputs)
        key = (use.primitive.operation, repr(use.primitive.arguments), inputs, weights, drawn)
        for number, first in zip(use.outputs, known.setdefault(key, use.outputs), strict=True):
            same[number] = first
    return same


def wanted_values(flat: Flat, same: list[int]) -> set[int]:
    """Return the values on which an output depends; of equal ones the first."""
    wanted = {same[number] for number in flat.outputs}
    settling = {cycle.last: cycle for cycle in flat.cycles}
    before = -1
    while before < len(wanted):  # a step depends on the one before it
        before = len(wanted)
        for index in range(len(flat.uses) - 1, -1, -1):
            use = flat.uses[index]
            if index in settling:
                cycle = settling[index]
                states = zip(cycle.before, cycle.after, cycle.results, strict=True)
                wanted.update(n for b, a, r in states if wanted & {b, r} for n in (b, same[a], r))
            elif wanted.intersection(use.outputs):
                wanted.update(same[number] for number in use.inputs)
    return wanted


def without_unheard_states(flat: Flat, wanted: set[int]) -> Flat:
    """Leave out the states of loops on which no output depends."""
    uses, cycles = list(flat.uses), list(flat.cycles)
    for place, cycle in enumerate(flat.cycles):
        kept = [k for k, number in enumerate(cycle.results) if number in wanted]
        if not kept or len(kept) == len(cycle.results):
            continue
        before, after, results = (
            tuple(own[k] for k in kept) for own in (cycle.before, cycle.after, cycle.results)
        )
        types = tuple(flat.values[number].type for number in before)
        first, last = flat.uses[cycle.first], flat.uses[cycle.last]
        uses[cycle.first] = first.replace(outputs=before, primitive=first.primitive.replace(outputs=types))
        uses[cycle.last] = last.replace(
            inputs=(*before, *after),
            outputs=results,
            primitive=last.primitive.replace(inputs=(*types, *types), outputs=types),
        )
        carried = tuple(cycle.loop.carried[k] for k in kept)
        loop = cycle.loop.replace(carried=carried)
        cycles[place] = cycle.replace(loop=loop, before=before, after=after, results=results)
    return flat.replace(uses=tuple(uses), cycles=tuple(cycles))
