"""Equations of a rule as sums of products: names looked up, parameters as numbers, local values in their place.

In: an expression whose names `bind` has checked, and what the rule's other lines define. Out: a `Sum`, or `Refused` with
the error. Entry-by-entry functions are those operations that give a single number for single numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.arithmetic import calculate, is_number, negate
from nnspec.compiler.ir import Type
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site
from nnspec.compiler.operations.registry import operations
from nnspec.compiler.rules.written.terms import (
    Atom,
    Sum,
    add,
    constant,
    multiply,
    number,
    power,
    scale,
    side,
    single,
    sum_text,
    union,
)
from nnspec.compiler.values import Refused, describe
from nnspec.dsl.bind_rule import dotted
from nnspec.dsl.errors.rules import RuleExpression
from nnspec.dsl.rule_words import FUNCTIONS, GATHERED, INTO, READ
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import (
    Binary,
    Boolean,
    CallOf,
    Conditional,
    Expression,
    Member,
    Name,
    Number,
    Text,
    Unary,
)

_ARITHMETIC = ("+", "-", "*", "/", "^")
_COMPARISONS = (">", "<", ">=", "<=", "==", "!=")
_MOST_TERMS = 64
_ONE = "an equation speaks of one synapse and one sample: `post * pre` is an outer product"
_SCALAR = Type(axes=())


class Reader:
    """Reads the equations of one rule with its options."""

    def __init__(
        self, options: Mapping[str, Any], phases: tuple[str, ...], feedback: Mapping[str, str]
    ) -> None:
        self.options = options
        self.phases = phases
        self.feedback = feedback  # where each begins: "output", "module" or "drive"
        self.local: dict[str, Sum] = {}

    def read(self, expression: Expression) -> Sum:
        """Return an expression as a sum of products."""
        known = self.plain(expression)
        if known is not None:
            return self.settled(known, expression.span)
        match expression:
            case Name() | Member():
                return self.name(expression)
            case Unary(operator="-", operand=operand):
                return scale(self.read(operand), -1.0)
            case Unary(operator="+", operand=operand):
                return self.read(operand)
            case Binary():
                return self.binary(expression)
            case CallOf():
                return self.call(expression)
            case Conditional(value=value, condition=condition, otherwise=otherwise):
                return self.read(value if self.decided(condition) else otherwise)
            case _:
                raise _refused(expression, "this has no meaning in a learning rule", _ONE)

    # ---------------------------------------------------------------------------- what is known beforehand

    def plain(self, expression: Expression) -> Any:
        """Return a number, text or truth value that parameters decide; None for what a network does."""
        match expression:
            case Number(value=value) | Text(value=value) | Boolean(value=value):
                return value
            case Name(name=name) if name not in self.local:
                return self.options.get(name)
            case Unary(operator=operator, operand=operand):
                value = self.plain(operand)
                if value is None or operator == "+":
                    return value
                return (not value) if operator == "not" else negate(value, expression.span)
            case Binary(operator=operator, left=left, right=right) if operator != "@":
                first = self.plain(left)
                second = None if first is None else self.plain(right)
                return None if second is None else _calculated(operator, first, second, expression.span)
            case Conditional(value=value, condition=condition, otherwise=otherwise):
                chosen = self.plain(condition)
                return None if chosen is None else self.plain(value if chosen else otherwise)
            case _:
                return None

    def settled(self, value: Any, span: Span) -> Sum:
        if isinstance(value, bool):
            return number(1.0 if value else 0.0)
        if not is_number(value):
            raise Refused(
                RuleExpression(
                    span, why=f"an equation is about numbers, and this is {describe(value)}", help=None
                )
            )
        return number(float(value))

    def decided(self, condition: Expression) -> bool:
        value = self.plain(condition)
        if not isinstance(value, bool):
            help_text = "of values that differ from unit to unit, `where(condition, a, b)` chooses"
            raise _refused(
                condition, "`if` is decided before anything runs, by the rule's parameters", help_text
            )
        return value

    # ------------------------------------------------------------------------------------------------ names

    def name(self, expression: Name | Member) -> Sum:
        path = dotted(expression)
        if path in self.local:
            return self.local[path]
        if path in self.feedback:  # learned feedback, in its own update
            return single(
                Atom(
                    word="feedback",
                    text=path,
                    name=path,
                    spaces=frozenset({"edge"}),
                    batched=False,
                    span=expression.span,
                )
            )
        head, _, rest = path.partition(".")
        phase, path = (head, rest) if head in self.phases else ("", path)
        word = READ[path]
        text = f"{phase}.{path}" if phase else path
        spaces = frozenset(word.spaces)
        return single(
            Atom(
                word="read",
                text=text,
                name=path,
                phase="" if path in ("weight", "bias") else phase,
                spaces=spaces,
                batched=word.batched,
                span=expression.span,
            )
        )

    # -------------------------------------------------------------------------------------------- operators

    def binary(self, expression: Binary) -> Sum:
        operator, span = expression.operator, expression.span
        left, right = self.read(expression.left), self.read(expression.right)
        match operator:
            case "+":
                return add(left, right)
            case "-":
                return add(left, scale(right, -1.0))
            case "*":
                found = multiply(left, right)
            case "/":
                below = self.power(right, -1.0, span)
                inverse = (
                    single(self.made("power", "^", (right, number(-1.0)), span)) if below is None else below
                )
                found = multiply(left, inverse)
            case "^":
                found = self.raised(left, right, span)
            case _ if operator in _COMPARISONS:
                return single(self.made("compare", operator, (left, right), span))
            case _:
                raise _refused(expression, f"`{operator}` has no meaning in a learning rule", _ONE)
        if len(found) > _MOST_TERMS:
            raise _refused(
                expression, f"this comes to {len(found)} products", "name a part of it, or write less"
            )
        return found

    def raised(self, base: Sum, exponent: Sum, span: Span) -> Sum:
        value = constant(exponent)
        found = None if value is None else self.power(base, value, span)
        return single(self.made("power", "^", (base, exponent), span)) if found is None else found

    def power(self, base: Sum, exponent: float, span: Span) -> Sum | None:
        """Return base^exponent as a product of powers, None where it is none; Refused where it is no number."""
        known = constant(base)
        try:
            real = known is None or isinstance(known**exponent, float)
        except ArithmeticError:
            real = False
        if not real:
            raise Refused(RuleExpression(span, why=f"{known:g}^{exponent:g} is no number", help=None))
        return power(base, exponent)

    def made(self, word: str, name: str, of: tuple[Sum, ...], span: Span) -> Atom:
        """Return an atom that is computed entry by entry from others."""
        spaces, batched = union(of)
        inside = [sum_text(value) for value in of]
        text = f" {name} ".join(f"({t})" for t in inside) if len(of) == 2 and word != "call" else ""
        text = text or f"{name}({', '.join(inside)})"
        return Atom(word=word, text=text, name=name, of=of, spaces=spaces, batched=batched, span=span)

    # -------------------------------------------------------------------------------------------- functions

    def call(self, expression: CallOf) -> Sum:
        name = dotted(expression.function)
        given = tuple(argument.value for argument in expression.arguments)
        head, _, last = name.rpartition(".")
        if last in GATHERED and head in self.phases:
            return tuple(term.replace(steps=head, gathered=last) for term in self.one(expression, given))
        if name in self.feedback:
            return self.sent(name, self.one(expression, given), expression.span)
        if name in FUNCTIONS:
            return self.own(name, self.one(expression, given), expression)
        return self.elementwise(name, tuple(self.read(value) for value in given), expression)

    def one(self, expression: CallOf, given: tuple[Expression, ...]) -> Sum:
        if len(given) != 1:
            raise _refused(expression, f"`{dotted(expression.function)}` takes one value", None)
        return self.read(given[0])

    def sent(self, name: str, value: Sum, span: Span) -> Sum:
        """Return a value after it went through feedback."""
        begins = self.feedback[name]
        found = side(union((value,))[0])
        expected = {"output": "post", "module": "module"}.get(begins, "post")
        if found != expected:
            what = {"output": "the output", "module": "the module"}.get(begins, "the target units")
            why = f"`{name}` leads from {what}, and this lives {PLACES[found]}"
            raise Refused(RuleExpression(span, why=why, help=f"`{name}({begins}.error)` is what it is for"))
        spaces = frozenset({"pre" if begins in INTO else "post"})
        text = f"{name}({sum_text(value)})"
        return single(Atom(word="sent", text=text, name=name, of=(value,), spaces=spaces, span=span))

    def own(self, name: str, value: Sum, expression: CallOf) -> Sum:
        """Return a function that has a meaning of its own in rules."""
        spaces, batched = union((value,))
        place, span = side(spaces), expression.span
        text = f"{name}({sum_text(value)})"
        kept: frozenset[str] = spaces
        if constant(value) is not None and name in ("average", "dense"):
            return value
        match name:
            case "sum" | "mean" if place in ("post", "pre"):
                kept = frozenset()
            case "average" if place in ("post", "pre", "none"):
                batched = False
            case "incoming" if place == "pre":
                kept = frozenset({"post"})
            case "outgoing" if place == "post":
                kept = frozenset({"pre"})
            case "running" if place == "post" or spaces == frozenset({"post", "edge"}):
                kept = spaces
            case "dense":
                kept = frozenset({"post", "pre"})
            case _:
                why = f"`{name}` is {FUNCTIONS[name]}, and this lives {PLACES[place]}"
                raise _refused(expression, why, None)
        return single(Atom(word=name, text=text, of=(value,), spaces=kept, batched=batched, span=span))

    def elementwise(self, name: str, values: tuple[Sum, ...], expression: CallOf) -> Sum:
        """Return an operation of the library applied entry by entry."""
        rule = operations().get(name)
        kinds = tuple(map(kind, values))
        if rule is None or not takes_numbers(rule, kinds) or any(a.name for a in expression.arguments):
            why = f"`{name}` is no function of single numbers, entry by entry"
            raise _refused(expression, why, _ONE)
        numbers = [constant(value) for value in values]
        known = [value for value in numbers if value is not None]
        if len(known) == len(numbers):
            result = rule.number(site(rule, kinds).arguments, tuple(known))
            if result is not None:
                return number(float(result))
        return single(self.made("call", name, values, expression.span))


PLACES = {
    "post": "on target units",
    "pre": "on source units",
    "own": "on what is learned",
    "none": "on no unit: it is one number",
    "module": "on the units of a module",
    "rest": "on other parameters",
    "both": "on pairs of units",
}


def kind(value: Sum) -> str:
    """Return the kind of a value: "bool" of a comparison, "real" of any other."""
    alone = value[0].factors[0][0] if len(value) == 1 and len(value[0].factors) == 1 else None
    return "bool" if alone is not None and alone.word == "compare" else "real"


def site(rule: Operation, kinds: tuple[str, ...]) -> Site:
    """Return the site of an operation on single numbers of these kinds, with its defaults."""
    defaults = {argument.name: argument.default for argument in rule.arguments}
    inputs = tuple(_SCALAR.replace(dtype=own) for own in kinds)
    return Site(arguments=defaults, inputs=inputs, outputs=(_SCALAR,), batched=False)


def takes_numbers(rule: Operation, kinds: tuple[str, ...]) -> bool:
    """Return whether an operation is a function of single numbers of these kinds that gives one."""
    (least, most), count = rule.inputs, len(kinds)
    if rule.owns or rule.keeps or rule.draws or count < least or (most is not None and count > most):
        return False
    if any(argument.required for argument in rule.arguments):
        return False
    try:
        made = rule.shape(site(rule, kinds))
    except (ShapeProblem, LookupError, TypeError):
        return False
    return len(made) == 1 and not made[0].axes and rule.relate(site(rule, kinds)) is not None


def _calculated(operator: str, left: Any, right: Any, span: Span) -> Any:
    return calculate(operator, left, right, span)


def _refused(expression: Expression, why: str, help_text: str | None) -> Refused:
    return Refused(RuleExpression(expression.span, why=why, help=help_text))
