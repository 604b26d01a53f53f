"""Builds the expressions of the written tree: one method for each rule of the grammar."""

from __future__ import annotations

from typing import Any, cast

from lark import Token, Tree

from nnspec.dsl import syntax as s
from nnspec.dsl.source import Source, Span


class ExpressionBuilder:
    """One instance serves one parse: it knows the source that spans point into."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def build(self, tree: Any) -> Any:
        """Return the node of a parse tree, children first."""
        if not isinstance(tree, Tree):
            return tree
        found = cast(Any, tree)
        children = [self.build(child) for child in found.children]
        return getattr(self, found.data)(found.meta, children)

    def span(self, meta: Any) -> Span:
        if meta.empty:
            return Span(source=self.source, start=0, end=0)
        return Span(source=self.source, start=meta.start_pos, end=meta.end_pos)

    def token_span(self, token: Token) -> Span:
        return Span(source=self.source, start=token.start_pos or 0, end=token.end_pos or 0)

    def lambda_one(self, meta: Any, c: list[Any]) -> Any:
        return s.Lambda(parameters=(str(c[0]),), body=c[1], span=self.span(meta))

    def lambda_many(self, meta: Any, c: list[Any]) -> Any:
        *names, body = c
        return s.Lambda(parameters=tuple(map(str, names)), body=body, span=self.span(meta))

    def chain(self, meta: Any, c: list[Any]) -> Any:
        return s.Chain(source=c[0], steps=tuple(c[1:]), span=self.span(meta))

    def steps(self, meta: Any, c: list[Any]) -> Any:
        return tuple(c)

    def call_step(self, meta: Any, c: list[Any]) -> Any:
        return s.CallStep(function=c[0], alias=c[1] and str(c[1]), span=self.span(meta))

    def repeat_step(self, meta: Any, c: list[Any]) -> Any:
        kind, index, count, *arguments, body, alias = c
        return s.RepeatStep(
            kind=str(kind),
            index=index and str(index),
            count=count,
            arguments=tuple(a for a in arguments if a is not None),
            body=body,
            alias=alias and str(alias),
            span=self.span(meta),
        )

    def group_step(self, meta: Any, c: list[Any]) -> Any:
        steps, condition, otherwise, alias = c
        return s.GroupStep(
            steps=steps,
            condition=condition,
            otherwise=otherwise or (),
            alias=alias and str(alias),
            span=self.span(meta),
        )

    def fork_step(self, meta: Any, c: list[Any]) -> Any:
        *branches, alias = c
        return s.ForkStep(branches=tuple(branches), alias=alias and str(alias), span=self.span(meta))

    def conditional(self, meta: Any, c: list[Any]) -> Any:
        return s.Conditional(value=c[0], condition=c[1], otherwise=c[2], span=self.span(meta))

    def binary(self, meta: Any, c: list[Any]) -> Any:
        left, operator, right = c
        return s.Binary(operator=str(operator), left=left, right=right, span=self.span(meta))

    def comparison(self, meta: Any, c: list[Any]) -> Any:
        left, operator, right, tolerance = c
        return s.Binary(
            operator=str(operator), left=left, right=right, tolerance=tolerance, span=self.span(meta)
        )

    def unary(self, meta: Any, c: list[Any]) -> Any:
        return s.Unary(operator=str(c[0]), operand=c[1], span=self.span(meta))

    def interval(self, meta: Any, c: list[Any]) -> Any:
        return s.Interval(start=c[0], stop=c[1], span=self.span(meta))

    def number(self, meta: Any, c: list[Any]) -> Any:
        text = str(c[0])
        return s.Number(value=value_of(text), text=text, span=self.span(meta))

    def text(self, meta: Any, c: list[Any]) -> Any:
        return s.Text(value=unquote(str(c[0])), span=self.span(meta))

    def true(self, meta: Any, c: list[Any]) -> Any:
        return s.Boolean(value=True, span=self.span(meta))

    def false(self, meta: Any, c: list[Any]) -> Any:
        return s.Boolean(value=False, span=self.span(meta))

    def none(self, meta: Any, c: list[Any]) -> Any:
        return s.Nothing(span=self.span(meta))

    def parenthesised(self, meta: Any, c: list[Any]) -> Any:
        return c[0]

    def list(self, meta: Any, c: list[Any]) -> Any:
        return s.ListOf(items=tuple(x for x in c if x is not None), span=self.span(meta))

    def indexed(self, meta: Any, c: list[Any]) -> Any:
        of, *items = c
        found = tuple(
            i if isinstance(i, s.Argument) else s.Argument(name=None, value=i, span=i.span) for i in items
        )
        return s.Index(of=of, items=found, span=self.span(meta))

    def picked(self, meta: Any, c: list[Any]) -> Any:
        return self.indexed(meta, c)

    def open_end(self, meta: Any, c: list[Any]) -> Any:
        return s.Interval(start=c[0], stop=None, span=self.span(meta))

    def open_start(self, meta: Any, c: list[Any]) -> Any:
        return s.Interval(start=None, stop=c[0], span=self.span(meta))

    half_open, half_open_start = open_end, open_start

    def named_index(self, meta: Any, c: list[Any]) -> Any:
        return s.Argument(name=str(c[0]), value=c[1], span=self.span(meta))

    def call(self, meta: Any, c: list[Any]) -> Any:
        function, *arguments = c
        found = tuple(a for a in arguments if a is not None)
        return s.CallOf(function=function, arguments=found, span=self.span(meta))

    def argument(self, meta: Any, c: list[Any]) -> Any:
        return s.Argument(name=None, value=c[0], span=self.span(meta))

    def keyword(self, meta: Any, c: list[Any]) -> Any:
        return s.Argument(name=str(c[0]), value=c[1], span=self.span(meta))

    def quoted(self, meta: Any, c: list[Any]) -> Any:
        return s.Argument(name=unquote(str(c[0])), value=c[1], quoted=True, span=self.span(meta))

    def over_phase(self, meta: Any, c: list[Any]) -> Any:
        return s.Argument(name=None, value=c[1], over=str(c[0]), span=self.span(meta))

    def member(self, meta: Any, c: list[Any]) -> Any:
        return s.Member(of=c[0], name=str(c[1]), span=self.span(meta))

    def path(self, meta: Any, c: list[Any]) -> Any:
        first, *rest = c
        found: Any = s.Name(name=str(first), span=self.token_span(first))
        for token in rest:
            span = found.span.to(self.token_span(token))
            found = s.Member(of=found, name=str(token), span=span)
        return found

    def pattern(self, meta: Any, c: list[Any]) -> Any:
        parts = (
            s.SelectorPart(name=str(p), span=self.token_span(p)) if isinstance(p, Token) else p for p in c
        )
        return s.Pattern(parts=tuple(parts), span=self.span(meta))

    def dotted(self, meta: Any, c: list[Any]) -> Any:
        return ".".join(map(str, c))


def value_of(text: str) -> int | float:
    """Return the value of a number literal."""
    plain = text.replace("_", "")
    return float(plain) if any(mark in plain for mark in ".eE") else int(plain)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


def unquote(text: str) -> str:
    """Return the text of a string literal; an unknown escape stands for the character itself."""
    out: list[str] = []
    characters = iter(text[1:-1])
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            out.append(_ESCAPES.get(escaped, escaped))
        else:
            out.append(character)
    return "".join(out)
