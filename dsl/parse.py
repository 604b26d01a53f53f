"""The parse stage: text -> written tree, with every syntax error found.

The tokens of the LALR parser are fed one by one, so that newlines inside ( ) and [ ] can be dropped, limits
kept, and errors recovered from. After an error the rest of the statement is skipped, the parser's stacks
are cut back to where a new statement may begin, and parsing goes on: one message a cause.
"""

from __future__ import annotations

import re
from typing import Any

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.syntax import (
    EmptyFile,
    FileTooLarge,
    NestedTooDeeply,
    NumberTooLong,
    TooManyErrors,
    UnclosedBracket,
)
from nnspec.dsl.grammar import parser
from nnspec.dsl.mistakes import diagnose
from nnspec.dsl.recovery import resume_after
from nnspec.dsl.source import Source, Span
from nnspec.dsl.syntax import Comment, File
from nnspec.dsl.tree import TreeBuilder

_OPENING = {"LPAR": "(", "LSQB": "[", "LBRACE": "{"}
_CLOSING = {"RPAR": "(", "RSQB": "[", "RBRACE": "{"}
_NESTING = frozenset(
    [
        "PLUS",
        "MINUS",
        "TIMES",
        "DIVIDE",
        "WHOLE",
        "MODULO",
        "AT",
        "POWER",
        "AMPERSAND",
        "OR",
        "AND",
        "NOT",
        "IF",
        "COMPARE",
        "DOT",
    ]
)
_GLUED = re.compile(r"\w+")
_INDEXED = frozenset(("NAME", "RPAR", "RSQB"))
_LARGEST_FILE = 2_000_000
_MOST_TOKENS = 200_000
_MOST_ERRORS = 50
_DEEPEST = 250


def parse(source: Source, bag: Bag) -> File:
    """Return the written tree of a source; statements with errors are left out of it."""
    if len(source.text) > _LARGEST_FILE:
        size = f"{len(source.text):,} characters"
        bag.add(FileTooLarge(None, name=source.name, size=size, limit=f"{_LARGEST_FILE:,}"))
        return File(items=(), source=source)
    file = _Parse(source, bag).run()
    if not file.items and not bag.failed:
        bag.add(EmptyFile(None, name=source.name))
    return file


