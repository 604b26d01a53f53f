"""A diagnostic in four forms: terminal text, one line, JSON and SARIF.

In: an `Error`, whose span may be None. Out: text or JSON-able data. Lines and columns are 1-based; columns
count characters. Nothing of a hostile source reaches the terminal but printable characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnspec.dsl.diagnostics import Error
from nnspec.dsl.source import Span

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
_BOLD, _BLUE, _GREEN, _RESET = "\x1b[1m", "\x1b[1;34m", "\x1b[32m", "\x1b[0m"
_WIDEST = 200  # characters of a source line that are shown


def to_text(error: Error, *, colour: bool = False) -> str:
    """Return the terminal form: title, place, source lines with marks, expectation, help."""
    paint = _Paint(colour)
    head = paint(_COLOURS.get(error.severity, _BOLD), f"{error.severity}[{error.code}]")
    lines = [f"{head}{paint(_BOLD, ': ' + clean(str(error.message)))}"]
    spans = [(error.span, error.label or "", True)] if error.span is not None else []
    spans += [(item.span, item.label, False) for item in error.related]
    width = max((len(str(span.line)) for span, _, _ in spans), default=1)
    shown: list[tuple[int, int]] = []
    for span, label, primary in spans:
        lines += _excerpt(span, clean(str(label)), primary, width, paint, shown)
    for title, value in (("expected", error.expected), ("found", error.found), ("help", error.help)):
        if value:
            name = paint(_GREEN if title == "help" else _BOLD, f"{title}:")
            pad = " " * (len("expected") - len(title)) if title == "found" else ""
            lines.append(f"{' ' * width} {paint(_BLUE, '=')} {name}{pad} {clean(str(value))}")
    return "\n".join(lines)


def to_line(error: Error) -> str:
    """Return the form of compilers: `file:line:column: error: message [code]`."""
    place = ""
    if error.span is not None:
        line, column = error.span.source.position(error.span.start)
        place = f"{clean(error.span.source.name)}:{line}:{column}: "
    return f"{place}{error.severity}: {clean(str(error.message))} [{error.code}]".replace("\n", "\\n")


def to_json(error: Error) -> dict[str, Any]:
    """Return the JSON form; places are null for an error without a span."""
    return {
        "code": error.code,
        "severity": error.severity,
        "message": str(error.message),
        "help": error.help,
        **_place(error.span),
        "related": [{"message": item.label, **_place(item.span)} for item in error.related],
    }


def to_sarif(errors: Iterable[Error], version: str) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log of one run."""
    found = list(errors)
    rules = {error.code: error.title for error in found}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "nnspec",
                        "version": version,
                        "rules": [
                            {"id": code, "shortDescription": {"text": title}}
                            for code, title in sorted(rules.items())
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_sarif_result(error) for error in found],
            }
        ],
    }


def clean(text: str) -> str:
    """Return text with control characters escaped, safe to print."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text
    )


class _Paint:
    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self.colour else text


def _excerpt(
    span: Span, label: str, primary: bool, width: int, paint: _Paint, shown: list[tuple[int, int]]
) -> list[str]:
    """The place, the line and the marks of one span."""
    source = span.source
    line, column = source.position(span.start)
    bar = paint(_BLUE, "|")
    place = f"{clean(source.name)}:{line}:{column}"
    arrow = "-->" if primary else ":::"
    lines: list[str] = []
    key = (id(source), line)
    text, shift = _window(source.line(line), column - 1)
    if primary or key not in shown or shown[-1][0] != id(source):
        lines.append(f"{' ' * width}{paint(_BLUE, arrow)} {place}")
        lines.append(f"{' ' * width} {bar}")
    if not shown or shown[-1] != key or shift:
        lines.append(f"{paint(_BLUE, str(line).rjust(width))} {bar} {_visible(text)}")
    shown.append(key)
    end_line, end_column = source.position(max(span.end, span.start))
    start, stop = column - 1 - shift, end_column - 1 - shift if end_line == line else len(text)
    marked = _columns(_visible(text[start : max(stop, start + 1)]))
    mark = ("^" if primary else "-") * max(1, marked)
    colour = _COLOURS["error"] if primary else _BLUE
    gap = " " * _columns(_visible(text[:start]))
    lines.append(f"{' ' * width} {bar} {gap}{paint(colour, (mark + ' ' + label).rstrip())}")
    return lines


def _window(text: str, start: int) -> tuple[str, int]:
    """Return what is shown of a line, and how many characters `start` moves to the left in it."""
    if len(text) <= _WIDEST:
        return text, 0
    first = max(0, min(start - _WIDEST // 2, len(text) - _WIDEST))
    shown = text[first : first + _WIDEST] + ("..." if first + _WIDEST < len(text) else "")
    return (f"...{shown}", first - 3) if first else (shown, 0)


def _visible(text: str) -> str:
    return clean(text.replace("\t", "    "))


def _columns(text: str) -> int:
    """Return how many terminal columns a text takes: wide characters take two, marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _place(span: Span | None) -> dict[str, Any]:
    if span is None:
        return dict.fromkeys(("file", "line", "column", "end_line", "end_column"))
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(max(span.start, span.end))
    return {
        "file": span.source.name,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
    }


def _sarif_result(error: Error) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": error.code,
        "level": error.severity,
        "message": {"text": str(error.message)},
    }
    if error.span is not None:
        result["locations"] = [_sarif_location(error.span)]
    if error.related:
        result["relatedLocations"] = [
            {**_sarif_location(item.span), "message": {"text": item.label}} for item in error.related
        ]
    return result


def _sarif_location(span: Span) -> dict[str, Any]:
    from urllib.parse import quote

    place = _place(span)
    region = {
        "startLine": place["line"],
        "startColumn": place["column"],
        "endLine": place["end_line"],
        "endColumn": place["end_column"],
    }
    uri = quote(place["file"].replace("\\", "/"), safe="/")
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
