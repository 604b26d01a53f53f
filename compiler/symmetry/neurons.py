"""Permutations of neurons: of the units of wires whose weights have patterns.

In: a typed graph, and a state where masks are drawn or values frozen. Out: `NeuronGroup`, the automorphisms of the
graph of neurons. Units of wires that no pattern touches are not in it: they are permuted at will, and counted
with their wires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import product
from math import lgamma, log, prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.actions import signs
from nnspec.compiler.symmetry.kinds import kinds
from nnspec.compiler.symmetry.maps import action_of
from nnspec.compiler.symmetry.neuron_graph import NeuronGraph, neuron_graph
from nnspec.compiler.symmetry.patterns import Array, Pattern, patterns
from nnspec.compiler.symmetry.relate import Related, relate_graph
from nnspec.compiler.symmetry.spaces import Atom, AxisOf, Spaces
from nnspec.compiler.symmetry.strands import Strand, strands
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


class Shuffle(Node):
    """Units permuted and their signs flipped: new unit i of a space is the old one at place `orders[space][i]`.

    `flips` are 1 or -1 for each new unit. Spaces that are not named stay as they are.
    """

    orders: dict[Atom, tuple[int, ...]]
    flips: dict[Atom, tuple[int, ...]]


class NeuronGroup(Node):
    """The permutations (with flips, where asked for) that keep all patterns, between two bounds: log10 of their number.

    `generators` generate what the lower bound counts. `spaces` are those of `all_spaces` whose units it permutes.
    """

    spaces: tuple[Atom, ...]
    log10_lower: float
    log10_upper: float
    order: int | None  # None when large, or not known
    exact: bool
    how: str
    generators: tuple[Shuffle, ...]
    all_spaces: Spaces
    flipping: dict[Atom, frozenset[Atom]]  # by space, where a flip of a unit acts
    label: str  # "S_16^33", "S_4^2 . 6"; 1 where nothing moves
    shared: dict[str, Array]  # of weights whose entries share numbers: which entry has which
    masks: dict[str, Array]  # of masked weights: 0 where there is no entry


def neuron_group(
    graph: Graph,
    state: Mapping[str, Tensor] | None = None,
    values: bool = False,
    budget: int | None = None,
) -> NeuronGroup | None:
    """Return the group of the wires that patterns touch; None where no pattern is known.

    With `values`, weights of few values count with those that they have in the state. `budget` bounds the search.
    """
    known = patterns(graph, state, values)
    if not known:
        return None
    from nnspec.compiler.symmetry.automorphisms import automorphisms

    spaces = Spaces(_let_through(relate_graph(graph), known))
    flipping = flips_of(spaces) if values else {}
    made = neuron_graph(spaces, known, frozenset(flipping) if values else None)
    found = automorphisms(made.graph, budget)
    wider = _acting_apart(spaces, made.begins)
    return NeuronGroup(
        spaces=tuple(made.begins),
        log10_lower=found.log10_lower,
        log10_upper=max(found.log10_upper, wider or 0.0),
        order=None if wider else found.order,
        exact=found.exact and not wider,
        how=found.how,
        generators=tuple(_shuffle(moved, made, spaces) for moved in found.generators),
        all_spaces=spaces,
        flipping=flipping,
        label=_label(found.factors, prod(found.orbits)),
        shared={name: pattern.classes for name, pattern in known.items() if pattern.is_shared},
        masks={name: pattern.classes for name, pattern in known.items() if pattern.is_mask},
    )


def own_space(
    neurons: NeuronGroup, spaces: Spaces, strands_of: Mapping[Atom, Strand], space: Atom
) -> Atom | None:
    """Return the space of a derivation that one of the graph of neurons is, None where it has none."""
    every, known = neurons.all_spaces, spaces.layouts
    for atom in every.classes_of(space):
        axis = (atom.tensor, atom.axis)
        if known.get(axis) == every.layouts[axis]:
            own = spaces.space(atom)
            if own in strands_of and own in strands_of[own].spaces:
                return own
    return None


class Rearrange(Node):
    """A move of an element: units permuted so that patterns stay."""

    group: NeuronGroup
    shuffle: Shuffle

    def apply(self, d: object, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return act(self.group, self.shuffle, state)

    def inverse(self) -> Rearrange:
        orders, flips = self.shuffle.orders, self.shuffle.flips
        back = {s: tuple(sorted(range(len(o)), key=o.__getitem__)) for s, o in orders.items()}
        undone = {s: tuple(own[i] for i in back.get(s, range(len(own)))) for s, own in flips.items()}
        return self.replace(shuffle=Shuffle(orders=back, flips=undone))


def act(group: NeuronGroup, shuffle: Shuffle, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with the units of wires permuted and flipped; the network computes the same with it."""
    from nnspec.compiler.symmetry.places import key_of

    changed = dict(state)
    for carrier in group.all_spaces.related.carriers.values():
        key = key_of(carrier.name)
        if carrier.kind in ("weight", "buffer") and key in changed:
            for axis in range(len(carrier.shape)):
                changed[key] = _moved(group, shuffle, (carrier.name, axis), changed[key])
    return changed


