"""Canonical text of expressions, types and selectors, on one line.

Parentheses stand only where precedence needs them, so that parsing the text gives the same tree.
"""

from __future__ import annotations

from nnspec.dsl.syntax import (
    Argument,
    Binary,
    Boolean,
    CallOf,
    CallStep,
    Chain,
    Conditional,
    Expression,
    ForkStep,
    GroupStep,
    Index,
    Interval,
    Lambda,
    ListOf,
    Member,
    Name,
    Nothing,
    Number,
    ParameterDeclaration,
    Pattern,
    RepeatStep,
    Selection,
    Selector,
    SelectorPart,
    Step,
    Text,
    Unary,
    WrittenAxis,
    WrittenType,
)

_BINARY = {
    "or": 2,
    "and": 3,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 5),
    "&": 7,
    "+": 8,
    "-": 8,
    **dict.fromkeys(("*", "/", "//", "%", "@"), 9),
    "^": 11,
}
_ATOM = 12


def expression(node: Expression, least: int = 0) -> str:
    """Return the text of an expression, in parentheses if it binds looser than `least`."""
    text, level = _expression(node)
    return f"({text})" if level < least else text


def _expression(node: Expression) -> tuple[str, int]:
    match node:
        case Number(text=text):
            return text, _ATOM
        case Text(value=value):
            return quote(value), _ATOM
        case Boolean(value=value):
            return ("true" if value else "false"), _ATOM
        case Nothing():
            return "none", _ATOM
        case Name(name=name):
            return name, _ATOM
        case ListOf(items=items):
            return f"[{', '.join(map(expression, items))}]", _ATOM
        case Interval(start=start, stop=stop):
            sides = ("" if side is None else expression(side, 7) for side in (start, stop))
            return "..".join(sides), 6
        case Pattern(parts=parts):
            return pattern(parts), _ATOM
        case Member(of=of, name=name):
            return f"{expression(of, _ATOM)}.{name}", _ATOM
        case CallOf(function=function, arguments=given):
            return f"{expression(function, _ATOM)}({arguments(given)})", _ATOM
        case Index(of=of, items=items):
            return f"{expression(of, _ATOM)}[{arguments(items)}]", _ATOM
        case Unary(operator=operator, operand=operand):
            if operator == "not":
                return f"not {expression(operand, 4)}", 4
            return f"{operator}{expression(operand, 10)}", 10
        case Binary():
            return _binary(node)
        case Conditional(value=value, condition=condition, otherwise=otherwise):
            parts = (expression(value, 2), expression(condition, 2), expression(otherwise, 1))
            return f"{parts[0]} if {parts[1]} else {parts[2]}", 1
        case Lambda(parameters=names, body=body):
            head = names[0] if len(names) == 1 else f"({', '.join(names)})"
            return f"{head} => {expression(body)}", 0
        case Chain(source=source, steps=found):
            return f"{expression(source, 1)} -> {steps(found)}", 0
        case _:
            raise TypeError(f"no text for {type(node).__name__}")


def _binary(node: Binary) -> tuple[str, int]:
    level = _BINARY[node.operator]
    left, right = {5: (6, 6), 11: (_ATOM, 10)}.get(level, (level, level + 1))
    text = f"{expression(node.left, left)} {node.operator} {expression(node.right, right)}"
    if node.tolerance is not None:
        text += f" +- {expression(node.tolerance, 6)}"
    return text, level


def arguments(given: tuple[Argument, ...]) -> str:
    """Return the text between the brackets of a call or an index."""
    return ", ".join(map(argument, given))


def argument(given: Argument) -> str:
    value = expression(given.value)
    if given.over is not None:
        return f"{given.over}: {value}"
    if given.name is None:
        return value
    return f"{quote(given.name) if given.quoted else given.name} = {value}"


def steps(found: tuple[Step, ...]) -> str:
    """Return the text of the steps of a chain."""
    return " -> ".join(map(step, found))


def step(found: Step) -> str:
    match found:
        case CallStep(function=function):
            text = expression(function, _ATOM)
        case ForkStep(branches=branches):
            text = f"[{', '.join(map(steps, branches))}]"
        case GroupStep(steps=inner, condition=condition, otherwise=otherwise):
            text = steps(inner)
            if condition is not None:
                text += f" if {expression(condition, 2)} else {steps(otherwise)}"
            text = f"({text})"
        case RepeatStep():
            text = f"{repeat_head(found)} {{ {steps(found.body)} }}"
        case _:
            raise TypeError(f"no text for {type(found).__name__}")
    alias: str | None = getattr(found, "alias", None)
    return f"{text} as {alias}" if alias else text


def repeat_head(found: RepeatStep) -> str:
    """Return what stands before the block of a repetition."""
    index = f"{found.index} in " if found.index else ""
    more = "".join(f", {argument(a)}" for a in found.arguments)
    return f"{found.kind}({index}{expression(found.count)}{more})"


def written_type(written: WrittenType) -> str:
    """Return the text of a type."""
    if written.choices:
        return " | ".join(map(quote, written.choices))
    if written.axes is None:
        return written.name
    return f"{written.name}[{', '.join(map(axis, written.axes))}]"


def axis(written: WrittenAxis) -> str:
    if written.rest or written.size is None:
        return ".."
    size = expression(written.size)
    return f"{written.name}: {size}" if written.name else size


def parameters(declared: tuple[ParameterDeclaration, ...]) -> str:
    """Return the parameter list of a definition, empty if it has none."""
    return f"({', '.join(map(parameter, declared))})" if declared else ""


def parameter(declared: ParameterDeclaration) -> str:
    text = f"{'learn ' if declared.learn else ''}{declared.name}"
    if declared.type is not None:
        text += f": {written_type(declared.type)}"
    return text if declared.default is None else f"{text} = {expression(declared.default)}"


def selector(found: Selector) -> str:
    """Return the text of a selector."""
    text = ", ".join(map(selection, found.chosen))
    return f"{text} except {', '.join(map(selection, found.excepted))}" if found.excepted else text


def selection(found: Selection) -> str:
    return ("every " if found.every else "") + pattern(found.parts)


def pattern(parts: tuple[SelectorPart, ...]) -> str:
    """Return the text of a path with `*` and `**` in it."""
    return ".".join(p.name if p.index is None else f"{p.name}[{expression(p.index)}]" for p in parts)


def quote(text: str) -> str:
    """Return a string literal."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'
