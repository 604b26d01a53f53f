"""Looks up every name in a definition of dynamics, and reads its parts.

dynamics leaky(rate: activation = hard_sigmoid, tau: real = 1.0) {
  drive = incoming(rate(s)) + bias
  s' = (-s + derivative(rate, s) * drive) / tau
}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from nnspec.dsl.definitions import Definition, Module
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.systems import WrongEquation, WrongTerm
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    Argument,
    Assignment,
    CallOf,
    DynamicsDefinition,
    Equation,
    Expression,
    Member,
    Name,
)

if TYPE_CHECKING:
    from nnspec.dsl.bind_expression import ExpressionBinder

RESERVED = ("solve", "clip", "gradient")  # arguments that all dynamics take
VALUES = ("s", "bias", "drive")
FUNCTIONS = {"incoming": 1, "outgoing": 1, "derivative": 2}  # and how many arguments they take
_ANSWERS = ("s", "energy")
_HELP = "write one line `s' = ..` (a flow), `s = ..` (a map) or `energy = ..`"


def bind_dynamics(binder: ExpressionBinder, item: DynamicsDefinition) -> None:
    """Check the lines of dynamics whose parameters are in scope."""
    for parameter in item.parameters:
        taken = (*RESERVED, *VALUES, *FUNCTIONS)
        if parameter.name in taken:
            why = f"`{parameter.name}` has a meaning in all dynamics"
            help_text = "give the parameter another name"
            binder.bag.add(WrongEquation(parameter.span, name=item.name, why=why, help=help_text))
    _answers(binder, item)
    for name in (*VALUES, *FUNCTIONS):
        binder.scope.setdefault(name, None)
    parts = [line for line in item.body if isinstance(line, Assignment) and _answer(line) is None]
    for line in parts:
        for name in line.names:
            if name not in binder.scope:
                binder.later.setdefault(name, line.span)
    _drive(binder, item, parts)
    for line in item.body:
        if isinstance(line, Equation | Assignment):
            _expression(binder, line.value)
        if line in parts and isinstance(line, Assignment):
            for name in line.names:
                if name not in (*VALUES, *FUNCTIONS):
                    binder.define(name, line.span)


def _answers(binder: ExpressionBinder, item: DynamicsDefinition) -> None:
    """Exactly one line says what the states do."""
    found: list[tuple[str, Expression | None]] = []
    lines = [line for line in item.body if _answer(line) is not None]
    for line in item.body:
        wrong = None
        if isinstance(line, Equation) and line.name != "s":
            wrong = f"`{line.name}'` is the rate of nothing; the state is called `s`"
        elif isinstance(line, Assignment) and (len(line.names) > 1 or line.type is not None):
            wrong = "a line gives one name to one expression"
        elif isinstance(line, Assignment) and {*line.names} & {"bias", *FUNCTIONS}:
            wrong = "`bias`, `incoming`, `outgoing` and `derivative` have a meaning of their own"
        if wrong is not None:
            binder.bag.add(WrongEquation(line.span, name=item.name, why=wrong, help=_HELP))
            found.append((wrong, None))
    if len(lines) == 1 or found:
        return
    if not lines:
        span = item.name_span or item.span
        why = "no line says what a state does"
        binder.bag.add(WrongEquation(span, name=item.name, why=why, help=_HELP))
        return
    related = (Related(span=lines[0].span, label="the first one"),)
    why = "two lines say what a state does"
    binder.bag.add(WrongEquation(lines[1].span, related, name=item.name, why=why, help="keep one of them"))


def _drive(binder: ExpressionBinder, item: DynamicsDefinition, parts: list[Assignment]) -> None:
    """`drive` may have a line of its own; that line and those above it do not read it."""
    own = next((number for number, line in enumerate(parts) if line.names == ("drive",)), None)
    if own is None:
        return
    for line in parts[: own + 1]:
        found = next((n for n in _nodes(line.value) if isinstance(n, Name) and n.name == "drive"), None)
        if found is not None:
            related = (Related(span=parts[own].span, label="defined here"),)
            why = "`drive` is read before its own line has said what it is"
            help_text = "write `incoming(s) + bias`, what it is without a line of its own"
            binder.bag.add(WrongEquation(found.span, related, name=item.name, why=why, help=help_text))


def _expression(binder: ExpressionBinder, expression: Expression) -> None:
    before = len(binder.bag)
    binder.expression(expression)
    if len(binder.bag) > before:
        return
    for call in _calls(expression):
        function = call.function
        name = function.name if isinstance(function, Name) else ""
        count = FUNCTIONS.get(name)
        plain = all(a.name is None and a.over is None for a in call.arguments)
        if count is not None and (len(call.arguments) != count or not plain):
            text = " ".join(call.span.text.split())
            why = (
                "it takes one expression"
                if count == 1
                else "it takes a function, and where its slope is taken"
            )
            example = f"{name}(s)" if count == 1 else f"{name}(tanh, s)"
            binder.bag.add(WrongTerm(call.span, text=text, why=why, help=f"write `{example}`"))


def _calls(expression: Expression) -> list[CallOf]:
    return [found for found in _nodes(expression) if isinstance(found, CallOf)]


def _nodes(tree: Any) -> Iterator[Node]:
    """Yield every node of an expression."""
    if isinstance(tree, Node) and not isinstance(tree, Span):
        yield tree
        for field in tree.compared_:
            yield from _nodes(getattr(tree, field))
    elif isinstance(tree, tuple):
        for item in cast("tuple[Any, ...]", tree):
            yield from _nodes(item)


def _answer(line: object) -> str | None:
    """Return which form a line gives: "flow", "map" or "energy"; None for a name of a part."""
    if isinstance(line, Equation):
        return "flow" if line.name == "s" else None
    if isinstance(line, Assignment) and len(line.names) == 1:
        return {"s": "map", "energy": "energy"}.get(line.names[0])
    return None


def answer_of(item: DynamicsDefinition) -> tuple[str, Expression]:
    """Return what dynamics say of a state, "flow", "map" or "energy", and the expression."""
    for line in item.body:
        kind = _answer(line)
        if kind is not None and isinstance(line, Equation | Assignment):
            return kind, line.value
    raise TypeError(f"dynamics {item.name} say nothing")


def locals_of(item: DynamicsDefinition) -> dict[str, Expression]:
    """Return the expressions that dynamics give names to."""
    lines = [line for line in item.body if isinstance(line, Assignment) and _answer(line) is None]
    return {line.names[0]: line.value for line in lines}


def form_of(definition: Definition) -> str:
    """Return "map" or "flow"."""
    assert isinstance(definition.item, DynamicsDefinition)
    return "map" if answer_of(definition.item)[0] == "map" else "flow"


def split_arguments(use: Expression) -> tuple[tuple[Argument, ...], dict[str, Expression]]:
    """Return the arguments of the definition itself, and those that all dynamics take."""
    written = use.arguments if isinstance(use, CallOf) else ()
    own = tuple(argument for argument in written if argument.name not in RESERVED)
    return own, {a.name: a.value for a in written if a.name is not None and a.name in RESERVED}


def dynamics_definition(module: Module, use: Expression) -> Definition | None:
    """Return the definition that a `dynamics` line names."""
    function = use.function if isinstance(use, CallOf) else use
    found: object = None
    if isinstance(function, Name):
        found = module.names.get(function.name)
    elif isinstance(function, Member) and isinstance(function.of, Name):
        inner = module.names.get(function.of.name)
        found = inner.names.get(function.name) if isinstance(inner, Module) else None
    return found if isinstance(found, Definition) and found.kind == "dynamics" else None


def nearest_dynamics(module: Module, name: str) -> str | None:
    """Return the dynamics of a module that may be meant."""
    known = [n for n, d in module.names.items() if isinstance(d, Definition) and d.kind == "dynamics"]
    return nearest(name, known)
