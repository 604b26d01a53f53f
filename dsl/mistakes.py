"""Names the mistake behind a syntax error: from what the parser met to an error in the user's terms."""

from __future__ import annotations

import re
from collections.abc import Callable

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
from nnspec.dsl.expected import ITEMS, STATEMENTS, expected, met
from nnspec.dsl.recovery import indentation
from nnspec.dsl.source import Source, Span
from nnspec.dsl.suggest import nearest

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_ENDS = frozenset(("_NL", "$END", "RBRACE", "RPAR", "RSQB", "COMMA"))
_OPERATORS = frozenset(
    (
        *(
            "=",
            "+=",
            "-=",
            ":",
            "+",
            "-",
            "*",
            "/",
            "//",
            "%",
            "@",
            "^",
            "&",
            "==",
            "!=",
            "<=",
            ">=",
            "<",
            ">",
        ),
        *("and", "or", "not", "->", "<->", "=>", "..", "."),
    )
)
_BEGINS_STATEMENT = re.compile(
    rf"\s*(?:[}}]|\w+[\w, ]*(?::[^=]*)?=[^=>]|\w+'|(?:{'|'.join((*ITEMS, *STATEMENTS))})\b|$)"
)
_OWNED = re.compile(r"\s*((?:parameter|buffer)\s+\w+\s*:[^=]*?)\s*(?:#.*)?")
_SIGNS = re.compile(r"[-+*/=<>!|&:?.~$]+")
_QUOTES = dict.fromkeys("'`\u2018\u2019\u201c\u201d", 'texts stand in double quotes: "..."')
_HELP = {  # what other languages write, and what this one does
    **_QUOTES,
    ";": "a newline ends a statement",
    ",": "a newline ends a statement",
    "!": "write `not`",
    "?": "write `a if condition else b`",
    "||": "write `or`",
    "|": "write `or`",
    "&&": "write `and`",
    "**": "powers are written `^`",
    ":=": "write `=`",
    "==": "`=` gives a name its value; `==` compares",
}
_FOREIGN = {
    **dict.fromkeys(("def", "class", "function", "func", "fn"), "a part is declared with `layer`"),
    **dict.fromkeys(("model", "module", "net"), "did you mean `network`?"),
    **dict.fromkeys(("import", "from", "include"), 'another file is read with `use "file.nnspec"`'),
    **dict.fromkeys(("for", "while"), "repetition is a step of a chain: `x -> repeat(n) { ... }`"),
    "if": "a choice is a value: `a if condition else b`",
    "return": "what comes out is declared with `output`",
    **dict.fromkeys(("const", "var", "val"), "did you mean `let`?"),
}


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
    if isinstance(problem, UnexpectedCharacters) or found is None or str(found) == "'":
        return _character(source, at), at + 1
    if source.text.startswith('"""', at) and str(found) == '""':
        return _docstring(source, at, accepts())
    if brackets and _runs_out(source, found, brackets[-1]):
        return _unclosed(source, brackets[-1], found)
    if last is not None and brackets and _begins_item(source, last, found, brackets[-1]):
        return _unclosed(source, brackets[-1], last)
    if last is not None and str(last) in _OPERATORS and found.type in _ENDS:
        return _missing(source, last, found)
    keyword = _keyword(source, found, before, accepts())
    if keyword is not None:
        return keyword, at
    if found.type in ("RPAR", "RSQB", "RBRACE"):
        return _unmatched(source, found, brackets, accepts()), at + 1
    return _unexpected(source, found, last, accepts())


def _span(source: Source, token: Token) -> Span:
    start = len(source.text) if token.start_pos is None or token.type == "$END" else token.start_pos
    end = start if token.end_pos is None or token.type in ("$END", "_NL") else token.end_pos
    return Span(source=source, start=start, end=max(end, start))


def _line_end(source: Source, at: int) -> int:
    end = source.text.find("\n", at)
    return len(source.text) if end < 0 else end


