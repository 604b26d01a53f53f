"""Where to go on reading after a syntax error: the end of the statement it stands in."""

from __future__ import annotations

import re

_SKIPPED = re.compile(r'"""(?:.|\n)*?"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*')
_ITEM = re.compile(
    r"[ \t]*(?:use|let|layer|network|activation|constraint|dynamics|rule|experiment|analyze)\b[^=\n]*[\w\")}{]"
)


def resume_after(text: str, start: int, *, inside: bool) -> int | None:
    """Return where the next statement begins, None at the end of the text.

    `inside` a block the closing brace of the block is where the statement ends at the latest. Blocks that
    the statement opens are skipped with it. Brackets that never close do not swallow what follows.
    """
    position, braces, others = start, 0, 0
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
            ends = braces == 0 and (others == 0 or not _closes(text, position, others))
            if ends or _ITEM.match(text, position + 1):
                return _next_line(text, position) if not inside or braces == 0 else None
        position += 1
    return None


def _closes(text: str, position: int, others: int) -> bool:
    """Return whether the open brackets close within the next lines, before a line that begins a statement."""
    for line in text[position + 1 : position + 2000].split("\n"):
        if re.match(r"\s*(?:\w+\s*(?::[^=]*)?=[^=>]|[}]|input\b|output\b)", line) and "," not in line:
            return False
        others += sum(line.count(c) for c in "([") - sum(line.count(c) for c in ")]")
        if others <= 0:
            return True
    return False


def _next_line(text: str, position: int) -> int:
    """Return the beginning of the next line with anything on it."""
    found = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)+[ \t]*").match(text, position)
    return position + 1 if found is None else found.end()
