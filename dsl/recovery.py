"""Where to go on reading after a syntax error: the end of the statement it stands in."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SKIPPED = re.compile(r'"""(?:.|\n)*?"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*')
_ITEM = re.compile(
    r"[ \t]*(?:use|let|layer|network|activation|constraint|dynamics|rule|experiment|analyze)\b[^=\n]*[\w\")}{]"
)


_STATEMENT = re.compile(r"\s*(?:\w+\s*(?::[^=]*)?=[^=>]|[}]|input\b|output\b)")
_FAR = 2000  # characters within which a bracket is expected to close

# A line that goes on with the one before: the grammar's CONTINUATION.
_CONTINUES = re.compile(r"[ \t]*(?:->|<->|[&*/%^@<>]|[=!]=|\.\.|\+(?!=)|-(?!=)|(?:and|or|if|else)\b)")
_INDENTED = re.compile(r"[ \t]+[^ \t\n#]")


def indentation(text: str, at: int) -> int:
    """Return how many blanks the line of an offset begins with."""
    start = text.rfind("\n", 0, at) + 1
    match = re.compile(r"[ \t]*").match(text, start)
    return 0 if match is None else match.end() - start


def resume_after(text: str, start: int, *, inside: bool, opened: Sequence[int] = ()) -> int | None:
    """Return where the next statement begins, None at the end of the text.

    `inside` a block the closing brace of the block is where the statement ends at the latest; outside all,
    lines that are indented belong to the item with the mistake. Blocks that the statement opens are skipped
    with it. Brackets that never close do not swallow what follows; those at `opened` are open at the start.
    """
    position, braces, others = start, 0, len(opened)
    indent = indentation(text, min((start, *opened)))
    while position < len(text):
        skipped = _SKIPPED.match(text, position)
        if skipped is not None:
            position = skipped.end()
            continue
        character = text[position]
        if character in "([":
            others += 1
        elif character in ")]":
            others = max(0, others - 1)
        elif character == "{":
            braces += 1
        elif character == "}":
            if braces == 0 and inside:
                return position
            braces = max(0, braces - 1)
        elif character == "\n":
            ends = braces == 0 and (others == 0 or not _closes(text, position, others, indent))
            following = _next_line(text, position)
            if (ends and not _goes_on(text, following, inside)) or _ITEM.match(text, position + 1):
                return following if not inside or braces == 0 else None
        position += 1
    return None


def _goes_on(text: str, following: int, inside: bool) -> bool:
    """Return whether the line whose first character is at `following` belongs to the statement before it."""
    start = text.rfind("\n", 0, following) + 1
    if _CONTINUES.match(text, following):
        return True
    return not inside and _INDENTED.match(text, start) is not None and _ITEM.match(text, start) is None


def _closes(text: str, position: int, others: int, indent: int) -> bool:
    """Return whether the open brackets close within the next lines, before a line that begins a statement."""
    at = position + 1
    for line in text[at : at + _FAR].split("\n"):
        if _STATEMENT.match(line) and indentation(text, at) <= indent:
            return False
        others += sum(line.count(c) for c in "([") - sum(line.count(c) for c in ")]")
        if others <= 0:
            return True
        at += len(line) + 1
    return False


def _next_line(text: str, position: int) -> int:
    """Return the beginning of the next line with anything on it."""
    found = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)+[ \t]*").match(text, position)
    return position + 1 if found is None else found.end()
