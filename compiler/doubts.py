"""Warns of constraints that hold on their weights, and are hardly meant: units without input and the like.

In: a typed graph, so that a spec with errors is not warned about as well. Out: warnings in the bag, and an error
where masks together cut every output off from the inputs.
"""

from __future__ import annotations

from nnspec.compiler.constrained import ConstrainedWeight
from nnspec.compiler.constraints.topology import Topology
from nnspec.compiler.ir import Graph, Primitive, instances
from nnspec.compiler.reach import Crossing, reach
from nnspec.compiler.typing_weights import weight_site
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.topologies import CutOff, NoPath, UnreadUnits
from nnspec.dsl.source import Span


def warn_of_constraints(graph: Graph, bag: Bag) -> None:
    """Add what the constraints of a network have to say of the weights that they are laid on."""
    seen: set[int] = set()
    for located in instances(graph.root):
        if id(located.primitive) not in seen:
            seen.add(id(located.primitive))
            _warn(located.primitive, located.path, bag)


def _warn(primitive: Primitive, path: str, bag: Bag) -> None:
    weights = {weight.name: weight for weight in primitive.weights}
    for laid in primitive.constraints:
        weight = weights[laid.weight]
        site = weight_site(laid, weight.name, weight.shape, primitive, {})
        for doubt in laid.rule.doubts(site, primitive, path):
            bag.add(doubt)


def warn_of_cuts(graph: Graph, bag: Bag, judged: frozenset[str]) -> None:
    """Add what masks cut off together; `judged` are the values that losses and metrics read."""
    found = reach(graph, judged)
    if found is None:
        return
    cut = [c for c in found.crossings if c.arriving and c.leaving != (1 << len(c.rows)) - 1]
    if not found.connected and cut:
        where = next((c for c in cut if not c.leaving), cut[-1])
        bag.add(CutOff(_span(where.weight), path=where.weight.path, names=_names(where.weight)))
        return
    for crossings in _by_weight(found.crossings):
        weight, dead, unread = crossings[0].weight, _dead(crossings), _unread(crossings)
        if dead:
            units, them, have = _counted(dead, "has", "have")
            path, names = weight.owner, _names(weight)
            bag.add(NoPath(_span(weight), path=path, names=names, units=units, them=them, have=have))
        if unread:
            units, them, reaches = _counted(unread, "reaches", "reach")
            path, names = weight.owner, _names(weight)
            bag.add(UnreadUnits(_span(weight), path=path, names=names, units=units, them=them, reach=reaches))


def _dead(crossings: list[Crossing]) -> list[int]:
    """Return the units that depend on no input, though something that does comes in; not those without any weight."""
    if not any(c.arriving for c in crossings):
        return []
    alone: set[int] = set()
    for one in crossings[0].weight.rules:
        if isinstance(one.rule, Topology):
            alone.update(one.rule.without_input(one.site))
    units = range(len(crossings[0].rows))
    return [u for u in units if u not in alone and not any(c.leaving >> u & 1 for c in crossings)]


def _unread(crossings: list[Crossing]) -> list[int]:
    """Return the inputs that carry something learned and that no unit reads on the way to an output."""
    width = crossings[0].weight.weight.shape[1]
    if not isinstance(width, int) or not all(c.hidden and c.wanted for c in crossings):
        return []
    arriving = [u for u in range(width) if any(c.arriving >> u & 1 for c in crossings)]
    return [u for u in arriving if not any(c.read >> u & 1 for c in crossings)]


def _by_weight(crossings: tuple[Crossing, ...]) -> list[list[Crossing]]:
    found: dict[str, list[Crossing]] = {}
    for crossing in crossings:
        found.setdefault(crossing.weight.path, []).append(crossing)
    return list(found.values())


def _span(weight: ConstrainedWeight) -> Span | None:
    return next((laid.span for laid in weight.rules if isinstance(laid.rule, Topology)), None)


def _names(weight: ConstrainedWeight) -> str:
    return " & ".join(laid.rule.name for laid in weight.rules if isinstance(laid.rule, Topology))


def _counted(numbers: list[int], one: str, several: str) -> tuple[str, str, str]:
    """Return how many units and the first of them, and the words that go with one or with several."""
    if len(numbers) == 1:
        return f"unit {numbers[0]}", "it", one
    first = ", ".join(map(str, numbers[:4])) + (", .." if len(numbers) > 4 else "")
    return f"{len(numbers)} units ({first})", "them", several
