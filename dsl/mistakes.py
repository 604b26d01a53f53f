"""Names the mistake behind a syntax error: from what the parser met to an error in the user's terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput

from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.syntax import (
    MissingValue,
    MisspeltKeyword,
    UnclosedBracket,
    UnclosedText,
    UnexpectedCharacter,
    UnexpectedToken,
    UnmatchedBracket,
)
from nnspec.dsl.source import Source, Span
from nnspec.dsl.suggest import nearest

ITEMS = (
    *("use", "let", "layer", "network", "activation", "constraint", "dynamics", "rule"),
    *("experiment", "analyze"),
)
STATEMENTS = (
    *("input", "output", "shared", "state", "parameter", "buffer", "update", "penalty", "constrain"),
    *("initialize", "require", "expect", "over", "connect", "dynamics", "phase", "feedback", "train"),
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a text",
    "DOC": "a docstring",
    "_NL": "the end of the line",
    "$END": "the end of the file",
    "EQUAL": "`=`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "DOT": "`.`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "UPDATE": "`+=`",
}
_VALUE_STARTS = frozenset(("NAME", "NUMBER", "STRING", "LPAR", "LSQB"))
_ENDS = frozenset(("_NL", "$END", "RBRACE", "RPAR", "RSQB", "COMMA"))
_OPERATORS = frozenset(
    [
        "EQUAL",
        "PLUS",
        "MINUS",
        "TIMES",
        "DIVIDE",
        "WHOLE",
        "MODULO",
        "AT",
        "POWER",
        "AMPERSAND",
        "COMPARE",
        "AND",
        "OR",
        "NOT",
        "UPDATE",
        "COLON",
    ]
)


def diagnose(
    source: Source,
    problem: UnexpectedInput,
    at: int,
    brackets: list[Token],
    before: list[Token],
    accepts: Callable[[], set[str]],
) -> tuple[Error, int | None]:
    """Return the error, and where skipping begins if that is not where the parser stopped."""
    found: Token | None = getattr(problem, "token", None)
    last = before[-1] if before else None
    if isinstance(problem, UnexpectedCharacters):
        return _character(source, at), at + 1
    assert found is not None
    if str(found) == "'":
        return _character(source, at), at + 1
    if brackets and _runs_out(source, found, brackets[-1]):
        return _unclosed(source, brackets[-1], found)
    if last is not None and brackets and _begins_item(source, last, found, brackets[-1]):
        return _unclosed(source, brackets[-1], last)
    if last is not None and last.type in _OPERATORS and found.type in _ENDS:
        return MissingValue(_span(source, last), after=str(last)), at
    keyword = _keyword(source, found, before, accepts())
    if keyword is not None:
        return keyword, at
    if found.type in ("RPAR", "RSQB", "RBRACE"):
        return _unmatched(source, found, brackets), at + 1
    return _unexpected(source, found, accepts()), at


def _span(source: Source, token: Token) -> Span:
    start = len(source.text) if token.start_pos is None or token.type == "$END" else token.start_pos
    end = start if token.end_pos is None or token.type in ("$END", "_NL") else token.end_pos
    return Span(source=source, start=start, end=max(end, start))


def _character(source: Source, at: int) -> Error:
    character = source.text[at : at + 1]
    span = Span(source=source, start=at, end=at + 1)
    if character == '"':
        return UnclosedText(span)
    helps = {
        "'": 'texts stand in double quotes: "..."',
        ";": "a newline ends a statement",
        "!": "write `not`",
    }
    shown = character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
    return UnexpectedCharacter(span, character=shown, help=helps.get(character))


def _runs_out(source: Source, found: Token, bracket: Token) -> bool:
    """Return whether the text goes on as if the bracket had been closed: with a new statement or not at all."""
    if found.type == "$END":
        return True
    if str(bracket) == "{":
        return found.type in {item.upper() for item in ITEMS} or (
            str(found) in ITEMS and _begins_line(source, found)
        )
    other_kind = found.type == "RBRACE"
    return other_kind or (_begins_line(source, found) and found.type not in ("RPAR", "RSQB"))


def _begins_item(source: Source, last: Token, found: Token, bracket: Token) -> bool:
    """`network n` inside a block: the block was not closed."""
    return str(bracket) == "{" and str(last) in ITEMS and found.type == "NAME" and _begins_line(source, last)


def _begins_line(source: Source, token: Token) -> bool:
    start = token.start_pos or 0
    return not source.text[source.text.rfind("\n", 0, start) + 1 : start].strip()


def _unclosed(source: Source, bracket: Token, found: Token) -> tuple[Error, int | None]:
    opening = _span(source, bracket)
    related: tuple[Related, ...] = ()
    if found.type != "$END":
        related = (Related(span=_span(source, found), label="makes no sense inside it"),)
    error = UnclosedBracket(opening, related, bracket=str(bracket), closing=_CLOSING[str(bracket)])
    if found.type == "$END" or str(bracket) == "{":
        return error, len(source.text)  # what is inside an unclosed block cannot be told from what is outside
    return error, max(0, source.text.rfind("\n", 0, found.start_pos or 0))


def _keyword(source: Source, found: Token, before: list[Token], expected: set[str]) -> Error | None:
    """A misspelt keyword stands where only keywords may, or is a name followed by another name."""
    if found.type == "NAME" and "NAME" not in expected and "LAYER" in expected:
        near = nearest(str(found), ITEMS)
        return MisspeltKeyword(_span(source, found), word=str(found), what="item", suggestion=near)
    last = before[-1] if before else None
    if last is None or last.type != "NAME" or found.type not in ("NAME", "_NL"):
        return None
    if not _begins_line(source, last) or found.type == "_NL":
        return None
    near = nearest(str(last), STATEMENTS)
    return MisspeltKeyword(_span(source, last), word=str(last), what="statement", suggestion=near)


def _unmatched(source: Source, found: Token, brackets: list[Token]) -> Error:
    related: tuple[Related, ...] = ()
    if brackets and str(brackets[-1]) != "{":
        related = (Related(span=_span(source, brackets[-1]), label="the innermost open bracket"),)
    return UnmatchedBracket(_span(source, found), related, bracket=str(found))


def _unexpected(source: Source, found: Token, expected: set[str]) -> Error:
    shown = _WORDS.get(found.type, f"`{found}`")
    if found.type in ("NAME", "NUMBER", "STRING"):
        text = str(found) if len(found) <= 40 else str(found)[:37] + "..."
        shown = f"`{text}`"
    return UnexpectedToken(_span(source, found), found=shown, expected=_describe(expected), help=None)


def _describe(expected: set[str]) -> str:
    """Say what may stand here: "a value", or up to five words."""
    words: list[str] = []
    left = set(expected)
    if left >= _VALUE_STARTS:
        words.append("a value")
        left -= {*_VALUE_STARTS, "NOT", "TRUE", "FALSE", "NONE", "PLUS", "MINUS"}
    for name in (
        "EQUAL",
        "COLON",
        "COMMA",
        "RPAR",
        "RSQB",
        "LBRACE",
        "RBRACE",
        "NAME",
        "STRING",
        "_NL",
        "$END",
    ):
        if name in left:
            words.append(_WORDS[name])
    if not words:
        words = sorted(_word(name) for name in left)
    shown = words[:5]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown) or "something else"


def _word(name: str) -> Any:
    return _WORDS.get(name, f"`{name.lower()}`" if name.isalpha() else "an operator")
