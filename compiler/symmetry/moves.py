"""The moves that elements of a group are made of, and what each does to a state dict.

A move permutes the indices of one space, multiplies every tensor entry by entry, lets a matrix act on one
space, or adds constants that biases take up. Each takes a state dict of torch tensors (buffers too) and gives
another with the same outputs. What a constraint's map does to a stored weight is undone: the effective weight
moves as derived. torch is imported by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import state_key
from nnspec.compiler.relations import Contract, Move, Term
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.shifts import Biases
from nnspec.compiler.symmetry.spaces import Atom, AxisOf
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


class Amounts(Node):
    """A number for each index of each tensor: what the joint unknowns take, and one vector for each atom.

    A tensor's number is k + (offset of the segment) + (one of each factor's index), as in `Unknowns`; here
    vectors need not vanish at index 0.
    """

    joint: Mapping[Hashable, float]
    vectors: Mapping[Atom, Tensor]

    def times(self, factor: float) -> Amounts:
        """Return all numbers times a factor."""
        joint = {name: factor * number for name, number in self.joint.items()}
        return Amounts(joint=joint, vectors={atom: factor * given for atom, given in self.vectors.items()})

    def field(self, d: Derivation, tensor: str) -> Tensor | None:
        """Return the numbers of a tensor, as an array that broadcasts to it; None if all are zero."""
        import torch

        shape = [size if isinstance(size, int) else 1 for size in d.related.carriers[tensor].shape]
        total = torch.full([1] * len(shape), self.joint.get(("k", tensor), 0.0), dtype=torch.float64)
        for node in axes_of(d, tensor):
            along = self._along(d, node)
            if along is not None:
                view = [1] * len(shape)
                view[node[1]] = -1
                total = total + along.view(view)
        return total if bool((total != 0).any()) else None

    def _along(self, d: Derivation, node: AxisOf) -> Tensor | None:
        import torch

        layout = d.spaces.layouts[node]
        touched = any(atom in self.vectors for segment in d.spaces.atoms(node) for atom in segment)
        offsets = [self.joint.get(("e", *node, index), 0.0) for index in range(len(layout))]
        if not touched and not any(offsets):
            return None
        parts: list[Tensor] = []
        for segment, atoms, offset in zip(layout, d.spaces.atoms(node), offsets, strict=True):
            part = torch.full(segment, offset, dtype=torch.float64)
            for factor, atom in enumerate(atoms):
                if atom in self.vectors:
                    view = [1] * len(segment)
                    view[factor] = -1
                    part = part + self.vectors[atom].view(view)
            parts.append(part.flatten())
        return torch.cat(parts)


def amounts(solution: Mapping[Hashable, Number], sizes: Mapping[Atom, int], index: int = 0) -> Amounts:
    """Return the amounts of a solution of a system: joint unknowns as they are, those of atoms at one index."""
    import torch

    vectors: dict[Atom, Tensor] = {}
    for name, number in solution.items():
        if isinstance(name, Atom):
            vectors[name] = torch.zeros(sizes[name], dtype=torch.float64)
            vectors[name][index] = float(number)
    joint = {name: float(number) for name, number in solution.items() if not isinstance(name, Atom)}
    return Amounts(joint=joint, vectors=vectors)


# ----------------------------------------------------------------------------------------------- the moves


class Permute(Node):
    """New index i of a space is the old index `order[i]`."""

    space: Atom
    order: tuple[int, ...]

    def apply(self, d: Derivation, state: State) -> State:
        import torch

        order = torch.tensor(self.order)
        return act_on_space(d, self.space, state, lambda x, _: x[order.to(x.device)])

    def inverse(self) -> Permute:
        places = sorted(range(len(self.order)), key=self.order.__getitem__)
        return self.replace(order=tuple(places))


class Multiply(Node):
    """Every tensor times exp(amounts), or with `sign` times -1 where they are odd."""

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
        return changed

    def inverse(self) -> Multiply:
        return self if self.sign else self.replace(given=self.given.times(-1))


class Transform(Node):
    """A matrix acts on a space: M on what moves with the wire, its inverse transpose on what moves dually."""

    space: Atom
    matrix: Tensor

    def apply(self, d: Derivation, state: State) -> State:
        import torch

        linear_algebra: Any = torch.linalg
        signs = orientations(d, self.space)
        dual: Tensor = linear_algebra.inv(self.matrix).T

        def act(given: Tensor, atom: Atom) -> Tensor:
            acting = dual if signs.get(atom, 1) < 0 else self.matrix
            return (acting.to(given) @ given.reshape(given.shape[0], -1)).reshape(given.shape)

        return act_on_space(d, self.space, state, act)

    def inverse(self) -> Transform:
        import torch

        linear_algebra: Any = torch.linalg
        return self.replace(matrix=linear_algebra.inv(self.matrix))


class Shift(Node):
    """Constants are added to values, and the biases behind take them up."""

    given: Amounts

    def apply(self, d: Derivation, state: State) -> State:
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
                step = _bias_step(d, state, self.given, relation)
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
        key = key_of(self.item.weight)
        added = self.added.to(state[key])
        changed = {**state, key: state[key] + added}
        if self.item.bias is not None:
            bias = key_of(self.item.bias)
            changed[bias] = changed[bias] - self.item.total * added.reshape(changed[bias].shape)
        return changed

    def inverse(self) -> Add:
        return self.replace(added=-self.added)


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


def orientations(d: Derivation, space: Atom) -> dict[Atom, Number]:
    """Return for each atom of a GL space whether it moves with the wire (1) or dually (-1)."""
    if d.groups.get(space) != "linear":
        return {}
    solution = d.scales.vectors[space].basis()[0]
    live = [a for a in d.classes[space] if a in solution and d.related.carriers[a.tensor].live]
    forward = solution[live[0]]
    return {atom: solution[atom] * forward for atom in d.classes[space] if atom in solution}


def act_on_space(d: Derivation, space: Atom, state: State, act: Callable[[Any, Atom], Any]) -> State:
    """Let `act` work on every place of a space in the tensors of a state."""
    changed = dict(state)
    held = set(stored(d, state))
    for atom in d.classes[space]:
        if atom.tensor in held:
            key = key_of(atom.tensor)
            changed[key] = _on_factor(d, changed[key], atom, lambda x, atom=atom: act(x, atom))
    return changed


def _on_factor(d: Derivation, tensor: Any, atom: Atom, act: Callable[[Any], Any]) -> Any:
    """Let `act` work on the first axis of a tensor in which that axis is one factor of one segment."""
    import torch

    layout = d.spaces.layouts[atom.tensor, atom.axis]
    moved = tensor.movedim(atom.axis, 0)
    sizes = [prod(segment) for segment in layout]
    parts = list(torch.split(moved, sizes, dim=0))
    part = parts[atom.segment]
    split = part.reshape(*layout[atom.segment], *part.shape[1:]).movedim(atom.factor, 0)
    acted = act(split).movedim(0, atom.factor).reshape(part.shape)
    parts[atom.segment] = acted
    return torch.cat(parts, dim=0).movedim(0, atom.axis)


# ------------------------------------------------------------------------------------ what biases take up


def _bias_step(d: Derivation, state: State, given: Amounts, relation: Contract) -> Any | None:
    """Return (shift behind a map) - (map of the shift before it): what its bias takes up."""
    assert relation.bias is not None
    labels = relation.bias.labels
    behind = _filled(d, given, relation.output.tensor)
    live = next(term for term in relation.terms if d.related.carriers[term.tensor].live)
    before = _filled(d, given, live.tensor)
    step: Any = None
    if behind is not None:
        step = _first_of_others(behind, relation.output, labels)
    if before is not None:
        image = _image(d, state, relation, live, before)
        step = -image if step is None else step - image
    return step


def _filled(d: Derivation, given: Amounts, tensor: str) -> Any | None:
    field = given.field(d, tensor)
    if field is None:
        return None
    return field.expand([size if isinstance(size, int) else 1 for size in d.related.carriers[tensor].shape])


def _first_of_others(field: Any, term: Term, labels: tuple[str, ...]) -> Any:
    """Take the first entry along labels that are not asked for (nothing varies there), and order the rest."""
    kept = [label for label in term.labels if label in labels]
    for axis in reversed(range(len(term.labels))):
        if term.labels[axis] not in labels:
            field = field.select(axis, 0)
    return field.permute([kept.index(label) for label in labels])


def _image(d: Derivation, state: State, relation: Contract, live: Term, before: Any) -> Any:
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
        operands.append(_viewed(d, state, term.tensor).to(torch.float64))
        subscripts.append("".join(letters[label] for label in term.labels))
    out = "".join(letters[label] for label in relation.bias.labels)
    return torch.einsum(f"{','.join(subscripts)}->{out}", *operands)


def _viewed(d: Derivation, state: State, tensor: str) -> Any:
    """Return an effective weight, or the view of one that a use declares."""
    from nnspec.compiler.emit.load import effective_weight

    carrier = d.related.carriers[tensor]
    if carrier.weight is not None:
        return effective_weight(carrier.weight, tensor.rpartition(".")[0], state)
    for stated in d.related.stated:
        relation = stated.relation
        if isinstance(relation, Move) and relation.output == tensor:
            given = _viewed(d, state, relation.input)
            if all(len(ins) == 1 and len(outs) == 1 for ins, outs in relation.groups):
                order = {outs[0]: ins[0] for ins, outs in relation.groups}
                return given.permute([order[axis] for axis in range(given.dim())])
            return given.reshape([int(str(n)) for n in carrier.shape])
    raise KeyError(tensor)
