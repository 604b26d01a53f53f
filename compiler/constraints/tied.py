"""`tied(path, transpose)`: the weight is another instance's, perhaps transposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.ir import Tie
from nnspec.compiler.values import Given, Refused, describe
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.selectors import WrongTie
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import Expression, Member, Name

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


class Tied:
    """A weight that another instance stores."""

    name = "tied"
    doc = "The weight is that of another instance of the same body, transposed if asked."
    arguments = (
        Argument(name="path", kind="selector", doc="the other weight, such as `encoder.weight`"),
        Argument(name="transpose", kind="bool", doc="use the transpose", default=False),
    )

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(name=self.name, family="constraint", doc=self.doc, arguments=self.arguments)

    def tie(self, evaluator: Evaluator, arguments: tuple[WrittenArgument, ...], span: Span | None) -> Tie:
        """Return the tie that `tied(encoder.weight, transpose = true)` means."""
        from nnspec.compiler.callables import match_arguments

        given = tuple(Given(name=a.name, value=None, expression=a.value, span=a.span) for a in arguments)
        matched = match_arguments(self.name, ("path", "transpose"), given, span)
        path = matched["path"].expression if "path" in matched else None
        transpose = False
        if "transpose" in matched:
            written = matched["transpose"].expression
            assert written is not None
            transpose = evaluator.expression(written)
            if not isinstance(transpose, bool):
                why = "`transpose` must be true or false"
                raise Refused(
                    WrongArgument(written.span, callee=self.name, why=why, found=describe(transpose))
                )
        child, weight = _path(path, span)
        return Tie(child=child, weight=weight, transpose=transpose, span=span)


def _path(path: Expression | None, span: Span | None) -> tuple[str, str]:
    if isinstance(path, Member) and isinstance(path.of, Name):
        return path.of.name, path.name
    raise Refused(
        WrongTie(path.span if path is not None else span, text=path.span.text if path else "nothing")
    )