class _Parse:
    """One parse of one source."""

    def __init__(self, source: Source, bag: Bag) -> None:
        self.source = source
        self.bag = bag
        lark: Any = parser()
        self.interactive: Any = lark.parse_interactive(source.text)
        self.brackets: list[Token] = []
        self.depths: list[int] = [0]  # operators open at each bracket level
        self.tokens: list[Token] = []  # the last few, for messages
        self.errors = 0
        self.count = 0  # of tokens

    def run(self) -> File:
        while True:
            try:
                self.feed_all()
                tree = self.interactive.feed_eof(self.tokens[-1] if self.tokens else None)
                return self.build(tree)
            except UnexpectedInput as problem:
                if not self.recover(problem):
                    return File(items=(), source=self.source)
            except _TooMuch:
                return File(items=(), source=self.source)

    def build(self, tree: Any) -> File:
        file: File = TreeBuilder(self.source).build(tree)
        return file.replace(comments=comments(self.source))

    def feed_all(self) -> None:
        thread = self.interactive.lexer_thread
        for token in thread.lex(self.interactive.parser_state):
            if token.type == "_NL" and self.brackets and self.brackets[-1].type != "LBRACE":
                continue
            self.interactive.feed_token(self.limited(self.whole(token)))
            self.follow(token)

    def whole(self, token: Token) -> Token:
        """Refuse `iffy` read as `if` and `fy`, and `0x1f`: the lexer takes a word where no name may stand."""
        end = token.end_pos or 0
        glued = _GLUED.match(self.source.text, end) if token[-1:].isalnum() else None
        if glued is not None:
            word = Token("NAME", str(token) + glued.group(), token.start_pos, end_pos=glued.end())
            raise UnexpectedToken(word, set[str]())
        return token

    def follow(self, token: Token) -> None:
        """Keep track of brackets and of how deep operators nest."""
        self.tokens = [*self.tokens[-3:], token]
        if token.type == "LSQB" and len(self.tokens) > 1 and self.tokens[-2].type in _INDEXED:
            self.depths[-1] += 1  # `a[0][0]` nests to the left
        if token.type in _OPENING:
            self.brackets.append(token)
            self.depths.append(0)
        elif token.type in _CLOSING and self.brackets:
            self.brackets.pop()
            self.depths.pop()
        elif token.type in ("COMMA", "_NL"):
            self.depths[-1] = 0
        elif token.type in _NESTING or token == "=>":
            self.depths[-1] += 1

    def limited(self, token: Token) -> Token:
        """Refuse what would overflow numbers or the recursion of later stages."""
        self.count += 1
        if self.count > _MOST_TOKENS:
            size = "more words and signs than can be read"
            self.bag.add(
                FileTooLarge(self.span(token), name=self.source.name, size=size, limit=f"{_MOST_TOKENS:,}")
            )
            raise _TooMuch
        if sum(self.depths) + 5 * len(self.brackets) > _DEEPEST:
            self.bag.add(NestedTooDeeply(self.span(token)))
            raise _TooMuch
        if token.type == "NUMBER":
            what = _too_large(str(token))
            if what is not None:
                self.bag.add(NumberTooLong(self.span(token), what=what))
                return Token.new_borrow_pos("NUMBER", "0", token)
        return token

    def span(self, token: Token) -> Span:
        return Span(source=self.source, start=token.start_pos or 0, end=token.end_pos or 0)

    # -------------------------------------------------------------------------------------------- recovery

    def recover(self, problem: UnexpectedInput) -> bool:
        """Report a mistake and go on after it; False if nothing is left to read."""
        self.errors += 1
        if self.errors > _MOST_ERRORS:
            self.bag.add(TooManyErrors(None, limit=_MOST_ERRORS))
            return False
        at = self.place(problem)
        error, restart = diagnose(
            self.source, problem, at, self.brackets, self.tokens, self.interactive.accepts
        )
        self.bag.add(error)
        if isinstance(error, UnclosedBracket):
            block = error.facts["bracket"] == "{"  # the next item stands outside
            self.brackets = [] if block else [b for b in self.brackets if b.type == "LBRACE"]
        return self.resume(at if restart is None else restart)

    def place(self, problem: Any) -> int:
        if isinstance(problem, UnexpectedCharacters):
            return getattr(problem, "pos_in_stream", None) or 0
        token: Token = problem.token
        if token.type == "$END":
            return len(self.source.text)
        return token.start_pos or 0

    def resume(self, at: int) -> bool:
        """Skip to the end of the statement and cut the parser back to where one may begin."""
        blocks = [token for token in self.brackets if token.type == "LBRACE"]
        last = max((i for i, token in enumerate(self.brackets) if token.type == "LBRACE"), default=-1)
        opened = [token.start_pos or 0 for token in self.brackets[last + 1 :]]
        position = resume_after(self.source.text, at, inside=bool(blocks), opened=opened)
        if position is None:
            return False
        self.brackets = blocks
        self.depths = [0] * (len(blocks) + 1)
        self.tokens = []
        state = self.interactive.parser_state
        self.move_lexer(position)
        while state.state_stack and not self.at_boundary(bool(blocks)):
            state.state_stack.pop()
            if state.value_stack:
                state.value_stack.pop()
        return bool(state.state_stack)

    def at_boundary(self, inside: bool) -> bool:
        """A statement may end or begin here: after it `}` or the end of the file would be right."""
        found = self.interactive.accepts()
        if "_NL" in found and ("RBRACE" if inside else "$END") in found:
            newline = Token("_NL", "\n")
            self.interactive.feed_token(newline)
            return True
        return ("RBRACE" if inside else "$END") in found

    def move_lexer(self, position: int) -> None:
        # Lines and columns are worked out from offsets where they are printed, so only the offset matters.
        state = self.interactive.lexer_thread.state
        state.line_ctr.char_pos = position
        state.last_token = None


class _TooMuch(Exception):
    """Later stages would run out of stack, or the user of patience; reported already."""


def _too_large(text: str) -> str | None:
    plain = text.replace("_", "")
    if any(mark in plain for mark in ".eE"):
        return "larger than any number can be" if float(plain) == float("inf") else None
    return "larger than any size can be" if len(plain.lstrip("0")) > 19 or int(plain) >= 2**63 else None


def comments(source: Source) -> tuple[Comment, ...]:
    """Return the comments of a text, in order; `#` inside texts and docstrings is none."""
    import re

    pattern = re.compile(r'"""(?:.|\n)*?"""|"(?:[^"\\\n]|\\.)*"|(#[^\n]*)')
    return tuple(
        Comment(text=m.group(1).rstrip(), span=Span(source=source, start=m.start(), end=m.end()))
        for m in pattern.finditer(source.text)
        if m.group(1) is not None
    )
