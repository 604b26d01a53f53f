"""Pieces of Python text: docstrings, comments, constructor lists.

Whatever a spec holds (quotes, backslashes, newlines in file names) comes out as plain text that cannot
end the string or the comment it stands in.
"""

from __future__ import annotations

import ast
from itertools import groupby

from nnspec.dsl.node import Node
from nnspec.dsl.source import Span

INDENT = "    "


class Line(Node):
    """A line of code and the comment behind it. Only the code decides whether two classes are alike."""

    code: str
    comment: str | None = None

    @property
    def text(self) -> str:
        return f"{self.code}  # {self.comment}" if self.comment else self.code


def lines(*codes: str) -> list[Line]:
    """Return plain lines."""
    return [Line(code=code) for code in codes]


def indent(block: list[Line]) -> list[Line]:
    """Return the lines one level deeper."""
    return [line.replace(code=INDENT + line.code) if line.code else line for line in block]


def spaced(parts: list[list[Line]]) -> list[Line]:
    """Return the parts with an empty line between them."""
    return [line for i, part in enumerate(parts) for line in ([*lines(""), *part] if i else part)]


def place(span: Span | None) -> str | None:
    """Return `file:line` for a comment."""
    return None if span is None else f"{one_line(span.source.name)}:{span.line}"


def one_line(text: str) -> str:
    """Return the text without anything that could end a line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def docstring(text: str) -> list[Line]:
    """Return a docstring, one `Line` a line of it, at no indentation."""
    safe = "".join(_character(c) for c in text.strip())
    if '"""' in safe or safe.endswith('"'):
        safe = safe.replace('"', '\\"')
    parts = [part.rstrip() for part in safe.split("\n")]
    if len(parts) == 1:
        return lines(f'"""{parts[0]}"""')
    return lines(f'"""{parts[0]}', *parts[1:], '"""')


def _character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character == "\n" or character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def listed(constructors: list[str]) -> str:
    """Write constructors as a list, runs of equal ones as a comprehension."""
    runs = [(text, len(list(group))) for text, group in groupby(constructors)]
    if len(runs) == 1 and runs[0][1] > 1:
        return f"[{runs[0][0]} for _ in range({runs[0][1]})]"
    parts = [
        f"*({text} for _ in range({count}))" if count > 2 else ", ".join([text] * count)
        for text, count in runs
    ]
    return f"[{', '.join(parts)}]"


def imports(code: str) -> list[str]:
    """Return the import lines that a text needs."""

    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    from_torch = [word for word in ("Tensor", "nn") if word in used]
    standard = [
        *([f"import {word}" for word in ("json", "math", "os", "warnings") if word in used]),
        *(["from collections.abc import Callable"] if "Callable" in used else []),
        *(["from functools import partial"] if "partial" in used else []),
        *(["from typing import Any"] if "Any" in used else []),
    ]
    return [
        *standard,
        *([""] if standard else []),
        *(["import torch"] if "torch" in used else []),
        *(["import torch.nn.functional as F"] if "F" in used else []),
        *([f"from torch import {', '.join(from_torch)}"] if from_torch else []),
    ]
