"""Joins assignments into one expression: `y = torch.sigmoid(x)`, `return x * y` as `return x * torch.sigmoid(x)`.

In: the lines of a short function, plain assignments that end with a `return`. Out: the same, each value that
only the next line reads, and reads once, written where it is read. Lines stay within the usual width.
"""

from __future__ import annotations

import re

from nnspec.compiler.emit.text import Line

_WIDEST = 88
_ASSIGNMENT = re.compile(r"([^\W\d]\w*) = (.+)")


def nested(written: list[Line]) -> list[Line]:
    """Return the lines with values joined into the lines that read them."""
    found: list[Line] = []
    for number, line in enumerate(written):
        while found:
            joined = _joined(found[-1].code, line.code, [later.code for later in written[number + 1 :]])
            if joined is None or len(joined) > _WIDEST:
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
    plain = reads == name or _is_argument(reads, word) or _is_atom(expression)
    inside = expression if plain else f"({expression})"
    return second[: len(second) - len(reads)] + word.sub(lambda _: inside, reads)


def _taken_apart(line: str) -> tuple[str, str]:
    """Return what a line assigns to ("" for a `return`) and the expression that it reads."""
    made = _ASSIGNMENT.fullmatch(line)
    return made.groups() if made is not None else ("", line.removeprefix("return "))  # type: ignore[return-value]


def _is_read(word: re.Pattern[str], later: list[str]) -> bool:
    """Return whether a name is read before it is assigned again."""
    for line in later:
        target, reads = _taken_apart(line)
        if word.search(reads):
            return True
        if target and word.fullmatch(target):
            return False
    return False


def _is_argument(reads: str, word: re.Pattern[str]) -> bool:
    """Return whether the name is a whole argument of a call."""
    place = word.search(reads)
    assert place is not None
    before, after = reads[: place.start()].rstrip(), reads[place.end() :].lstrip()
    return before.endswith(("(", ",")) and after.startswith((",", ")"))


def _is_atom(expression: str) -> bool:
    """Return whether an expression needs no brackets: a name, or one call."""
    if re.fullmatch(r"[\w.]+", expression):
        return True
    if not re.match(r"[\w.]+\(", expression) or not expression.endswith(")"):
        return False
    depth = 0
    for place, letter in enumerate(expression):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and letter == ")":
            return place == len(expression) - 1
    return False
