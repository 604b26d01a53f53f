"""How an operation ties the axes of what it takes to the axes of what it gives.

The vocabulary of the `relate` rules: each operation answers with a tuple of these, and the symmetry
solver turns them into index spaces (union-find over factors of axes), log-scales (over the rationals),
signs (over GF(2)) and shifts (over the reals). A slot names a factor of an axis of one of the
operation's tensors: `Slot(tensor="in0", axis=-1)`, `Slot(tensor="weight", axis=0)`,
`Slot(tensor="out0", axis=0, factor=1)`. Axes count without the batch.
"""

from __future__ import annotations

from nnspec.dsl.node import Node


class Slot(Node):
    """A factor of an axis of a tensor: `in0`, `in1`, ..., `out0`, ..., or the name of a weight."""

    tensor: str
    axis: int
    factor: int = 0


class Relation(Node):
    """One statement about the group that may act on the tensors of an operation."""


class Same(Relation):
    """One index space and one linear action on all these slots (a residual, a copy, a reshape)."""

    slots: tuple[Slot, ...]


class Fixed(Relation):
    """Nothing but the identity acts here: positions that the operation tells apart."""

    slots: tuple[Slot, ...]
    why: str


class Elementwise(Relation):
    """out = f(in) entry by entry.

    `parity` is "odd", "even" or "none"; `degree` k means f(a x) = a^k f(x) for a > 0, None if for no k
    (tanh), "linear" for the identity.
    """

    input: str
    output: str
    parity: str
    degree: float | str | None
    shifted: bool = False  # f(x + c) = f(x) + c' for some c', as for linear maps


class Sum(Relation):
    """out = in0 + in1 + ...: one action on all, shifts add. `signs` is -1 for a subtracted input."""

    inputs: tuple[str, ...]
    output: str
    signs: tuple[int, ...]


class Product(Relation):
    """out = in0 * in1 entry by entry: log-scales and signs add, shifts vanish.

    `powers` is -1 for a divisor.
    """

    inputs: tuple[str, ...]
    output: str
    powers: tuple[int, ...] = (1, 1)


class Linear(Relation):
    """out = W in over these slots: `weight_out` transforms as `output`, `weight_in` dually to `input`.

    `bias` names the tensor that takes up shifts, None if there is none (then shifts pass as W c).
    """

    weight: str
    output: Slot
    input: Slot
    weight_out: Slot
    weight_in: Slot
    bias: str | None


class Contract(Relation):
    """out = sum over k of in0[.., k] in1[k, ..]: the two contracted slots transform dually."""

    left: Slot
    right: Slot
    output: str


class Affine(Relation):
    """out = gain * in + bias along one slot, either learned tensor may be absent."""

    input: str
    output: str
    slot: Slot
    gain: str | None
    bias: str | None


class Normalize(Relation):
    """out = in / norm(in) along slots (after centring if `centred`): one scale is forgotten.

    `group` is what still acts along the normalised slots: "orthogonal" (RMS norm), "permutation"
    (centred: layer norm) or "unit" (each index by itself, over the batch: batch norm).
    """

    input: str
    output: str
    slots: tuple[Slot, ...]
    centred: bool
    group: str


class Average(Relation):
    """out = mean or sum of in over these slots, or linear in them with equal coefficients."""

    input: str
    output: str
    slots: tuple[Slot, ...]
    weight: float | None = None  # None: 1 over the size


class Softmax(Relation):
    """out = softmax(in) along a slot: a common shift of all entries is forgotten, output is fixed."""

    input: str
    output: str
    slot: Slot
