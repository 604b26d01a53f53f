"""Patterns of weights: which entries may be told apart, for what acts on a weight must keep its pattern.

Of a weight whose entries are each one of fewer stored numbers (a circulant), the pattern is which share one.

In: a typed graph, and perhaps a state. Out: for each weight whose constraint fixes a pattern, whole numbers of
the weight's shape: whether an entry exists under masks, the class of its value where values are frozen. Masks by
conditions, files and topologies are known from the spec, those that are drawn from a state.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.constraints.topology import Topology
from nnspec.compiler.ir import Graph, Weight
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Array = Any  # a numpy array
MOST_ENTRIES = 10_000  # of a weight that is asked which numbers its entries share


class Pattern(Node):
    """A weight's classes of entries, and the weight without the constraints that state them.

    Of values, entries of one size and opposite signs have opposite numbers; of masks, a flip of signs changes nothing.
    Classes that are `shared` may change places as wholes: what is kept is which entries are equal.
    """

    classes: Array
    weight: Weight
    is_signed: bool = False
    is_shared: bool = False

    @property
    def is_mask(self) -> bool:
        """Whether the classes say which entries there are."""
        return not self.is_signed and not self.is_shared


def patterns(
    graph: Graph, state: Mapping[str, Tensor] | None = None, values: bool = False
) -> dict[str, Pattern]:
    """Return the patterns that are known, by the path of the weight.

    With `values`, weights that take few values (binary, ternary, ..) have the pattern of those that they have in
    the state: what is left is what maps the trained network to itself.
    """
    found: dict[str, Pattern] = {}
    for weight in constrained_weights(graph):
        pattern = _pattern(weight, state, values)
        if pattern is not None:
            found[weight.path] = pattern
    return found


def _pattern(weight: ConstrainedWeight, state: Mapping[str, Tensor] | None, values: bool) -> Pattern | None:
    kinds = {laid.rule.kind for laid in weight.rules}
    fixed = "frozen" in kinds or (values and "values" in kinds)
    if fixed:
        if state is None:
            return None
        return Pattern(classes=_values(weight, state), weight=_without(weight, True), is_signed=True)
    shared = shared_numbers(weight.weight)
    if shared is not None:
        return Pattern(classes=shared, weight=weight.weight.replace(maps=()), is_shared=True)
    places = [place for place, laid in enumerate(weight.rules) if laid.rule.kind == "topology"]
    found: Array | None = None
    for place in places:
        mask = _mask(weight, place, state)
        if mask is None:
            return None
        found = mask if found is None else found * mask
    return None if found is None else Pattern(classes=found, weight=_without(weight, False))


def shared_numbers(weight: Weight) -> Array | None:
    """Return which stored number each entry of an effective weight is, where its one map copies what is stored.

    The map says so itself: it is given numbers that are all different, and then others.
    """
    sizes = [size for size in weight.shape if isinstance(size, int)]
    if len(weight.maps) != 1 or len(sizes) != len(weight.shape) or prod(sizes) > MOST_ENTRIES:
        return None
    (item,) = weight.maps
    learned = [tensor for tensor in item.stored if tensor.kind == "learned"]
    if not item.replaces or item.start is None or item.relations or len(learned) != 1:
        return None
    import torch

    from nnspec.compiler.emit.load import code_function, map_function

    random = torch.Generator().manual_seed(0)
    begun: Any = code_function(item.start)(torch.randn(sizes, generator=random, dtype=torch.float64))
    parts: list[Any] = list(begun) if isinstance(begun, tuple) else [begun]
    place = item.stored.index(learned[0])
    copies: Any = map_function(item)

    def made(numbers: Any) -> Any:
        return copies(*parts[:place], numbers.reshape(parts[place].shape), *parts[place + 1 :])

    count = parts[place].numel()
    which = made(torch.arange(count, dtype=torch.float64)).round().long()
    other = torch.randn(count, generator=random, dtype=torch.float64)
    if bool((which < 0).any()) or bool((which >= count).any()) or not torch.equal(made(other), other[which]):
        return None
    return which.numpy()


def _mask(weight: ConstrainedWeight, number: int, state: Mapping[str, Tensor] | None) -> Array | None:
    """Return what one topology keeps, as 0 and 1; None if it is drawn and there is no state."""
    import numpy

    rule, site = weight.rules[number].rule, weight.rules[number].site
    assert isinstance(rule, Topology)
    entries = rule.entries(site)
    if entries is not None:
        told = numpy.frombuffer(b"".join(entries), dtype=numpy.uint8).astype(numpy.int64)
        shape, width = site.sizes, len(told)
        known = next(n for n in range(1, len(shape) + 1) if prod(shape[:n]) == width)
        told = told.reshape(*shape[:known], *(1 for _ in shape[known:]))
        return numpy.broadcast_to(told, shape)
    if state is None:
        return None
    from nnspec.compiler.runtime.constrained_state import WeightState

    kept = WeightState(weight).buffers(state)
    return rule.mask(site, kept).cpu().numpy().astype(numpy.int64)


def _values(weight: ConstrainedWeight, state: Mapping[str, Tensor]) -> Array:
    """Return for each entry the number of its size among the sizes that there are, with its sign."""
    import numpy

    from nnspec.compiler.runtime.constrained_state import WeightState

    effective: Array = WeightState(weight).effective(state).detach().cpu().numpy()
    number = numpy.unique(abs(effective), return_inverse=True)[1].reshape(effective.shape) + 1
    return numpy.sign(effective).astype(numpy.int64) * number


def _without(weight: ConstrainedWeight, values: bool) -> Weight:
    """Return a weight as if it stood under none of the constraints that its pattern says."""
    kinds = {"topology", "values", "frozen"} if values else {"topology"}
    names = {laid.rule.name for laid in weight.rules if laid.rule.kind in kinds}
    given = weight.weight
    stored = given.stored
    if values:
        stored = tuple(t.replace(kind="learned") if t.kind == "frozen" else t for t in stored)
    return given.replace(maps=tuple(item for item in given.maps if item.name not in names), stored=stored)
