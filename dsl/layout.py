"""Breaks what is longer than a line: chains at arrows, sums at operators, calls and lists at commas.

In: the text before a value, and the value. Out: lines that parse to the same tree, since a line that begins
with an arrow or an operator goes on with the one before, and newlines inside brackets mean nothing.
"""

from __future__ import annotations

from nnspec.dsl import write
from nnspec.dsl.syntax import (
    Binary,
    CallOf,
    CallStep,
    Chain,
    Expression,
    ForkStep,
    GroupStep,
    ListOf,
    ParameterDeclaration,
    RepeatStep,
    Step,
)

WIDTH = 100
# Operators with which a line may begin, by how tightly they bind; those of one group read from left to right.
_GROUPS = ({"or": 2}, {"and": 3}, {"&": 7}, {"+": 8, "-": 8}, {"*": 9, "/": 9, "//": 9, "%": 9, "@": 9})


def laid_out(head: str, value: Expression, indent: int) -> list[str]:
    """Return the lines of `head value`."""
    text = f"{' ' * indent}{head} {write.expression(value)}"
    if len(text) <= WIDTH:
        return [text]
    match value:
        case Chain():
            first = f"{' ' * indent}{head} {write.expression(value.source, 1)}"
            return [first, *(line for step in value.steps for line in _step(step, indent + 2))]
        case Binary():
            return _terms(head, value, indent) or [text]
        case CallOf() | ListOf():
            return _bracketed(f"{head} ", value, indent)
        case _:
            return [text]


def declared(head: str, parameters: tuple[ParameterDeclaration, ...], tail: str) -> list[str]:
    """Return the lines of the head of a definition, with its parameters."""
    text = f"{head}{write.parameters(parameters)}{tail}"
    if len(text) <= WIDTH or not parameters:
        return [text]
    return _lines(f"{head}(", [write.parameter(p) for p in parameters], f"){tail}", 0)


def _terms(head: str, value: Binary, indent: int) -> list[str]:
    """A sum or product one term a line; nothing for an operator that begins no line."""
    group = next((group for group in _GROUPS if value.operator in group), None)
    if group is None:
        return []
    level = group[value.operator]
    lines: list[str] = []
    left: Expression = value
    while isinstance(left, Binary) and left.operator in group:
        lines.append(f"{' ' * (indent + 2)}{left.operator} {write.expression(left.right, level + 1)}")
        left = left.left
    return [f"{' ' * indent}{head} {write.expression(left, level)}", *reversed(lines)]


def _step(step: Step, indent: int) -> list[str]:
    """A step on a line of its own; one that is too long for it, one inner step, branch or argument a line."""
    text = f"{' ' * indent}-> {write.step(step)}"
    if len(text) <= WIDTH:
        return [text]
    alias: str | None = getattr(step, "alias", None)
    tail = f" as {alias}" if alias else ""
    if isinstance(step, RepeatStep):
        return _steps(f"-> {write.repeat_head(step)} {{", step.body, f"}}{tail}", indent)
    if isinstance(step, GroupStep) and step.condition is None:
        return _steps("-> (", step.steps, f"){tail}", indent)
    if isinstance(step, ForkStep):
        return _lines("-> [", [write.steps(branch) for branch in step.branches], f"]{tail}", indent)
    if isinstance(step, CallStep) and isinstance(step.function, CallOf):
        return _bracketed("-> ", step.function, indent, tail)
    return [text]


def _steps(opening: str, steps: tuple[Step, ...], closing: str, indent: int) -> list[str]:
    """Steps between brackets, one a line."""
    first, *others = (_step(step, indent + (4 if number else 2)) for number, step in enumerate(steps))
    first[0] = first[0].replace("-> ", "", 1)
    pad = " " * indent
    return [f"{pad}{opening}", *first, *(line for lines in others for line in lines), f"{pad}{closing}"]


def _bracketed(head: str, value: CallOf | ListOf, indent: int, tail: str = "") -> list[str]:
    """A call or a list, one entry a line."""
    if isinstance(value, ListOf):
        return _lines(f"{head}[", [write.expression(item) for item in value.items], f"]{tail}", indent)
    opening = f"{head}{write.expression(value.function)}("
    return _lines(opening, [write.argument(a) for a in value.arguments], f"){tail}", indent)


def _lines(opening: str, entries: list[str], closing: str, indent: int) -> list[str]:
    pad = " " * indent
    if not entries:
        return [f"{pad}{opening}{closing}"]
    return [f"{pad}{opening}", *(f"{pad}  {entry}," for entry in entries), f"{pad}{closing}"]
