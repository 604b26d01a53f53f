"""An activation on one half of the line: x = t, x = -t or x = 0, for t > 0, as a normal form.

In: the typed block of an activation. On a half-line the sign of x is known, so that conditions such as
`x > 0` are decided and homogeneous functions are powers. What an operation does is read from its relations
and from its rule for numbers; no operation is known by name.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from nnspec.compiler.ir import Apply, Block, Call, Primitive
from nnspec.compiler.operations.operation import Operation, Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Choice, Contract, Elementwise, Relation, Sum
from nnspec.compiler.traits.form import Atom, Form, T, Undecided, Undefined, form_of, number
from nnspec.dsl.dimensions import Dim


class Entry:
    """A value of the block: a function of x entry by entry (`follows`), or of parameters alone."""

    def __init__(self, form: Form, follows: bool) -> None:
        self.form = form
        self.follows = follows


def half(block: Block, side: int) -> Form:
    """Return the output of an activation for x = side * t; raise Undecided or Undefined."""
    given = form_of(T).scaled(Fraction(side)) if side else number(0)
    return _block(block, (Entry(given, True),), "").form


def _block(block: Block, inputs: tuple[Entry, ...], path: str) -> Entry:
    known = dict(zip((port.value for port in block.inputs), inputs, strict=True))
    for statement in block.plain:
        given = tuple(known[value] for value in statement.inputs)
        if len(statement.outputs) != 1:
            raise Undecided
        found = (
            _applied(statement, given)
            if isinstance(statement, Apply)
            else _called(block, statement, given, path)
        )
        known[statement.outputs[0]] = found
    return known[block.outputs[0].value]


def _called(block: Block, statement: Call, given: tuple[Entry, ...], path: str) -> Entry:
    child = block.child(statement.child)
    own = f"{path}{child.name}"
    for instance in child.instances:
        if isinstance(instance, Block) and instance.function:
            given = (_block(instance, given, f"{own}."),)
        elif not given:  # a learned parameter
            given = (Entry(form_of(Atom(text=own, degree=Fraction(0))), False),)
        else:
            raise Undecided
    return given[0]


def _applied(statement: Apply, given: tuple[Entry, ...]) -> Entry:
    primitive = statement.operation
    rule = operation(primitive.operation)
    follows = any(entry.follows for entry in given)
    if any(isinstance(value, Dim) for value in primitive.options.values()):
        raise Undecided
    relations = rule.relate(site_of(primitive))
    if not follows:
        return Entry(_opaque(primitive, tuple(entry.form for entry in given)), False)
    if relations is None or len(relations) != 1 or not _is_entrywise(relations[0], given):
        raise Undecided
    forms = tuple(entry.form for entry in given)
    return Entry(_relation(relations[0], rule, primitive, forms), True)


def site_of(primitive: Primitive) -> Site:
    """Return the site of a typed operation that owns nothing."""
    return Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)


def _is_entrywise(relation: Relation, given: tuple[Entry, ...]) -> bool:
    """Whether each entry of the output follows the same entry of x. Parameters may be stretched."""
    if not isinstance(relation, (Elementwise, Sum, Contract)) or len(relation.terms) != len(given):
        return False
    labels = relation.output.labels
    if any(label.startswith("#") for label in labels):
        return False
    if any(not set(term.labels) <= {*labels, ""} for term in relation.terms):
        return False
    return all(t.labels == labels for t, entry in zip(relation.terms, given, strict=True) if entry.follows)


def _relation(relation: Relation, rule: Operation, primitive: Primitive, given: tuple[Form, ...]) -> Form:
    match relation:
        case Sum():
            total = number(0)
            for form, coefficient in zip(given, relation.coefficients, strict=True):
                total = total.plus(form.scaled(Fraction(coefficient)))
            return total
        case Contract():
            product = number(1)
            for form, power in zip(given, relation.powers or (1,) * len(given), strict=True):
                product = product.times(form.power(Fraction(power)))
            return product
        case Choice():
            return _choice(relation, given)
        case Elementwise() if len(given) == 1:
            return _function(relation, rule, primitive, given[0])
        case _:
            return _several(rule, primitive, given)


def _function(relation: Elementwise, rule: Operation, primitive: Primitive, given: Form) -> Form:
    """Return f(given) for a function of one number."""

    def at(value: float | Fraction) -> Form:
        return _number(rule, primitive, (Fraction(value),))

    if relation.shifts is not None:
        return given.scaled(Fraction(relation.shifts)).plus(at(0))
    if given.sign == 0:
        return at(0)
    if relation.degree is not None and given.sign is not None:
        # f(s m) = m^degree f(s) for m > 0
        size = given.scaled(Fraction(given.sign)).power(Fraction(relation.degree))
        return at(given.sign).times(size)
    constant = given.constant
    if constant is not None and primitive.outputs[0].dtype == "bool":
        return at(constant)
    flips = relation.parity in ("odd", "even") and given.leading < 0
    inside = given.scaled(Fraction(-1)) if flips else given
    degree = _composed(inside, relation.degree)
    found = form_of(Atom(text=_text(primitive, (inside,)), degree=degree))
    return found.scaled(Fraction(-1)) if flips and relation.parity == "odd" else found


def _choice(relation: Choice, given: tuple[Form, ...]) -> Form:
    condition, *tensors = given
    waiting = iter(tensors)
    options = [next(waiting) if constant is None else number(constant) for constant in relation.constants]
    if condition.constant is not None:
        return options[0] if condition.constant else options[1]
    degrees = {form.degree for form in options if form.terms}
    degree = degrees.pop() if condition.degree == 0 and len(degrees) == 1 else None
    # A common sign comes out: where(c, -a, -b) is -where(c, a, b).
    sign = Fraction(-1 if next((o.leading for o in options if o.terms), 1) < 0 else 1)
    text = f"choice({condition.text}; {options[0].scaled(sign).text}; {options[1].scaled(sign).text})"
    return form_of(Atom(text=text, degree=degree)).scaled(sign)


def _several(rule: Operation, primitive: Primitive, given: tuple[Form, ...]) -> Form:
    """Return a function of several numbers: known where all are, and exactly (of truth values)."""
    constants = tuple(form.constant for form in given)
    known = tuple(value for value in constants if value is not None)
    if len(known) == len(given) and primitive.outputs[0].dtype == "bool":
        return _number(rule, primitive, known)
    return _opaque(primitive, given)


def _opaque(primitive: Primitive, given: tuple[Form, ...]) -> Form:
    still = all(form.degree == 0 or not form.terms for form in given)
    return form_of(Atom(text=_text(primitive, given), degree=Fraction(0) if still else None))


def _composed(inside: Form, degree: float | None) -> Fraction | None:
    if inside.degree == 0:
        return Fraction(0)
    return None if degree is None or inside.degree is None else inside.degree * Fraction(degree)


def _number(rule: Operation, primitive: Primitive, values: tuple[Fraction, ...]) -> Form:
    """Return the operation on exact numbers."""
    try:
        found: Any = rule.number(primitive.options, values)
    except (ArithmeticError, ValueError):
        raise Undefined from None
    if found is None:
        raise Undecided
    if isinstance(found, complex) or found != found or found in (float("inf"), float("-inf")):
        raise Undefined
    return number(found)


def _text(primitive: Primitive, given: tuple[Form, ...]) -> str:
    inside = "; ".join(form.text for form in given)
    return f"{primitive.operation}{primitive.arguments!r}({inside})"
