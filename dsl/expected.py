"""Words for what the parser met and for what could have stood there instead."""

from __future__ import annotations

from lark import Token

from nnspec.dsl.grammar import parser

ITEMS = (
    *("use", "let", "layer", "network", "activation", "constraint", "dynamics", "rule"),
    *("experiment", "analyze"),
)
STATEMENTS = (
    *("input", "output", "shared", "state", "parameter", "buffer", "update", "penalty", "constrain"),
    *("initialize", "require", "expect", "over", "connect", "dynamics", "phase", "feedback", "train"),
)
_WORDS = {
    "EQUAL": "`=`",
    "UPDATE": "`+=` or `-=`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "RPAR": "`)`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "NAME": "a name",
    "STRING": "a text",
    "_NL": "the end of the line",
    "$END": "the end of the file",
}
_OTHERS = {"NUMBER": "a number", "DOC": "a docstring", "DOT": "`.`", "LPAR": "`(`", "LSQB": "`[`"}
_OPERATORS = frozenset(
    (
        *("PLUS", "MINUS", "TIMES", "DIVIDE", "WHOLE", "MODULO", "AT", "POWER", "AMPERSAND", "COMPARE"),
        *("AND", "OR", "IF", "LPAR", "LSQB", "DOT"),
    )
)
_VALUE = frozenset(("NAME", "NUMBER", "STRING", "LPAR", "LSQB"))
_VALUE_TOO = frozenset((*_VALUE, "NOT", "TRUE", "FALSE", "NONE", "PLUS", "MINUS"))
_LONGEST = 40  # characters of a token that are shown


def met(token: Token) -> str:
    """Say what the parser met."""
    if token.type in ("_NL", "$END"):
        return _WORDS[token.type].removeprefix("the ")
    if token.type == "DOC":
        return "docstring"
    text = str(token)
    return f"`{text}`" if len(text) <= _LONGEST else f"`{text[: _LONGEST - 3]}...`"


def expected(names: set[str]) -> str:
    """Say what may stand here, given the names of the grammar's terminals."""
    left, words = set(names), list[str]()
    if "LAYER" in left and "NETWORK" in left:
        return "an item, such as `network` or `experiment`"
    if left >= _VALUE:
        words.append("a value")
        left -= _VALUE_TOO
    elif "REPEAT" in left:
        return "a layer or an operation"
    elif {"NAME", "RBRACE"} <= left:
        words.append("a statement")
        left.discard("NAME")
    if "ELSE" in left:
        return "`else`"
    if "_NL" in left:
        left.discard("$END")  # one end is enough
    words += [word for name, word in _WORDS.items() if name in left]
    shown = (words or _others(left))[:5]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown) or "something else"


def _others(names: set[str]) -> list[str]:
    """Words for what is rare: the signs and keywords themselves."""
    found = ["an operator"] if len(names & _OPERATORS) > 3 else []
    left = names - _OPERATORS if found else names
    written = {terminal.name: f"`{terminal.pattern.value}`" for terminal in parser().terminals}
    return found + [_OTHERS.get(name) or written.get(name, "something else") for name in sorted(left)]
