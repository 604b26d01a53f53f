"""The moves that elements of a group are made of, and what each does to a state dict.

A move permutes the indices of one space, multiplies every tensor entry by entry, lets a matrix act on one
space, or adds constants that biases take up. Each takes a state dict of torch tensors (buffers too) and gives
another with the same outputs. What a constraint's map does to a stored weight is undone: the effective weight
moves as derived. torch is imported by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nnspec.compiler.ir import state_key
from nnspec.compiler.relations import Contract, Move, Term
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.flips import Centred
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.neurons import Rearrange
from nnspec.compiler.symmetry.parallel import Twin
from nnspec.compiler.symmetry.shifts import Biases
from nnspec.compiler.symmetry.spaces import Atom, AxisOf
from nnspec.compiler.symmetry.strands import Strand
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


class Amounts(Node):
    """A number for each entry of each tensor: what the joint unknowns take, and arrays along atoms.

    A tensor's number is k + (offset of the segment) + (one of each factor's index) + (one of each cell's), as
    in `Unknowns`; here arrays need not vanish where an index is 0. `arrays` are by tensor, then by the atoms
    of their axes.
    """

    joint: Mapping[Hashable, float]
    arrays: Mapping[str, Mapping[tuple[Atom, ...], Tensor]]

    def times(self, factor: float) -> Amounts:
        """Return all numbers times a factor."""
        joint = {name: factor * number for name, number in self.joint.items()}
        arrays = {
            tensor: {atoms: factor * array for atoms, array in own.items()}
            for tensor, own in self.arrays.items()
        }
        return Amounts(joint=joint, arrays=arrays)

    def field(self, d: Derivation, tensor: str) -> Tensor | None:
        """Return the numbers of a tensor, an array of its shape; None if all are zero."""
        import torch

        shape = shape_of(d, tensor)
        total = torch.full(shape, self.joint.get(("k", tensor), 0.0), dtype=torch.float64)
        for node in axes_of(d, tensor):
            start = 0
            for index, segment in enumerate(d.spaces.layouts[node]):
                offset = self.joint.get(("e", *node, index), 0.0)
                if offset:
                    total.narrow(node[1], start, prod(segment)).add_(offset)
                start += prod(segment)
        for atoms, array in self.arrays.get(tensor, {}).items():
            total = on_atoms(d, total, atoms, lambda given, array=array: given + array.reshape(-1, 1))
        return total if bool((total != 0).any()) else None


def amounts(
    d: Derivation, solution: Mapping[Hashable, Number], indices: Mapping[Atom, int] | None = None
) -> Amounts:
    """Return the amounts of a solution of a system: joint unknowns as they are, others at one index a space."""
    import torch

    def one(atoms: tuple[Atom, ...], number: Number) -> Tensor:
        array = torch.zeros([d.spaces.sizes[atom] for atom in atoms], dtype=torch.float64)
        array[tuple((indices or {}).get(d.spaces.space(atom), 0) for atom in atoms)] = float(number)
        return array

    return amounts_of(d, solution, one)


def amounts_of(
    d: Derivation,
    solution: Mapping[Hashable, Number],
    array: Callable[[tuple[Atom, ...], Number], Tensor],
) -> Amounts:
    """Return the amounts of a solution; `array` gives the numbers along the atoms of an unknown."""
    arrays: dict[str, dict[tuple[Atom, ...], Tensor]] = {}
    joint: dict[Hashable, float] = {}
    for name, number in solution.items():
        atoms = atoms_of(name)
        if atoms:
            arrays.setdefault(atoms[0].tensor, {})[atoms] = array(atoms, number)
        else:
            joint[name] = float(number)
    return Amounts(joint=joint, arrays=arrays)


def atoms_of(unknown: Hashable) -> tuple[Atom, ...]:
    """Return the atoms along which an unknown varies; () of a joint one."""
    if isinstance(unknown, Atom):
        return (unknown,)
    return tuple(sorted(cast("frozenset[Atom]", unknown))) if isinstance(unknown, frozenset) else ()


def applied(d: Derivation, moves: Iterable[AnyMove], state: State) -> State:
    """Return the state after moves, the first of which acts first.

    A weight that a constraint makes of other tensors moves itself; what is stored is then made from it anew.
    """
    moved = given = {**state, **_lifted(d, state)}
    for move in moves:
        moved = move.apply(d, moved)
    return _lowered(d, state, given, moved)


def _lifted(d: Derivation, state: State) -> State:
    """Return the effective weights that are made of other tensors, or whose stored tensor is not all in use."""
    from nnspec.compiler.emit.load import effective_weight

    return {
        key_of(carrier.name): effective_weight(carrier.weight, carrier.name.rpartition(".")[0], state)
        for carrier in d.related.carriers.values()
        if carrier.weight is not None and carrier.action is not None and carrier.action.is_lifted
    }


def _lowered(d: Derivation, state: State, given: State, moved: State) -> State:
    from nnspec.compiler.emit.load import code_function

    found = {key: moved[key] for key in state}
    for carrier in d.related.carriers.values():
        if carrier.weight is None or carrier.action is None or not carrier.action.is_lifted:
            continue
        key = key_of(carrier.name)
        if moved[key] is given[key]:
            found.update({name: state[name] for name in (key,) if name in state})
            continue
        (first, *_) = carrier.weight.maps
        made: Any = moved[key] if first.start is None else code_function(first.start)(moved[key])
        parts = cast("tuple[Tensor, ...]", made if isinstance(made, tuple) else (made,))
        path = carrier.name.rpartition(".")[0]
        names = [tensor.name for tensor in first.stored] or [carrier.weight.name]
        if not first.replaces and first.stored:
            names = [carrier.weight.name, *names]
        found.update({state_key(path, name): part for name, part in zip(names, parts, strict=True)})
    return found


# ----------------------------------------------------------------------------------------------- the moves


class Permute(Node):
    """New index i of a strand is the old index `order[i]`, in one of its copies or (None) in all."""

    space: Atom
    order: tuple[int, ...]
    copy: int | None = None

    def apply(self, d: Derivation, state: State) -> State:
        import torch

        order = torch.tensor(self.order)

        def act(given: Tensor, _: int) -> Tensor:
            if self.copy is None:
                return given[:, order.to(given.device)]
            moved = given.clone()
            moved[self.copy] = given[self.copy, order.to(given.device)]
            return moved

        return act_on_strand(d, d.by_space[self.space], state, act)

    def inverse(self) -> Permute:
        places = sorted(range(len(self.order)), key=self.order.__getitem__)
        return self.replace(order=tuple(places))


class Multiply(Node):
    """Every tensor times exp(amounts), or with `sign` times -1 where they are odd.

    Where that flips a function that is odd about a constant, biases take up the shift.
    """

    given: Amounts
    sign: bool

    def apply(self, d: Derivation, state: State) -> State:
        changed = dict(state)
        for name in stored(d, state):
            field = self.given.field(d, name)
            if field is not None:
                own = changed[key_of(name)]
                factor = 1 - 2 * (field % 2) if self.sign else (field / degree_of(d, name)).exp()
                changed[key_of(name)] = own * factor.to(own)
        if self.sign:
            for item in d.centred:
                changed = self._shifted(d, item, changed)
        return changed

    def _shifted(self, d: Derivation, item: Centred, state: State) -> State:
        field = self.given.field(d, item.tensor)
        if field is None:
            return state
        along = (field % 2).movedim(item.atom.axis, 0).reshape(field.shape[item.atom.axis], -1)[:, 0]
        arrays: dict[str, dict[tuple[Atom, ...], Tensor]] = {}
        for atom, number in item.shifted:
            arrays.setdefault(atom.tensor, {})[(atom,)] = 2 * item.centre * float(number) * along
        return Shift(given=Amounts(joint={}, arrays=arrays)).apply(d, state)

    def inverse(self) -> Multiply:
        return self if self.sign else self.replace(given=self.given.times(-1))


class Transform(Node):
    """A matrix acts on a strand: M on what moves with the wire, its inverse transpose on what moves dually.

    `matrix` is one for all copies, or a stack of one for each. Behind a gain g that folds, diag(g) M diag(g)^-1
    acts on what the gain gives.
    """

    space: Atom
    matrix: Tensor

    def apply(self, d: Derivation, state: State) -> State:
        changed = act_on_strand(d, d.by_space[self.space], state, _acting(self.matrix))
        for fold in d.folds:
            if fold.before == self.space:
                gain = state[key_of(fold.gain)].to(self.matrix)
                acting = _acting(gain[:, None] * self.matrix / gain)
                changed = act_on_strand(d, d.by_space[fold.behind], changed, acting, besides=fold.gain)
        return changed

    def inverse(self) -> Transform:
        import torch

        linear_algebra: Any = torch.linalg
        return self.replace(matrix=linear_algebra.inv(self.matrix))


def _acting(matrix: Tensor) -> Callable[[Tensor, int], Tensor]:
    import torch

    linear_algebra: Any = torch.linalg
    dual: Tensor = linear_algebra.inv(matrix).mT
    return lambda given, sign: (dual if sign < 0 else matrix).to(given) @ given


class Shift(Node):
    """Constants are added to values, and the biases behind take them up."""

    given: Amounts

    def apply(self, d: Derivation, state: State, effective: bool = False) -> State:
        """Return the state moved; `effective` says that it holds effective weights, by the keys of weights."""
        changed = dict(state)
        for name in stored(d, state):
            field = self.given.field(d, name)
            if field is not None:
                changed[key_of(name)] = changed[key_of(name)] + field.to(changed[key_of(name)])
        biases = Biases(d.related)
        for uses in biases.uses.values():
            relation = uses[0]
            if relation.bias is not None and biases.takes_up(relation):
                key = key_of(biases.source(relation.bias.tensor))
                step = _bias_step(d, state, self.given, relation, effective)
                if step is not None:
                    changed[key] = changed[key] + step.reshape(changed[key].shape).to(changed[key])
        return changed

    def inverse(self) -> Shift:
        return Shift(given=self.given.times(-1))


class Add(Node):
    """What a norm or a softmax forgets is added along one axis of one weight; `added` has size 1 there."""

    item: Forgotten
    added: Tensor

    def apply(self, d: Derivation, state: State) -> State:
        import torch

        key = key_of(self.item.weight)
        added = self.added.to(state[key])
        if self.item.axis is None and added.shape != state[key].shape:  # a part of a bias
            part, added = added, torch.zeros_like(state[key])
            added.narrow(0, self.item.start, len(part)).copy_(part)
        changed = {**state, key: state[key] + added}
        if self.item.bias is not None:
            bias = key_of(self.item.bias)
            changed[bias] = changed[bias] - self.item.total * added.reshape(changed[bias].shape)
        return changed

    def inverse(self) -> Add:
        return self.replace(added=-self.added)


class Exchange(Node):
    """The first unit of one strand and the first unit of a parallel one change places."""

    places: tuple[tuple[Twin, Twin], ...]

    def apply(self, d: Derivation, state: State) -> State:
        changed = dict(state)
        for one, other in self.places:
            rows = [_unit(d, changed, twin.atom) for twin in (one, other)]
            ratio = one.factor / other.factor
            _set_unit(d, changed, other.atom, rows[0] * ratio)
            _set_unit(d, changed, one.atom, rows[1] / ratio)
        return changed

    def inverse(self) -> Exchange:
        return self


def _unit(d: Derivation, state: State, atom: Atom) -> Tensor:
    """Return the entries of the first index of an atom."""
    found: list[Tensor] = []

    def read(given: Tensor) -> Tensor:
        found.append(given[0].clone())
        return given

    on_atoms(d, state[key_of(atom.tensor)], (atom,), read)
    return found[0]


def _set_unit(d: Derivation, state: State, atom: Atom, row: Tensor) -> None:
    def write(given: Tensor) -> Tensor:
        changed = given.clone()
        changed[0] = row
        return changed

    key = key_of(atom.tensor)
    state[key] = on_atoms(d, state[key], (atom,), write)


AnyMove: TypeAlias = "Exchange | Permute | Multiply | Transform | Shift | Add | Rearrange"


# ------------------------------------------------------------------------------------- on tensors and spaces


def key_of(weight: str) -> str:
    """Return the state-dict key of a weight's path."""
    return state_key(weight, "")


def stored(d: Derivation, state: Mapping[str, Any]) -> list[str]:
    """Return the weights and buffers that a state holds as real numbers."""
    return [
        carrier.name
        for carrier in d.related.carriers.values()
        if carrier.kind in ("weight", "buffer")
        and key_of(carrier.name) in state
        and state[key_of(carrier.name)].dtype.is_floating_point
    ]


def axes_of(d: Derivation, tensor: str) -> list[AxisOf]:
    return [(tensor, axis) for axis in range(len(d.related.carriers[tensor].shape))]


def degree_of(d: Derivation, tensor: str) -> float:
    """Return k where the effective weight is homogeneous of degree k in the stored one; 1 where it has none."""
    action = d.related.carriers[tensor].action
    return 1.0 if action is None or not action.degree else action.degree


def shape_of(d: Derivation, tensor: str) -> list[int]:
    """Return the sizes of a tensor; 1 for those that are not known."""
    return [size if isinstance(size, int) else 1 for size in d.related.carriers[tensor].shape]


def act_on_strand(
    d: Derivation,
    strand: Strand,
    state: State,
    act: Callable[[Tensor, int], Tensor],
    besides: str | None = None,
) -> State:
    """Let `act` work on every place of a strand in the tensors of a state, but not on the weight `besides`.

    It is given [copies, size, others], and 1 or -1 for places that move with the wire or dually.
    """
    changed = dict(state)
    held = set(stored(d, state)) - {besides}
    for atoms, outer in strand.places:
        if atoms[0].tensor in held:
            key = key_of(atoms[0].tensor)
            sign = d.orientations.of(atoms[0])
            changed[key] = on_strand(d, strand, changed[key], (*outer, *atoms), lambda x, s=sign: act(x, s))
    return changed


def on_strand(
    d: Derivation, strand: Strand, tensor: Tensor, atoms: tuple[Atom, ...], act: Callable[[Tensor], Tensor]
) -> Tensor:
    """Let `act` work on a place of a strand, as [copies, size, others]."""

    def split(given: Tensor) -> Tensor:
        shape = (strand.copies, strand.size, given.shape[1])
        return act(given.reshape(shape)).reshape(given.shape)

    return on_atoms(d, tensor, atoms, split)


def on_atoms(
    d: Derivation, tensor: Tensor, atoms: tuple[Atom, ...], act: Callable[[Tensor], Tensor]
) -> Tensor:
    """Let `act` work on [entries along the atoms, others] of a tensor, in the segments that the atoms are in."""
    segments = {atom.axis: atom.segment for atom in atoms}
    name = atoms[0].tensor
    part, shape, places = tensor, list[int](), dict[tuple[int, int], int]()
    for axis, size in enumerate(tensor.shape):
        if axis not in segments:
            shape.append(size)
            continue
        layout = d.spaces.layouts[name, axis]
        start = sum(prod(segment) for segment in layout[: segments[axis]])
        part = part.narrow(axis, start, prod(layout[segments[axis]]))
        for factor, own in enumerate(layout[segments[axis]]):
            places[axis, factor] = len(shape)
            shape.append(own)
    first = [places[atom.axis, atom.factor] for atom in atoms]
    order = [*first, *(place for place in range(len(shape)) if place not in first)]
    moved = part.reshape(shape).permute(order)
    acted = act(moved.reshape(prod(moved.shape[: len(first)]), -1)).reshape(moved.shape)
    back = acted.permute([order.index(place) for place in range(len(shape))]).reshape(part.shape)
    if part.shape == tensor.shape:
        return back
    changed = tensor.clone()
    target = changed
    for axis, segment in segments.items():
        layout = d.spaces.layouts[name, axis]
        target = target.narrow(axis, sum(prod(s) for s in layout[:segment]), prod(layout[segment]))
    target.copy_(back)
    return changed


# ------------------------------------------------------------------------------------ what biases take up


def _bias_step(
    d: Derivation, state: State, given: Amounts, relation: Contract, effective: bool
) -> Any | None:
    """Return (shift behind a map) - (map of the shift before it): what its bias takes up."""
    assert relation.bias is not None
    labels = relation.bias.labels
    behind = given.field(d, relation.output.tensor)
    live = next(term for term in relation.terms if d.related.carriers[term.tensor].live)
    before = given.field(d, live.tensor)
    step: Any = None
    if behind is not None:
        step = _first_of_others(behind, relation.output, labels)
    if before is not None:
        image = _image(d, state, relation, live, before, effective)
        step = -image if step is None else step - image
    return step


def _first_of_others(field: Any, term: Term, labels: tuple[str, ...]) -> Any:
    """Take the first entry along labels that are not asked for (nothing varies there), and order the rest."""
    kept = [label for label in term.labels if label in labels]
    for axis in reversed(range(len(term.labels))):
        if term.labels[axis] not in labels:
            field = field.select(axis, 0)
    return field.permute([kept.index(label) for label in labels])


def _image(d: Derivation, state: State, relation: Contract, live: Term, before: Any, effective: bool) -> Any:
    """Return the map of a constant input, by the weights of a map, over the labels of its bias."""
    import torch

    assert relation.bias is not None
    weights = [term for term in relation.terms if term is not live]
    summed = {label for term in weights for label in term.labels}
    needed = tuple(label for label in live.labels if label in summed or label in relation.bias.labels)
    letters = {label: chr(97 + i) for i, label in enumerate(dict.fromkeys((*summed, *needed)))}
    operands = [_first_of_others(before, live, needed)]
    subscripts = ["".join(letters[label] for label in needed)]
    for term in weights:
        operands.append(_viewed(d, state, term.tensor, effective).to(torch.float64))
        subscripts.append("".join(letters[label] for label in term.labels))
    out = "".join(letters[label] for label in relation.bias.labels)
    return torch.einsum(f"{','.join(subscripts)}->{out}", *operands)


def _contracted(d: Derivation, state: State, relation: Contract, effective: bool) -> Any:
    """Return the product of weights that a relation makes."""
    import torch

    letters = {
        label: chr(97 + i)
        for i, label in enumerate(dict.fromkeys(x for t in relation.terms for x in t.labels))
    }
    terms = ["".join(letters[label] for label in term.labels) for term in (*relation.terms, relation.output)]
    operands = [_viewed(d, state, term.tensor, effective) for term in relation.terms]
    return torch.einsum(f"{','.join(terms[:-1])}->{terms[-1]}", *operands)


def _viewed(d: Derivation, state: State, tensor: str, effective: bool) -> Any:
    """Return an effective weight, or the view of one that a use declares."""
    from nnspec.compiler.emit.load import effective_weight

    carrier = d.related.carriers[tensor]
    lifted = carrier.action is not None and carrier.action.is_lifted
    if key_of(tensor) in state and (effective or lifted or carrier.weight is None):
        return state[key_of(tensor)]
    if carrier.weight is not None:
        return effective_weight(carrier.weight, tensor.rpartition(".")[0], state)
    for stated in d.related.stated:
        relation = stated.relation
        if isinstance(relation, Contract) and relation.output.tensor == tensor:
            return _contracted(d, state, relation, effective)
        if isinstance(relation, Move) and relation.output == tensor:
            given = _viewed(d, state, relation.input, effective)
            if all(len(ins) == 1 and len(outs) == 1 for ins, outs in relation.groups):
                order = {outs[0]: ins[0] for ins, outs in relation.groups}
                return given.permute([order[axis] for axis in range(given.dim())])
            return given.reshape([int(str(n)) for n in carrier.shape])
    raise KeyError(tensor)