def _line_start(source: Source, at: int) -> int:
    return source.text.rfind("\n", 0, at) + 1


def _begins_line(source: Source, token: Token) -> bool:
    start = token.start_pos or 0
    return not source.text[_line_start(source, start) : start].strip()


# ------------------------------------------------------------------------------------------------- characters


def _character(source: Source, at: int) -> Error:
    character = source.text[at : at + 1]
    span = Span(source=source, start=at, end=at + 1)
    if character == '"':
        return UnclosedText(span, what="text", quote="quote")
    shown = character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
    return UnexpectedCharacter(span, character=shown, help=_HELP.get(character))


def _docstring(source: Source, at: int, accepted: set[str]) -> tuple[Error, int]:
    """A docstring that is not closed, or stands where none may."""
    end = source.text.find('"""', at + 3)
    span = Span(source=source, start=at, end=at + 3)
    if end < 0 or "DOC" in accepted:
        return UnclosedText(span, what="docstring", quote='`"""`'), _line_end(source, at)
    label = "a docstring stands first in a file or in a block, once"
    return UnexpectedToken(span, found="docstring", label=label), _line_end(source, end + 3)


# --------------------------------------------------------------------------------------------------- brackets


def _runs_out(source: Source, found: Token, bracket: Token) -> bool:
    """Return whether the text goes on as if the bracket had been closed: with a new statement or not at all."""
    if found.type == "$END":
        return True
    if str(bracket) == "{":
        return str(found) in ITEMS and _begins_line(source, found)
    if found.type in ("LBRACE", "RBRACE"):
        return True
    if not _begins_line(source, found) or found.type in ("RPAR", "RSQB"):
        return False
    deeper = indentation(source.text, found.start_pos or 0) > indentation(source.text, bracket.start_pos or 0)
    return not deeper or str(found) in STATEMENTS


def _begins_item(source: Source, last: Token, found: Token, bracket: Token) -> bool:
    """`network n {` inside a block: the block was not closed."""
    if str(bracket) != "{" or str(last) not in ITEMS or found.type != "NAME":
        return False
    start = last.start_pos or 0
    opens = source.text[start : _line_end(source, start)].rstrip().endswith("{")
    return _begins_line(source, last) and (opens or start == _line_start(source, start))


def _unclosed(source: Source, bracket: Token, found: Token) -> tuple[Error, int | None]:
    related: tuple[Related, ...] = ()
    if found.type != "$END":
        related = (Related(span=_span(source, found), label="makes no sense inside it"),)
    closing = _CLOSING[str(bracket)]
    error = UnclosedBracket(_span(source, bracket), related, bracket=str(bracket), closing=closing)
    at = len(source.text) if found.type == "$END" else found.start_pos or 0
    start = _line_start(source, at)
    return error, start - 1 if _begins_line(source, found) and start > (bracket.start_pos or 0) else at


def _unmatched(source: Source, found: Token, brackets: list[Token], accepted: set[str]) -> Error:
    if not brackets or str(brackets[-1]) == "{":
        return UnmatchedBracket(
            _span(source, found), bracket=str(found), what="nothing", label="no opening bracket"
        )
    opened = str(brackets[-1])
    related = Related(span=_span(source, brackets[-1]), label="the innermost open bracket")
    label = (
        f"expected {expected(accepted)}" if _CLOSING[opened] == found else f"expected `{_CLOSING[opened]}`"
    )
    what = f"`{opened}` too early" if _CLOSING[opened] == found else f"no `{opened}`"
    return UnmatchedBracket(_span(source, found), (related,), bracket=str(found), what=what, label=label)


# ------------------------------------------------------------------------------------------ values and words


