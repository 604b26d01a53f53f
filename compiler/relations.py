"""How an operation ties the axes of what it takes to the axes of what it gives.

The vocabulary of the `relate` rules: each operation answers with a tuple of these, and the symmetry
solver turns them into index spaces (union-find), log-scales (over the rationals), signs (over GF(2)) and
shifts (over the reals). Tensors of a site are `in0`, `in1`, .., `out0`, .., the names of its weights, and
middles that it declares. A `Term` gives a tensor's axes labels, as an einsum does: equal labels are one
index space. A label that begins with `#` is fixed: the operation tells its positions apart. The empty
label is an axis of size 1 that stretches. Axes count without the batch.
"""

from __future__ import annotations

from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node

Labels = tuple[str, ...]


class Term(Node):
    """A tensor and the label of each of its axes."""

    tensor: str
    labels: Labels


class Relation(Node):
    """One statement about the group that may act on the tensors of an operation."""


class Middle(Relation):
    """Declares a tensor between two relations of one operation."""

    tensor: str
    shape: tuple[Size, ...]


class Fixed(Relation):
    """Nothing but the identity acts on these axes."""

    tensor: str
    axes: tuple[int, ...]
    why: str


class Elementwise(Relation):
    """out = f(terms) entry by entry.

    `degree` k means f(a x) = a^k f(x) for a > 0, None that there is no k; `shifts` k means f(x + c) = f(x) + k c; of
    several terms, if all are scaled or shifted alike. Of a function of one term: `parity` is "odd", "even", "none", for
    truth values "complement" (f(-x) is not f(x)) and "exchange" (f(not b) = -f(b)). `complete` says that a network of such
    functions has, at generic weights, no continuous symmetry beyond these (not so for polynomials, exp and log).
    `centre` c means f(-x) = 2 c - f(x), odd about a constant other than 0. `curve` names functions that theorems
    speak of: "hyperbolic" the hyperbolic tangent, of which others are affine images, "rectifier" the positive part.
    `growth` k means f(x + c) = exp(k c) f(x), `logarithm` k that f(a x) = f(x) + k log a for a > 0.
    `is_symmetric`: the terms of a function of several may change places.
    """

    terms: tuple[Term, ...]
    output: Term
    parity: str = "none"
    degree: float | None = None
    shifts: float | None = None
    complete: bool = False
    centre: float | None = None
    curve: str = ""
    is_symmetric: bool = False
    growth: float | None = None
    logarithm: float | None = None


class Choice(Elementwise):
    """out = the first of two values where the first term holds, the second elsewhere.

    `constants` are the two values; None stands for the next of the terms that follow.
    """

    constants: tuple[float | None, float | None] = (None, None)


class Sum(Relation):
    """out = sum of coefficient * term, stretched over the labels that a term lacks.

    A fixed label that only a term has is an entry looked up in a table.
    """

    terms: tuple[Term, ...]
    output: Term
    coefficients: tuple[float, ...]


class Contract(Relation):
    """out = product of terms to their powers, summed over the labels that the output lacks; then + bias.

    One live term and weights: a linear map. Several live terms: a product. No weight: a sum or mean, whose
    value on ones is `ones` (None: it differs from place to place). `uniform` says that a constant input
    gives a constant output (no padding).
    """

    terms: tuple[Term, ...]
    output: Term
    powers: tuple[int, ...] = ()
    bias: Term | None = None
    uniform: bool = True
    ones: float | None = None


class Move(Relation):
    """The same numbers under other axes: groups of input and output axes agree in row-major order."""

    input: str
    output: str
    groups: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


class Part(Relation):
    """`part` is the entries from `start` on of an axis of `whole`; other axes agree in order.

    `part_axis` None: one entry is taken and the axis disappears.
    """

    whole: str
    part: str
    axis: int
    start: Size
    part_axis: int | None


class Normalize(Relation):
    """out = in / norm(in) along axes (after centring if `centred`): a scale is forgotten.

    `group` is what still acts along the axes: "orthogonal" (root mean square), "centred" (layer norm: what
    fixes the vector of ones), or "unit" (each index by itself, over the batch: batch norm). `mean` and
    `variance` name buffers that hold the statistics of the input. Exact up to `epsilon`.
    """

    input: str
    output: str
    axes: tuple[int, ...]
    group: str
    epsilon: float
    mean: str | None = None
    variance: str | None = None


class Planes(Relation):
    """out = in, turned in planes by angles that depend on the position.

    `plane` is an axis of size 2, the coordinates of a plane; `frequency` is the axis that numbers the planes,
    each of which has an angular speed of its own. Both tensors have the same axes. What commutes with all of
    these turns is a complex number for each plane, a + b i as the matrix (a, -b; b, a), perhaps another one for
    each index of the other axes.
    """

    input: str
    output: str
    plane: int
    frequency: int


class Softmax(Relation):
    """out = softmax(in) along an axis: a common shift is forgotten; `total` is the sum of the output."""

    input: str
    output: str
    axis: int
    total: float | None


def axes_of(count: int, stem: str = "a") -> Labels:
    """Return labels for so many axes."""
    return tuple(f"{stem}{index}" for index in range(count))


def aligned_terms(names: tuple[str, ...], shapes: tuple[tuple[Size, ...], ...]) -> tuple[Term, ...]:
    """Return terms aligned from the right, as broadcasting does; a 1 among larger sizes has no label."""
    rank = max(len(shape) for shape in shapes)
    full: list[Size] = [1] * rank
    for shape in shapes:
        for place, size in enumerate(shape, start=rank - len(shape)):
            full[place] = size if size != 1 else full[place]
    labels = axes_of(rank)
    return tuple(
        Term(
            tensor=name,
            labels=tuple(
                labels[place] if size == full[place] else ""
                for place, size in enumerate(shape, start=rank - len(shape))
            ),
        )
        for name, shape in zip(names, shapes, strict=True)
    )


def renamed(relation: Relation, names: dict[str, str]) -> Relation:
    """Return the relation with other names for its tensors."""

    def term(given: Term) -> Term:
        return given.replace(tensor=names[given.tensor])

    match relation:
        case Elementwise() | Sum():
            return relation.replace(
                terms=tuple(term(t) for t in relation.terms), output=term(relation.output)
            )
        case Contract():
            bias = None if relation.bias is None else term(relation.bias)
            terms = tuple(term(t) for t in relation.terms)
            return relation.replace(terms=terms, output=term(relation.output), bias=bias)
        case Move() | Softmax() | Planes():
            return relation.replace(input=names[relation.input], output=names[relation.output])
        case Normalize():
            return relation.replace(
                input=names[relation.input],
                output=names[relation.output],
                mean=None if relation.mean is None else names[relation.mean],
                variance=None if relation.variance is None else names[relation.variance],
            )
        case Part():
            return relation.replace(whole=names[relation.whole], part=names[relation.part])
        case Fixed() | Middle():
            return relation.replace(tensor=names[relation.tensor])
        case _:
            raise TypeError(f"no such relation: {type(relation).__name__}")
