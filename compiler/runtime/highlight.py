"""A spec's text as HTML with its words told apart; every character escaped."""

from __future__ import annotations

import re
from html import escape

_KEYWORDS = """
use let layer network activation constraint dynamics rule experiment analyze
input output shared state parameter buffer constrain initialize require expect
over connect every except as if else and or not repeat fork gradient true false none language
"""
_TOKEN = re.compile(
    r'(?P<docstring>"""[\s\S]*?""")|(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<comment>#[^\n]*)'
    r"|(?P<number>\b\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<arrow>->|=>)"
    rf"|(?P<keyword>\b(?:{'|'.join(_KEYWORDS.split())})\b)"
)


def highlight(text: str) -> str:
    """Return the inside of a `<pre>`."""
    out: list[str] = []
    position = 0
    for match in _TOKEN.finditer(text):
        out.append(escape(text[position : match.start()]))
        out.append(f'<span class="{match.lastgroup}">{escape(match.group())}</span>')
        position = match.end()
    out.append(escape(text[position:]))
    return "".join(out)
