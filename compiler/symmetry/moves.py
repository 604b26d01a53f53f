"""The moves that elements of a group are made of, and what each does to a state dict.

A move permutes the indices of one space, multiplies every tensor entry by entry, lets a matrix act on one
space, or adds constants that biases take up. Each takes a state dict of torch tensors (buffers too) and gives
another with the same outputs. What a constraint's map does to a stored weight is undone: the effective weight
moves as derived. torch is imported by the functions that touch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nnspec.compiler.ir import state_key
from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.flips import Centred
from nnspec.compiler.symmetry.forgetting import Forgotten
from nnspec.compiler.symmetry.images import bias_step
from nnspec.compiler.symmetry.incidence import Incidence
from nnspec.compiler.symmetry.neurons import Rearrange
from nnspec.compiler.symmetry.parallel import Parallel, Twin
from nnspec.compiler.symmetry.places import State, act_on_strand, degree_of, key_of, on_atoms, stored
from nnspec.compiler.symmetry.relate import Carrier
from nnspec.compiler.symmetry.shifts import Biases
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.compiler.symmetry.swaps import Swap, inverted
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


def applied(d: Derivation, moves: Iterable[AnyMove], state: State) -> State:
    """Return the state after moves, the first of which acts first.

    A weight that a constraint makes of other tensors moves itself; what is stored is then made from it anew.
    """
    moved = given = in_force(d, state)
    for move in moves:
        moved = move.apply(d, moved)
    return lowered(d, state, moved, given)


def in_force(d: Derivation, state: State) -> State:
    """Return a state with the effective weights that are made of other tensors, or whose stored tensor is not all in use.

    Moves act on such a state; `lowered` returns to what is stored.
    """
    from nnspec.compiler.emit.load import effective_weight

    lifted = {
        key_of(carrier.name): effective_weight(carrier.weight, carrier.name.rpartition(".")[0], state)
        for carrier in d.related.carriers.values()
        if carrier.weight is not None and _is_made(carrier, state)
    }
    return {**state, **lifted}


def _is_made(carrier: Carrier, state: State) -> bool:
    """Whether a weight is made of what a state stores; one of few values may be stored as these (`in_use`)."""
    if carrier.weight is None or carrier.action is None or not carrier.action.is_lifted:
        return False
    path = carrier.name.rpartition(".")[0]
    return all(state_key(path, tensor.name) in state for tensor in carrier.weight.stored)


def lowered(d: Derivation, state: State, moved: State, given: State | None = None) -> State:
    """Return the numbers to store for weights in force, in the keys of a state.

    What is stored for a weight that is the same object in `given` stays; else it is made from the weight alone.
    """
    from nnspec.compiler.emit.load import code_function, effective_weight
    from nnspec.compiler.rewrites.hard import fitted

    found = {key: moved[key] for key in state}
    for carrier in d.related.carriers.values():
        if carrier.weight is None or not _is_made(carrier, state):
            continue
        key = key_of(carrier.name)
        if given is not None and moved[key] is given[key]:
            found.update({name: state[name] for name in (key,) if name in state})
            continue
        (first, *_) = carrier.weight.maps
        if not first.replaces:
            found[key] = moved[key]
        if first.start is None:
            continue
        made: Any = code_function(first.start)(moved[key])
        parts = cast("tuple[Tensor, ...]", made if isinstance(made, tuple) else (made,))
        path = carrier.name.rpartition(".")[0]
        names = [state_key(path, tensor.name) for tensor in first.stored]
        found.update(zip(names, parts, strict=True))
        if first.has_own_gradient and any(tensor.kind == "learned" for tensor in first.stored):
            # It starts from a mean over all entries, also over those that a mask removes.
            found[names[0]] = fitted(parts[0], effective_weight(carrier.weight, path, found), moved[key])
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
        return self.replace(order=inverted(self.order))


class Multiply(Node):
    """Every tensor times exp(amounts), or with `sign` times -1 where they are odd.

    Where that flips a function that is odd about a constant, biases take up the shift; not so if `is_centred`,
    between two moves of `centring`.
    """

    given: Amounts
    sign: bool
    is_centred: bool = False

    def apply(self, d: Derivation, state: State) -> State:
        changed = dict(state)
        for name in stored(d, state):
            field = self.given.field(d, name)
            if field is not None:
                own = changed[key_of(name)]
                factor = 1 - 2 * (field % 2) if self.sign else (field / degree_of(d, name)).exp()
                changed[key_of(name)] = own * factor.to(own)
        if self.sign and not self.is_centred:
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


def centring(d: Derivation, factor: float) -> Shift:
    """Return the shift of every function that is odd about a constant by that constant times a factor.

    After a shift by -1 times it, each is read as an odd one: flips change signs alone, and no bias.
    """
    import torch

    arrays: dict[str, dict[tuple[Atom, ...], Tensor]] = {}
    for item in d.centred:
        for atom, number in item.shifted:
            step = torch.full((d.spaces.sizes[atom],), factor * item.centre * number, dtype=torch.float64)
            own = arrays.setdefault(atom.tensor, {})
            own[(atom,)] = own[(atom,)] + step if (atom,) in own else step
    return Shift(given=Amounts(joint={}, arrays=arrays))


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


class Mix(Node):
    """A matrix that keeps masks acts on a strand; what the masks remove is taken out before."""

    given: Incidence
    matrix: Tensor

    def apply(self, d: Derivation, state: State) -> State:
        import torch

        changed = dict(state)
        for name, kept in self.given.masks.items():
            own = changed[key_of(name)]
            changed[key_of(name)] = own * torch.from_numpy(kept.copy()).to(own)
        return Transform(space=self.given.space, matrix=self.matrix).apply(d, changed)

    def inverse(self) -> Mix:
        import torch

        linear_algebra: Any = torch.linalg
        return self.replace(matrix=linear_algebra.inv(self.matrix))


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
                step = bias_step(d, state, self.given, relation, effective)
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
    """Units of parallel strands, of all in one row: new unit i is the old unit `order[i]`."""

    item: Parallel
    order: tuple[int, ...]

    def apply(self, d: Derivation, state: State) -> State:
        import torch

        changed = dict(state)
        for twins in self.item.roles:
            rows = parallel_rows(d, changed, twins)
            every: Any = torch.cat(rows)[list(self.order)]
            moved: tuple[Tensor, ...] = every.split([len(own) for own in rows])
            for twin, own in zip(twins, moved, strict=True):
                key = key_of(twin.atom.tensor)
                row = own / twin.factor
                changed[key] = on_atoms(d, changed[key], (twin.atom,), lambda _, row=row: row)
        return changed

    def inverse(self) -> Exchange:
        return self.replace(order=inverted(self.order))


def parallel_rows(d: Derivation, state: State, twins: tuple[Twin, ...]) -> list[Tensor]:
    """Return what the units of parallel strands hold in one role, [units, others] of each strand."""
    found: list[Tensor] = []

    def read(given: Tensor) -> Tensor:
        found.append(given)
        return given

    for twin in twins:
        on_atoms(d, state[key_of(twin.atom.tensor)], (twin.atom,), read)
    return [twin.factor * own for twin, own in zip(twins, found, strict=True)]


AnyMove: TypeAlias = "Exchange | Swap | Permute | Multiply | Transform | Mix | Shift | Add | Rearrange"
