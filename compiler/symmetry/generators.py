"""Elements of the group as functions on state dicts.

In: a derived group. Out: generators, each of which takes a state dict of torch tensors (buffers too) and
gives one with the same outputs. Continuous ones take a parameter t, 0 being the identity. What a
constraint's map does to a stored weight is undone: the effective weight moves as derived. torch is
imported by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import state_key
from nnspec.compiler.relations import Contract, Move, Term
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.linear import Number
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.shifts import Biases
from nnspec.compiler.symmetry.spaces import Atom, AxisOf
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
Solution = dict[Hashable, Number]


class Generator(Node):
    """An element of the group, or a one-parameter family of them (t = 0 is the identity)."""

    family: str  # permutation, sign, scale, shift, linear, orthogonal
    wire: str | None
    apply: Callable[[State, float], State]

    def __call__(self, state: State, t: float = 1.0) -> State:
        return self.apply(state, t)


def generators(group: SymmetryGroup, seed: int = 0) -> Iterator[Generator]:
    """Yield generators of every family that was derived, those of GL and O wires drawn from `seed`."""
    d = group.derivation
    for wire in group.wires:
        if wire.size > 1 and not wire.is_fixed and _is_monomial(wire):
            yield Generator(family="permutation", wire=wire.name, apply=_permutation(d, wire))
        elif wire.size > 1 and not wire.is_fixed:
            yield from _matrices(d, wire, seed)
    for family, system in (("sign", d.signs), ("scale", d.scales)):
        for name, solution in _solutions(d, system):
            yield Generator(family=family, wire=name, apply=_scaling(d, system, solution, family))
    for name, solution in _solutions(d, d.shifts):
        yield Generator(family="shift", wire=name, apply=_shifting(d, solution))
    for item in d.forgotten:
        yield Generator(family="shift", wire=item.weight, apply=_forgetting(d, item, seed))


def key_of(weight: str) -> str:
    """Return the state-dict key of a weight's path."""
    return state_key(weight, "")


def _is_monomial(wire: Wire) -> bool:
    return not wire.group.startswith(("GL", "O("))


def _stored(d: Derivation, state: State) -> list[str]:
    """Return the weights and buffers that a state holds as real numbers."""
    return [
        carrier.name
        for carrier in d.related.carriers.values()
        if carrier.kind in ("weight", "buffer")
        and key_of(carrier.name) in state
        and state[key_of(carrier.name)].dtype.is_floating_point
    ]


def _axes(d: Derivation, tensor: str) -> list[AxisOf]:
    return [(tensor, axis) for axis in range(len(d.related.carriers[tensor].shape))]


# ---------------------------------------------------------------------------------- permutations and matrices


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


def _act_on_space(d: Derivation, space: Atom, state: State, act: Callable[[Any, Atom], Any]) -> State:
    changed = dict(state)
    for name in _stored(d, state):
        for axis in _axes(d, name):
            for segment in d.spaces.atoms(axis):
                for atom in segment:
                    if d.spaces.space(atom) == space:
                        key = key_of(name)
                        changed[key] = _on_factor(d, changed[key], atom, lambda x, atom=atom: act(x, atom))
    return changed


def _permutation(d: Derivation, wire: Wire) -> Callable[[State, float], State]:
    """A cyclic permutation of the indices after two of them are swapped; t counts how often."""

    def apply(state: State, t: float) -> State:
        import torch

        order = torch.arange(wire.size)
        for _ in range(round(t)):
            order = torch.cat([order[1:2], order[2:], order[:1]])
        return _act_on_space(d, wire.space, state, lambda x, _: x[order.to(x.device)])

    return apply


def _matrices(d: Derivation, wire: Wire, seed: int) -> Iterator[Generator]:
    """Yield exp(t X) for a random X of the Lie algebra of a GL or O wire."""
    orthogonal = wire.group.startswith("O(")
    centred = orthogonal and not wire.group.startswith(f"O({wire.size})")
    signs = {} if orthogonal else _orientations(d, wire.space)

    def apply(state: State, t: float) -> State:
        import torch

        random = torch.Generator().manual_seed(seed)
        x = torch.randn(wire.size, wire.size, generator=random, dtype=torch.float64) / wire.size
        if orthogonal:
            x = x - x.T
        if centred:
            keep = torch.eye(wire.size, dtype=torch.float64) - 1.0 / wire.size
            x = keep @ x @ keep
        linear_algebra: Any = torch.linalg
        matrix: Tensor = linear_algebra.matrix_exp(t * x)
        dual: Tensor = linear_algebra.inv(matrix).T

        def act(given: Tensor, atom: Atom) -> Tensor:
            acting = dual if signs.get(atom, 1) < 0 else matrix
            return (acting.to(given) @ given.reshape(given.shape[0], -1)).reshape(given.shape)

        return _act_on_space(d, wire.space, state, act)

    family = "orthogonal" if orthogonal else "linear"
    yield Generator(family=family, wire=wire.name, apply=apply)