def _moved(group: NeuronGroup, shuffle: Shuffle, node: AxisOf, tensor: Tensor) -> Tensor:
    """Permute and flip a tensor along one axis."""
    import torch

    spaces, start = group.all_spaces, 0
    index, signs = list[int](), list[int]()
    for segment in spaces.atoms(node):
        sizes = [spaces.sizes[atom] for atom in segment]
        strides = [prod(sizes[place + 1 :]) for place in range(len(sizes))]
        for chosen in product(*map(range, sizes)):
            place, sign = start, 1
            for atom, unit, stride in zip(segment, chosen, strides, strict=True):
                space = spaces.space(atom)
                place += stride * (shuffle.orders[space][unit] if space in shuffle.orders else unit)
                if atom in group.flipping.get(space, ()) and space in shuffle.flips:
                    sign *= shuffle.flips[space][unit]
            index.append(place)
            signs.append(sign)
        start += prod(sizes)
    moved = tensor.index_select(node[1], torch.tensor(index, device=tensor.device))
    if all(sign == 1 for sign in signs):
        return moved
    shape = [-1 if axis == node[1] else 1 for axis in range(tensor.dim())]
    return moved * torch.tensor(signs, device=tensor.device).to(tensor).reshape(shape)


def _let_through(related: Related, known: Mapping[str, Pattern]) -> Related:
    """Return the relations with weights that do what their constraints say beside their patterns."""
    carriers = {
        name: carrier.replace(action=action_of(known[name].weight)) if name in known else carrier
        for name, carrier in related.carriers.items()
    }
    return related.replace(carriers=carriers)


def _acting_apart(spaces: Spaces, begins: Mapping[Atom, int]) -> float | None:
    """Return a bound of the order where wires have copies, each of which may be permuted by itself; else None."""
    found = [s for s in strands(spaces, kinds(spaces)) if any(space in begins for space in s.spaces)]
    if all(strand.copies == 1 and len(strand.spaces) == 1 for strand in found):
        return None
    return sum(strand.copies * lgamma(strand.size + 1) / log(10) for strand in found)


def _shuffle(moved: Mapping[int, int], made: NeuronGraph, spaces: Spaces) -> Shuffle:
    orders: dict[Atom, tuple[int, ...]] = {}
    flips: dict[Atom, tuple[int, ...]] = {}
    for space, begin in made.begins.items():
        units = range(begin, begin + spaces.sizes[space])
        images = [moved.get(unit, unit) for unit in units]
        order = tuple(image % made.size - begin for image in images)
        signs = tuple(-1 if image >= made.size else 1 for image in images)
        if order != tuple(range(len(order))):
            orders[space] = order
        if -1 in signs:
            flips[space] = signs
    return Shuffle(orders=orders, flips=flips)


def _label(factors: tuple[int, ...], rest: int) -> str:
    """Write symmetric groups and the order of what is beside them; the product need not be direct."""
    counted = Counter(factors)
    parts = [f"S_{n}" if count == 1 else f"S_{n}^{count}" for n, count in counted.items()]
    return " . ".join([*parts, *([str(rest)] if rest > 1 else [])]) or "1"


def flips_of(spaces: Spaces) -> dict[Atom, frozenset[Atom]]:
    """Return the spaces of which any one unit may change sign, with the atoms along which that acts."""
    system = signs(spaces)
    joint = [frozenset(name for name, number in one.items() if number) for one in system.joint.basis()]
    found: dict[Atom, frozenset[Atom]] = {}
    for space, equations in system.vectors.items():
        basis = equations.basis()
        if len(basis) == 1 and space not in spaces.fixed:
            atoms = frozenset(atom for atom in spaces.classes_of(space) if basis[0].get(atom))
            # A flip of the whole space, too, must be one: then every unit may flip, the first like the others.
            odd = Counter(atom.tensor for atom in atoms)
            if _is_sum(frozenset(("k", name) for name, n in odd.items() if n % 2), joint):
                found[space] = atoms
    return found


def _is_sum(wanted: frozenset[Any], basis: list[frozenset[Any]]) -> bool:
    """Return whether a set is a symmetric difference of some of these."""
    rest = list(basis)
    while rest:
        first = rest.pop()
        if first:
            pivot = next(iter(first))
            rest = [other ^ first if pivot in other else other for other in rest]
            wanted = wanted ^ first if pivot in wanted else wanted
    return not wanted
