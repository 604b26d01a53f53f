"""What symmetries an activation has: decided from its expression, never guessed.

In: the typed block of an activation. Out: `Traits`; what cannot be decided is not claimed. The block is read
on both halves of the line and at zero: odd is f(-t) = -f(t) for t > 0 and f(0) = 0, homogeneous of degree k is
t^k times a constant on each half. Without a value at zero neither is claimed, since what reads the
result may make one of it: `where(1 / x > 0, x, 1)`.
"""

from __future__ import annotations

from fractions import Fraction

from nnspec.compiler.ir import Apply, Block, Call
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Elementwise, Sum
from nnspec.compiler.traits.form import Form, T, Undecided, Undefined
from nnspec.compiler.traits.halves import half, site_of
from nnspec.dsl.node import Node


class Traits(Node):
    """What is known of f, as an `Elementwise` relation says it; `linear` c is f(x) = c x.

    `entrywise` says that each entry of f(x) comes from the same entry of x.
    """

    entrywise: bool = False
    parity: str = "none"
    degree: float | None = None
    linear: float | None = None
    shifts: float | None = None
    complete: bool = False


def traits(block: Block) -> Traits:
    """Return what is known of the symmetries of an activation: from its expression, and from tested claims."""
    found = decided(block)
    if not found.entrywise:
        return found
    for claim in block.claims:
        if claim.degree is None and found.parity == "none":
            found = found.replace(parity=claim.word)
        elif claim.degree is not None and found.degree is None:
            found = found.replace(degree=claim.degree)
    return found


def decided(block: Block) -> Traits:
    """Return what the expression of an activation says about its symmetries."""
    try:
        right, left, middle = (_side(block, side) for side in (1, -1, 0))
    except Undecided:
        return Traits(entrywise=is_entrywise(block))
    if right is None or left is None:
        return Traits(entrywise=True)
    shifts, linear = _slope(right, left, middle), None
    if shifts is not None and middle is not None and not middle.terms:
        shifts, linear = None, shifts
    return Traits(
        entrywise=True,
        parity=_parity(right, left, middle),
        degree=_degree(right, left, middle),
        linear=linear,
        shifts=shifts,
        complete=_is_complete(block),
    )


def is_entrywise(block: Block) -> bool:
    """Return whether the expression can be read as a function of one entry on some half of the line."""
    for side in (1, -1, 0):
        try:
            half(block, side)
        except Undecided:
            continue
        except Undefined:
            return True
        else:
            return True
    return False


def _side(block: Block, side: int) -> Form | None:
    """Return the form on one side, None where the function has no value."""
    try:
        return half(block, side)
    except Undefined:
        return None


def _parity(right: Form, left: Form, middle: Form | None) -> str:
    if left == right:
        return "even"
    opposite = left == right.scaled(Fraction(-1))
    return "odd" if opposite and middle is not None and not middle.terms else "none"


def _degree(right: Form, left: Form, middle: Form | None) -> float | None:
    degrees = {form.degree for form in (right, left) if form.terms}
    found = degrees.pop() if len(degrees) == 1 else None
    if found is None or (found != 0 and (middle is None or middle.terms)):
        return None
    return float(found)


def _slope(right: Form, left: Form, middle: Form | None) -> float | None:
    """Return k if f(x) = k x + e with numbers k and e."""
    key = ((T, Fraction(1)),)
    offset = right.terms.get((), Fraction(0))
    slope = right.terms.get(key, Fraction(0))
    line = Form({key: slope, (): offset})
    turned = Form({key: -slope, (): offset})
    same = right == line and left == turned and middle == Form({(): offset})
    return float(slope) if same and slope else None


def _is_complete(block: Block) -> bool:
    """Return whether f(x) = c g(k x) with numbers c and k, and g is known to have no further symmetries."""
    found = [_link(statement) for statement in block.plain]
    functions = [link for link in found if isinstance(link, Elementwise)]
    chained = all(link is not None for link in found) and not block.children
    return chained and len(functions) == 1 and functions[0].complete


def _link(statement: Apply | Call) -> Elementwise | Sum | None:
    """Return the relation of a step that multiplies by a number or applies a function of one number."""
    if not isinstance(statement, Apply) or len(statement.inputs) != 1:
        return None
    relations = operation(statement.operation.operation).relate(site_of(statement.operation)) or ()
    if len(relations) != 1:
        return None
    (found,) = relations
    if isinstance(found, Sum):
        return found if found.coefficients[0] != 0 and found.terms[0].labels == found.output.labels else None
    return found if isinstance(found, Elementwise) and found.shifts is None else None