def _orientations(d: Derivation, space: Atom) -> dict[Atom, Number]:
    """Return for each atom of a space whether it moves with the wire (1) or dually (-1)."""
    system = d.scales.vectors[space]
    solution = system.basis()[0]
    live = [a for a in d.spaces.classes()[space] if a in solution and d.related.carriers[a.tensor].live]
    forward = solution[live[0]]
    return {atom: solution[atom] * forward for atom in d.spaces.classes()[space] if atom in solution}


# ------------------------------------------------------------------------------------ scales, signs and shifts


def _solutions(d: Derivation, system: Unknowns) -> Iterator[tuple[str | None, Solution]]:
    """Yield a basis of solutions that move weights: common ones, and one index of one space at a time.

    An index is named by (atom, index) in the solution. Of a space on which permutations act, one index
    stands for all.
    """
    buffers = {c.name for c in d.related.carriers.values() if c.kind == "buffer"}
    alone = {name for buffer in buffers for name in system.joint_unknowns(buffer)}
    for solution in system.joint.basis():
        if not alone.issuperset(solution):
            yield None, solution
    for space, equations in system.vectors.items():
        size = d.spaces.sizes[space]
        indices = range(1, size) if space in d.spaces.fixed else range(1, min(size, 3))
        if d.kinds[space].name != "monomial" and space not in d.spaces.fixed and system is not d.shifts:
            continue  # part of GL or O
        for solution in equations.basis():
            for index in indices:
                yield space.tensor, {(atom, index): number for atom, number in solution.items()}


def _field(d: Derivation, solution: Solution, tensor: str) -> Any | None:
    """Return what a solution says of a tensor, as an array that broadcasts to it; None for nothing."""
    import torch

    carrier = d.related.carriers[tensor]
    shape = [size if isinstance(size, int) else 1 for size in carrier.shape]
    total = torch.full(shape, float(solution.get(("k", tensor), 0)), dtype=torch.float64)
    for _, axis in _axes(d, tensor):
        layout = d.spaces.layouts[tensor, axis]
        parts: list[Any] = []
        for index, segment in enumerate(layout):
            part = torch.full(
                segment, float(solution.get(("e", tensor, axis, index), 0)), dtype=torch.float64
            )
            for factor, size in enumerate(segment):
                column = torch.zeros(size, dtype=torch.float64)
                atom = Atom(tensor=tensor, axis=axis, segment=index, factor=factor)
                for place in range(1, size):
                    column[place] = float(solution.get((atom, place), 0))
                view = [1] * len(segment)
                view[factor] = size
                part = part + column.view(view)
            parts.append(part.flatten())
        view = [1] * len(shape)
        view[axis] = -1
        total = total + torch.cat(parts).view(view)
    return total if bool((total != 0).any()) else None


def _scaling(
    d: Derivation, system: Unknowns, solution: Solution, family: str
) -> Callable[[State, float], State]:
    def apply(state: State, t: float) -> State:
        changed = dict(state)
        for name in _stored(d, state):
            field = _field(d, solution, name)
            if field is None:
                continue
            own = changed[key_of(name)]
            field = field.to(own)
            action = d.related.carriers[name].action
            degree = 1.0 if action is None or not action.degree else action.degree
            factor = 1 - 2 * (field % 2) if family == "sign" else (t * field / degree).exp()
            changed[key_of(name)] = own * factor
        return changed

    return apply


def _shifting(d: Derivation, solution: Solution) -> Callable[[State, float], State]:
    biases = Biases(d.related)

    def apply(state: State, t: float) -> State:
        changed = dict(state)
        for name in _stored(d, state):
            field = _field(d, solution, name)
            if field is not None:
                changed[key_of(name)] = changed[key_of(name)] + t * field.to(changed[key_of(name)])
        for uses in biases.uses.values():
            relation = uses[0]
            if relation.bias is not None and biases.takes_up(relation):
                key = key_of(biases.source(relation.bias.tensor))
                step = _bias_step(d, state, solution, relation)
                if step is not None:
                    changed[key] = changed[key] + t * step.reshape(changed[key].shape).to(changed[key])
        return changed

    return apply


def _bias_step(d: Derivation, state: State, solution: Solution, relation: Contract) -> Any | None:
    """Return (shift behind a map) - (map of the shift before it): what its bias takes up."""
    assert relation.bias is not None
    labels = relation.bias.labels
    behind = _field(d, solution, relation.output.tensor)
    live = next(term for term in relation.terms if d.related.carriers[term.tensor].live)
    before = _field(d, solution, live.tensor)
    step: Any = None
    if behind is not None:
        step = _first_of_others(behind, relation.output, labels)
    if before is not None:
        image = _image(d, state, relation, live, before)
        step = -image if step is None else step - image
    return step


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


def _forgetting(d: Derivation, item: Forgotten, seed: int) -> Callable[[State, float], State]:
    def apply(state: State, t: float) -> State:
        import torch

        key = key_of(item.weight)
        random = torch.Generator().manual_seed(seed)
        own = state[key]
        shape = [1 if axis == item.axis else size for axis, size in enumerate(own.shape)]
        added = torch.randn(shape, generator=random, dtype=torch.float64).to(own)
        changed = {**state, key: own + t * added}
        if item.bias is not None:
            bias = key_of(item.bias)
            changed[bias] = changed[bias] - t * item.total * added.reshape(changed[bias].shape)
        return changed

    return apply
