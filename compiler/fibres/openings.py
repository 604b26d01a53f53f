"""How one use of an operation is opened: what of its inputs is seen, and what flows on in place of its outputs.

In: the relations that the operation states of itself. A use is left whole where it is linear in what flows. A function of
entries is cut, and what it lets through becomes unknowns beside the weights: the scale s of what it reads, the shift c. Of
its inputs only what no unknown explains is seen, x - s x - c; what flows on is numbers r of our own with the scale and the
shift that the relation says. Unknowns vary along the labels that all terms share. All is exact to first order at s = c = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.flat import Use
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import (
    Choice,
    Contract,
    Elementwise,
    Fixed,
    Middle,
    Move,
    Normalize,
    Part,
    Planes,
    Relation,
    Softmax,
    Sum,
    Term,
)
from nnspec.compiler.symmetry.relate import flow, site_of
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

# What flows in, the numbers of our own, and the unknowns -> what is seen, and what flows on.
Act = Callable[[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]], tuple[list[Any], tuple[Any, ...]]]


class Opening(Node):
    """A use that is cut: the shapes of its unknowns without the batch, and what it does.

    With `is_fed`, what flows on is what the use makes of the numbers that `act` gives in place of its input.
    """

    unknowns: tuple[tuple[int, ...], ...]
    act: Any  # an Act
    is_fed: bool = False


def opening_of(use: Use, live: tuple[bool, ...], leave: str) -> Opening | None:
    """Return how a use is opened, `live` saying which of its inputs depend on the network's; None if it stays whole.

    `leave` says what else is not cut: "powers" and products of values, norms by kept "statistics", which are linear in
    evaluation, or "steps", functions without a slope, whose inputs are not seen then.
    """
    rule = operation(use.primitive.operation)
    flowing = [given for given, is_live in zip(use.primitive.inputs, live, strict=True) if is_live]
    if all(given.dtype not in ("real", "complex") for given in flowing) and not rule.draws:
        return None  # a choice among weights: there is no derivative by what it reads
    relations = None if rule.draws else rule.relate(site_of(use.primitive))
    if relations is None:
        return _PLAIN
    if leave == "steps" and any(isinstance(item, Elementwise) and item.degree == 0 for item in relations):
        return _UNSEEN
    names = {f"in{index}" for index, is_live in enumerate(live) if is_live}
    if _is_whole(relations, set(names), len(use.outputs), leave):
        return None
    stated = [item for item in relations if not isinstance(item, Fixed | Middle)]
    sizes = [
        tuple(size if isinstance(size, int) else 0 for size in given.shape) for given in use.primitive.inputs
    ]
    if len(live) == 1 == len(use.outputs):
        match stated:
            case [Normalize() as norm, *rest] if _is_fed(norm, rest):
                return _norm(norm, sizes[0])
            case [Elementwise() as each, Contract() as total] if not use.weights and _is_extreme(each, total):
                return _extreme(each, total, sizes[0])
            case _:
                pass
    if len(stated) != 1 or use.weights or not all(live) or len(use.outputs) != 1:
        return _PLAIN
    return _opened(stated[0], sizes) or _PLAIN


def _is_fed(norm: Normalize, rest: list[Relation]) -> bool:
    """Whether a use is a norm, and what is linear in what it gives."""
    if norm.input != "in0" or norm.group == "unit":
        return False
    return norm.output == "out0" or _is_whole(tuple(rest), {norm.output}, 1, "")


def _is_whole(relations: tuple[Relation, ...], live: set[str], outputs: int, leave: str) -> bool:
    """Whether all relations are linear in what is live, or else of what is left whole."""
    for relation in relations:
        read, made = flow(relation)
        if isinstance(relation, Part):
            read, made = (relation.whole, relation.part), (relation.whole, relation.part)
        if not live.intersection(read):
            continue
        match relation:
            case Sum() | Move() | Part() | Planes() | Middle() | Fixed():
                pass
            case Contract():
                if not _is_product(relation, live, leave == "powers"):
                    return False
            case Elementwise() if leave == "powers" and is_power(relation):
                pass
            case Normalize() if leave == "statistics" and relation.mean is not None:
                pass
            case _:
                return False
        live.update(made)
    return all(f"out{index}" in live for index in range(outputs))


def _is_product(relation: Contract, live: set[str], polynomial: bool) -> bool:
    powers = relation.powers or (1,) * len(relation.terms)
    flowing = [power for term, power in zip(relation.terms, powers, strict=True) if term.tensor in live]
    return all(power > 0 for power in flowing) if polynomial else flowing == [1]


def is_power(relation: Elementwise) -> bool:
    """Whether f(x) = f(1) x^k: of degree k for positive numbers, with the parity of k."""
    degree = relation.degree
    if len(relation.terms) != 1 or degree is None or degree < 1 or degree != int(degree):
        return False
    return relation.parity == ("odd" if int(degree) % 2 else "even")


# -------------------------------------------------------------------------------------------------- single relations


def _opened(relation: Relation, sizes: list[tuple[int, ...]]) -> Opening | None:
    match relation:
        case Choice():
            return _choice(relation, sizes)
        case Elementwise():
            return _function(relation, sizes)
        case Contract():
            return _product(relation, sizes)
        case Softmax():
            return _softmax(relation)
        case _:
            return None


def _function(relation: Elementwise, sizes: list[tuple[int, ...]]) -> Opening | None:
    """Cut a function of entries; of a maximum of several values, what they share flows on."""
    scales = relation.degree is not None or relation.logarithm is not None
    shifts = relation.shifts is not None or relation.growth is not None
    if len(relation.terms) > 1 and relation.shifts == 1 and relation.degree == 1:
        return _of_differences(relation, sizes, 0)
    shape = _shared(relation, sizes)
    if shape is None or not (scales or shifts):
        return None
    degree, growth = relation.degree or 0.0, relation.growth or 0.0
    shift, logarithm = relation.shifts or 0.0, relation.logarithm or 0.0

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        s = unknown[0] if scales else 0.0
        c = unknown[-1] if shifts else 0.0
        (made,) = own
        seen = [x - s * x - c for x in given]
        if not (made.is_floating_point() or made.is_complex()):
            return seen, own
        return seen, (made * (1.0 + degree * s + growth * c) + shift * c + logarithm * s,)

    return Opening(unknowns=(shape,) * (scales + shifts), act=act)


def _of_differences(relation: Elementwise, sizes: list[tuple[int, ...]], first: int) -> Opening | None:
    """f(x_1, .., x_n) = x_n + f(x_1 - x_n, .., 0): the last value flows on, and of the others the differences are seen."""
    shape = _shared(relation.replace(terms=relation.terms[first:]), sizes[first:])
    if shape is None:
        return None

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        (s,) = unknown
        (made,) = own
        *others, last = given[first:]
        seen = [(x - last) * (1.0 - s) for x in others]
        return [*given[:first], *seen], (last + made * (1.0 + s),)

    return Opening(unknowns=(shape,), act=act)


def _is_extreme(each: Elementwise, total: Contract) -> bool:
    """Whether a function of all entries along some axes passes on what is added to all of them."""
    passes = each.shifts == 1 and each.degree == 1 and len(each.terms) == 1 == len(total.terms)
    return passes and total.terms[0] == each.output and total.ones == 1 and not total.powers


def _extreme(each: Elementwise, total: Contract, size: tuple[int, ...]) -> Opening:
    """Cut the largest of some entries: what they share flows on, and what is left of them is seen."""
    kept = total.output.labels
    axes = [axis for axis, label in enumerate(each.terms[0].labels) if label not in kept]
    shape = tuple(1 if axis in axes else own for axis, own in enumerate(size))

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        (x,), (made,), (s,) = given, own, unknown
        shared = x.mean([axis + 1 for axis in axes], keepdim=True)
        flows = shared.reshape(made.shape) + made * (1.0 + s.reshape(made.shape[1:]))
        return [(x - shared) * (1.0 - s)], (flows,)

    return Opening(unknowns=(shape,), act=act)


def _choice(relation: Choice, sizes: list[tuple[int, ...]]) -> Opening | None:
    """Cut a choice between values: the condition is seen, and of two values their difference."""
    if any(constant not in (None, 0.0) for constant in relation.constants):
        return None
    if len(relation.terms) == 3:
        return _of_differences(relation, sizes, 1)
    shape = _shared(relation.replace(terms=relation.terms[1:]), sizes[1:])
    if len(relation.terms) != 2 or shape is None:
        return None

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        condition, x = given
        (s,), (made,) = unknown, own
        return [condition, x * (1.0 - s)], (made * (1.0 + s),)

    return Opening(unknowns=(shape,), act=act)


def _product(relation: Contract, sizes: list[tuple[int, ...]]) -> Opening | None:
    """Cut a product of values: each may be scaled along what it shares with the output."""
    out = relation.output.labels
    powers = relation.powers or (1,) * len(relation.terms)
    if relation.bias is not None or not all(_is_plain(term) for term in (*relation.terms, relation.output)):
        return None
    shapes = [
        tuple(size if label in out else 1 for size, label in zip(own, term.labels, strict=True))
        for own, term in zip(sizes, relation.terms, strict=True)
    ]

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        (made,) = own
        rate = 0.0
        for s, term, power in zip(unknown, relation.terms, powers, strict=True):
            rate = rate + power * _placed(s, term.labels, out)
        return [x * (1.0 - s) for x, s in zip(given, unknown, strict=True)], (made * (1.0 + rate),)

    return Opening(unknowns=tuple(shapes), act=act)


def product_of_powers(use: Use, factors: list[Use]) -> Opening | None:
    """Return how a product of exponentials is opened, entry by entry: it is one of the sum. None if it is none.

    The exponentials give on what they read (`PASSED`), and of that only the sum is seen, but for a shift.
    """
    (product,) = _single(use) or (None,)
    inner = [found[0] for factor in factors if (found := _single(factor))]
    if (
        not isinstance(product, Contract)
        or len(inner) < max(2, len(product.terms))
        or product.bias is not None
    ):
        return None
    if any(term.labels != product.output.labels or not _is_plain(term) for term in product.terms):
        return None
    rates: list[float] = []
    for relation, power in zip(inner, product.powers or (1,) * len(inner), strict=True):
        if not isinstance(relation, Elementwise) or relation.growth is None or len(relation.terms) != 1:
            return None
        rates.append(power * relation.growth)
    shape = tuple(size if isinstance(size, int) else 0 for size in use.primitive.outputs[0].shape)

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        (made,), (c,) = own, unknown
        total = sum(rate * x for rate, x in zip(rates, given, strict=True))
        return [total - c], (made * (1.0 + c),)

    return Opening(unknowns=(shape,), act=act)


def _single(use: Use) -> tuple[Relation] | None:
    """Return what a use without weights says of itself, where that is one relation."""
    stated = operation(use.primitive.operation).relate(site_of(use.primitive)) or ()
    return stated if len(stated) == 1 and not use.weights else None


def _norm(relation: Normalize, size: tuple[int, ...]) -> Opening:
    """Cut before a norm: a scale is forgotten, and where the mean is subtracted, a shift.

    What has a norm already is given on as it is, times a constant, whatever the norm.
    """
    shape = tuple(1 if axis in relation.axes else own for axis, own in enumerate(size))
    centred = relation.group == "centred"

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        (x,), (made,), (s,) = given, own, unknown
        axes = [axis + 1 for axis in relation.axes]
        if centred:
            x, made = (item - item.mean(axes, keepdim=True) for item in (x, made))
        return [x * (1.0 - s)], (made / made.square().mean(axes, keepdim=True).sqrt(),)

    return Opening(unknowns=(shape,), act=act, is_fed=True)


def _softmax(relation: Softmax) -> Opening:
    """Cut a softmax: a shift is forgotten; its outputs may sum to a constant."""

    def act(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
        (x,), (made,) = given, own
        axis = relation.axis + 1
        if relation.total is not None:
            made = relation.total * made.softmax(axis)
        return [x - x.mean(axis, keepdim=True)], (made,)

    return Opening(unknowns=(), act=act)


def _plain(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
    return list(given), own


def _unseen(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
    return [], own


def _passed(given: tuple[Any, ...], own: tuple[Any, ...], unknown: tuple[Any, ...]) -> Any:
    return [], given


PASSED = Opening(unknowns=(), act=_passed)
_PLAIN = Opening(unknowns=(), act=_plain)
_UNSEEN = Opening(unknowns=(), act=_unseen)


def _is_plain(term: Term) -> bool:
    return all(label and not label.startswith("#") for label in term.labels) and len(set(term.labels)) == len(
        term.labels
    )


def _shared(relation: Elementwise, sizes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the shape of what may vary: 1 where an axis is told apart or lost. None if terms have other axes."""
    first, out = relation.terms[0].labels, relation.output.labels
    if any(term.labels != first for term in relation.terms) or len(out) != len(first):
        return None
    return tuple(
        size if label and label == after and not label.startswith("#") else 1
        for size, label, after in zip(sizes[0], first, out, strict=True)
    )


def _placed(unknown: Tensor, labels: tuple[str, ...], out: tuple[str, ...]) -> Tensor:
    """Return an unknown of a term as one that stretches along the axes of the output."""
    kept = [label for label in labels if label in out]
    given = unknown.reshape([size for size, label in zip(unknown.shape, labels, strict=True) if label in out])
    given = given.permute([kept.index(label) for label in out if label in kept])
    sizes = iter(given.shape)
    return given.reshape([next(sizes) if label in kept else 1 for label in out])
