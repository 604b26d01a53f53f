"""Text -> written tree, with recovery: several errors from one file, one message a cause."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source, Span
from nnspec.dsl.syntax import File
from nnspec.dsl.tree import TreeBuilder

class _Newlines:
    always_accept = ("_NL",)
    def process(self, stream: Any) -> Any:
        return stream

@lru_cache(maxsize=1)
def _lark() -> tuple[Lark, TreeBuilder]:
    grammar = files("nnspec.dsl").joinpath("grammar.lark").read_text(encoding="utf-8")
    builder = TreeBuilder()
    import tempfile, os
    key = hashlib.sha256(grammar.encode()).hexdigest()[:16]
    cache = os.path.join(tempfile.gettempdir(), f"nnspec-{key}.lark")
    return Lark(grammar, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=True,
                postlex=_Newlines(), cache=cache), builder

def parse(source: Source, bag: Bag) -> File:
    lark, builder = _lark()
    builder.source = source
    ip = lark.parse_interactive(source.text)
    state = ip.parser_state
    stack: list[str] = []
    last = None
    try:
        for token in ip.lexer_thread.lex(state):
            if token.type == "_NL" and stack and stack[-1] in "([":
                continue
            if token.type in ("LPAR","LSQB","LBRACE"): stack.append(str(token))
            if token.type in ("RPAR","RSQB","RBRACE") and stack: stack.pop()
            last = token
            ip.feed_token(token)
        return builder.transform(ip.feed_eof(last))
    except (UnexpectedToken, UnexpectedCharacters) as e:
        from nnspec.dsl.diagnostics import Error
        class SyntaxE(Error):
            code="N0100"; title="syntax"; message="{m}"
        pos = getattr(e,'pos_in_stream',None) or 0
        bag.add(SyntaxE(Span(source=source,start=pos,end=pos+1), m=str(e)[:300]))
        return File(items=(), source=source)
