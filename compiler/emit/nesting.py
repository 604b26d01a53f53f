"""Joins assignments into one expression: `y = torch.sigmoid(x)`, `return x * y` as `return x * torch.sigmoid(x)`.

In: the lines of a short function, plain assignments that end with a `return`. Out: the same, each value that
only the next line reads, and reads once, written where it is read. Lines stay within the usual width.
"""

from __future__ import annotations

import ast
import re

from nnspec.compiler.emit.text import Line

WIDEST = 88
_ASSIGNMENT = re.compile(r"([^\W\d]\w*) = (.+)")


def nested(written: list[Line]) -> list[Line]:
    """Return the lines with values joined into the lines that read them."""
    found: list[Line] = []
    for number, line in enumerate(written):
        while found:
            joined = _joined(found[-1].code, line.code, [later.code for later in written[number + 1 :]])
            if joined is None or len(joined) > WIDEST:
                break
            found.pop()
            line = line.replace(code=joined)
        found.append(line)
    return found


def _joined(first: str, second: str, later: list[str]) -> str | None:
    """Return the second line with the value of the first written into it, None if that would say something else."""
    made = _ASSIGNMENT.fullmatch(first)
    if made is None or '"' in first + second:  # a text may hold the name by accident
        return None
    name, expression = made.groups()
    target, reads = _taken_apart(second)
    word = re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w|=)")
    if len(word.findall(reads)) != 1 or (target != name and _is_read(word, later)):
        return None
    head = second[: len(second) - len(reads)]
    safe = head + word.sub(lambda _: f"({expression})", reads)
    plain = head + word.sub(lambda _: expression, reads)
    return plain if _same_tree(plain, safe) else safe


def _same_tree(left: str, right: str) -> bool:
    """Return whether two statements are the same to Python, so that brackets say nothing."""
    try:
        return ast.dump(ast.parse(_statement(left))) == ast.dump(ast.parse(_statement(right)))
    except SyntaxError:  # `x + 3.clamp(0, 6)`
        return False


def _statement(line: str) -> str:
    return line.removeprefix("return ")


def _taken_apart(line: str) -> tuple[str, str]:
    """Return what a line assigns to ("" for a `return`) and the expression that it reads."""
    made = _ASSIGNMENT.fullmatch(line)
    return (made[1], made[2]) if made is not None else ("", line.removeprefix("return "))


def _is_read(word: re.Pattern[str], later: list[str]) -> bool:
    """Return whether a name is read before it is assigned again."""
    for line in later:
        target, reads = _taken_apart(line)
        if word.search(reads):
            return True
        if target and word.fullmatch(target):
            return False
    return False
