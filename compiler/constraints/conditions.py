"""Conditions on the indices of an entry, such as `(i, j) => abs(i - j) <= 2`.

In: an anonymous function as written, evaluated for whole numbers. Out: a `Condition`: Python text that means the
same for one entry (plain numbers) and for all at once (tensors of indices). Nothing of a spec's text enters
it but numbers and operators; what else a condition may not say is refused here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.values import Refused, describe
from nnspec.dsl.errors.topologies import WrongCondition
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument, Binary, CallOf, Conditional, Expression, Lambda, Name, Unary

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator

LARGEST = 2**53  # whole numbers up to here are the same in every kind of arithmetic
_MOST_INDEX = 2**22

_ARITHMETIC: dict[str, type[ast.operator]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.Div,
    "//": ast.FloorDiv,
    "%": ast.Mod,
    "^": ast.Pow,
}
_COMPARISONS: dict[str, type[ast.cmpop]] = {
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "==": ast.Eq,
    "!=": ast.NotEq,
}


class Condition(Node):
    """What must hold of the indices of an entry for it to exist."""

    names: tuple[str, ...]
    text: str  # for tensors: `abs(i - j) <= 2`
    plain: str  # for numbers; they differ in `and`, `or`, `not` and `if`
    exact: bool  # whether every number in it is whole
    partial: bool = False  # whether there are more indices than it names
    span: Span | None = None

    def __repr__(self) -> str:
        """Return the function as it stands in emitted text."""
        names = (*self.names, "*_") if self.partial else self.names
        return f"lambda {', '.join(names)}: {self.text}"

    def __str__(self) -> str:
        """Return the function as a spec writes it."""
        return f"({', '.join(self.names)}) => {self.plain.replace('**', '^')}"

    def __call__(self, *indices: Any) -> Any:
        """Return which entries exist, of tensors of indices."""
        import torch

        return eval(repr(self), {"torch": torch})(*indices)

    def rows(self, shape: tuple[int, ...]) -> Iterator[bytes]:
        """Yield, for each first index, one byte (0 or 1) for each entry; ZeroDivisionError if it divides so.

        Indices that the condition does not name are left out.
        """
        first, *others = self.names
        loops = "".join(f" for {n} in range({size})" for n, size in zip(others, shape[1:], strict=False))
        entries = f"[{self.plain}{loops}]" if loops else f"[{self.plain}]"
        row: Callable[[int], list[bool]] = eval(f"lambda {first}: {entries}", {"abs": abs})
        for number in range(shape[0]):
            yield bytes(row(number))


class _Part:
    """One translated part: its two forms, whether it is a truth value, its bound, whether it is whole."""

    def __init__(
        self, plain: ast.expr, many: ast.expr, bound: float, truth: bool = False, whole: bool = True
    ) -> None:
        self.plain = plain
        self.many = many
        self.bound = bound
        self.truth = truth
        self.whole = whole


def condition(evaluator: Evaluator, function: Lambda) -> Condition:
    """Return the condition that an anonymous function of indices states, or raise Refused."""
    writer = _Writer(evaluator, function)
    if len(writer.names) < len(function.parameters):
        raise Refused(WrongCondition(function.span, why="it gives two indices one name"))
    part = writer.part(function.body)
    if not part.truth or isinstance(part.many, ast.Constant):
        why = "it must compare its indices" if not part.truth else "it names no index"
        raise Refused(WrongCondition(function.body.span, why=why))
    return Condition(
        names=tuple(writer.names.values()),
        text=ast.unparse(ast.fix_missing_locations(part.many)),
        plain=ast.unparse(ast.fix_missing_locations(part.plain)),
        exact=writer.exact,
        span=function.span,
    )


class _Writer:
    def __init__(self, evaluator: Evaluator, function: Lambda) -> None:
        self.evaluator = evaluator
        self.names = _safe_names(function.parameters)
        self.exact = True

    def part(self, written: Expression) -> _Part:
        if not _mentions(written, self.names):
            return self.constant(written)
        match written:
            case Name(name=name):
                name = self.names[name]
                return _Part(ast.Name(name), ast.Name(name), _MOST_INDEX)
            case Unary(operator=operator, operand=operand):
                return self.unary(operator, self.part(operand), written)
            case Binary(tolerance=None):
                return self.binary(written)
            case Conditional(value=value, condition=test, otherwise=otherwise):
                return self.choice(self.truth(test), self.part(value), self.part(otherwise), written)
            case CallOf(function=Name(name="abs"), arguments=(Argument(name=None, value=value),)):
                inner = self.number(value)
                return _Part(
                    _call("abs", inner.plain), _call("abs", inner.many), inner.bound, whole=inner.whole
                )
            case _:
                why = "it may use indices, numbers, `abs`, arithmetic, comparisons, `and`, `or`, `not`, `if`"
                raise Refused(WrongCondition(written.span, why=why))

    def constant(self, written: Expression) -> _Part:
        value: Any = self.evaluator.expression(written)
        if not isinstance(value, bool | int | float):
            raise Refused(WrongCondition(written.span, why=f"this is {describe(value)}, not a number"))
        whole = isinstance(value, int)
        self.exact = self.exact and whole
        part = _Part(ast.Constant(value), ast.Constant(value), abs(value), isinstance(value, bool), whole)
        return self.bounded(part, written)

    def unary(self, operator: str, inner: _Part, written: Expression) -> _Part:
        if (operator == "not") != inner.truth:
            raise Refused(WrongCondition(written.span, why=f"`{operator}` cannot stand before this"))
        if operator == "not":
            inverted = ast.UnaryOp(ast.Invert(), inner.many)
            return _Part(ast.UnaryOp(ast.Not(), inner.plain), inverted, 1, truth=True)
        if operator == "+":
            return inner
        plain, many = (ast.UnaryOp(ast.USub(), side) for side in (inner.plain, inner.many))
        return _Part(plain, many, inner.bound, whole=inner.whole)

    def binary(self, written: Binary) -> _Part:
        operator = written.operator
        if operator in ("and", "or"):
            left, right = self.truth(written.left), self.truth(written.right)
            plain = ast.BoolOp(ast.And() if operator == "and" else ast.Or(), [left.plain, right.plain])
            bits = ast.BitAnd() if operator == "and" else ast.BitOr()
            return _Part(plain, ast.BinOp(left.many, bits, right.many), 1, truth=True)
        left, right = self.number(written.left), self.number(written.right)
        if operator in _COMPARISONS:
            plain, many = (
                ast.Compare(a, [_COMPARISONS[operator]()], [b])
                for a, b in ((left.plain, right.plain), (left.many, right.many))
            )
            return _Part(plain, many, 1, truth=True)
        if operator not in _ARITHMETIC:
            raise Refused(WrongCondition(written.span, why=f"`{operator}` is not for indices"))
        whole = left.whole and right.whole and operator != "/"
        self.exact = self.exact and whole
        plain, many = (
            ast.BinOp(a, _ARITHMETIC[operator](), b)
            for a, b in ((left.plain, right.plain), (left.many, right.many))
        )
        return self.bounded(_Part(plain, many, _bound(operator, left, right), whole=whole), written)

    def choice(self, test: _Part, then: _Part, otherwise: _Part, written: Expression) -> _Part:
        if then.truth != otherwise.truth:
            raise Refused(WrongCondition(written.span, why="both branches must be numbers, or both truths"))
        if isinstance(test.plain, ast.Constant):
            return then if test.plain.value else otherwise
        chosen = ast.Call(
            ast.Attribute(ast.Name("torch"), "where"), [test.many, then.many, otherwise.many], []
        )
        plain = ast.IfExp(test.plain, then.plain, otherwise.plain)
        whole, bound = then.whole and otherwise.whole, max(then.bound, otherwise.bound)
        return _Part(plain, chosen, bound, then.truth, whole)

    def number(self, written: Expression) -> _Part:
        part = self.part(written)
        if part.truth:
            raise Refused(WrongCondition(written.span, why="this is true or false, not a number"))
        return part

    def truth(self, written: Expression) -> _Part:
        part = self.part(written)
        if not part.truth:
            raise Refused(WrongCondition(written.span, why="this is a number, not true or false"))
        return part

    def bounded(self, part: _Part, written: Expression) -> _Part:
        if part.bound > LARGEST:
            raise Refused(WrongCondition(written.span, why="its numbers may go beyond 2^53"))
        return part


def _bound(operator: str, left: _Part, right: _Part) -> float:
    """Return how large the result can be; infinite where that is not known."""
    constant = getattr(right.plain, "value", None)
    match operator:
        case "+" | "-":
            return left.bound + right.bound
        case "*":
            return left.bound * right.bound
        case "%":
            return right.bound
        case "^":
            small = isinstance(constant, int) and 0 <= constant <= 4
            return max(left.bound, 1) ** constant if small and constant is not None else float("inf")
        case _ if constant:
            return left.bound / abs(constant)
        case _:  # a whole number is at least 1, unless it is 0, which is found when the mask is made
            return left.bound if right.whole else float("inf")


def _mentions(written: Any, names: dict[str, str]) -> bool:
    match written:
        case Name(name=name):
            return name in names
        case Unary(operand=operand):
            return _mentions(operand, names)
        case Binary(left=left, right=right):
            return _mentions(left, names) or _mentions(right, names)
        case Conditional(value=value, condition=test, otherwise=otherwise):
            return any(_mentions(part, names) for part in (value, test, otherwise))
        case CallOf(arguments=arguments):
            return any(_mentions(argument.value, names) for argument in arguments)
        case _:
            return False


def _call(name: str, argument: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name), [argument], [])


def _safe_names(names: tuple[str, ...]) -> dict[str, str]:
    """Return names that mean nothing else in Python: those of the spec, or numbered ones."""
    from keyword import iskeyword

    taken = {"abs", "torch"}
    if all(n.isascii() and not n.startswith("_") and not iskeyword(n) and n not in taken for n in names):
        return {name: name for name in names}
    return {name: f"index_{place}" for place, name in enumerate(names)}