def _missing(source: Source, last: Token, found: Token) -> tuple[Error, int | None]:
    """A value is missing; the next line is skipped too if it goes on with this one."""
    at = found.start_pos if found.start_pos is not None else len(source.text)
    restart, help = at, None
    if found.type == "_NL":
        following = found.end_pos or at
        end = _line_end(source, following)
        if not _BEGINS_STATEMENT.match(source.text[following:end]):
            restart = following
            help = (
                f"begin the next line with `{last}`"
                if str(last) in ("->", "and", "or", *"+-*/&@%^")
                else None
            )
    what = {"->": "step", ".": "name"}.get(str(last), "value")
    return MissingValue(_span(source, last), what=what, after=str(last), help=help), restart


def _keyword(source: Source, found: Token, before: list[Token], accepted: set[str]) -> Error | None:
    """A misspelt keyword stands where only keywords may, or is a name followed by another word."""
    word = str(found)
    if found.type == "NAME" and "NAME" not in accepted and "LAYER" in accepted:
        return _misspelt(source, found, "item", ITEMS)
    last = before[-1] if before else None
    if last is None or last.type != "NAME" or not word.isidentifier() or not _begins_line(source, last):
        return None
    if str(last) in ITEMS:
        return None
    return _misspelt(source, last, "statement", STATEMENTS)


def _misspelt(source: Source, word: Token, what: str, known: tuple[str, ...]) -> Error:
    near = nearest(str(word), known)
    help = _FOREIGN.get(str(word)) or (near and f"did you mean `{near}`?")
    return MisspeltKeyword(_span(source, word), word=str(word), what=what, help=help)


def _unexpected(
    source: Source, found: Token, last: Token | None, accepted: set[str]
) -> tuple[Error, int | None]:
    """What stands here cannot follow; signs that other languages know are shown whole."""
    at = found.start_pos if found.start_pos is not None else len(source.text)
    label = f"expected {expected(accepted)}"
    whole = _signs(source, found, last)
    if whole is not None:
        label = "cannot stand here" if whole.start < at else label
        return UnexpectedToken(whole, found=f"`{whole.text}`", label=label, help=_HELP.get(whole.text)), at
    restart = _block(source, found) if "LBRACE" in accepted else None
    help = _advice(source, found, accepted) if restart is None else "put `{` at the end of this line"
    return UnexpectedToken(_span(source, found), found=met(found), label=label, help=help), restart or at


def _advice(source: Source, found: Token, accepted: set[str]) -> str | None:
    word, at = str(found), found.start_pos or 0
    owned = _OWNED.fullmatch(source.text[_line_start(source, at) : at])
    if found.type in ("_NL", "RBRACE") and owned is not None:
        return f"say how it begins: `{owned.group(1)} = zeros`, or `= normal(std = 0.02)`"
    if "_NL" in accepted and (word == "," or word in ITEMS or word in STATEMENTS):
        return _HELP[","]
    if word[:1].isdigit() and found.type == "NAME":
        return "numbers are decimal; `_` may stand between digits"
    if word == "." and (source.text[at - 1 : at].isdigit() or source.text[at + 1 : at + 2].isdigit()):
        return "write a digit on both sides of the point: `0.5`"
    if word == "{" and "_NL" not in accepted:
        return "a block belongs to an item, `over`, `train`, `repeat` or `fork`"
    return None


def _signs(source: Source, found: Token, last: Token | None) -> Span | None:
    """Return the sign that the lexer took apart (`==` where only `=` may stand), if there is advice on it."""
    start = found.start_pos
    if start is None or not _SIGNS.match(source.text, start):
        return None
    if last is not None and last.end_pos == start and _SIGNS.fullmatch(str(last)):
        start = last.start_pos or 0
    match = _SIGNS.match(source.text, start)
    text = match.group() if match else ""
    while text and text not in _HELP:
        text = text[:-1]
    reaches = start + len(text) >= (found.end_pos or 0)
    return Span(source=source, start=start, end=start + len(text)) if text and reaches else None


def _block(source: Source, found: Token) -> int | None:
    """Return where `{` stands if it was put on the next line."""
    end = found.end_pos or 0
    return end if found.type == "_NL" and source.text[end : end + 1] == "{" else None
