"""`tied(path, transpose)`: the weight is another instance's, perhaps transposed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Tie
from nnspec.compiler.values import Given, Refused, describe
from nnspec.dsl.catalog import Argument
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.selectors import WrongTie
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import Expression, Member, Name

if TYPE_CHECKING:
    import torch

    from nnspec.compiler.evaluate import Evaluator


class Tied(Constraint):
    """A weight that another instance stores."""

    name = "tied"
    doc = "The weight is that of another instance of the same body, transposed if asked."
    kind = "tie"
    arguments = (
        Argument(name="path", kind="selector", doc="the other weight, such as `encoder.weight`"),
        Argument(name="transpose", kind="bool", doc="use the transpose", default=False),
    )

    def use(
        self, evaluator: Evaluator, arguments: tuple[WrittenArgument, ...], span: Span | None
    ) -> dict[str, Any]:
        """Return child, weight and whether it is transposed, for `tied(encoder.weight, transpose = true)`."""
        from nnspec.compiler.callables import match_arguments

        given = tuple(Given(name=a.name, value=None, expression=a.value, span=a.span) for a in arguments)
        matched = match_arguments(self.name, tuple(a.name for a in self.arguments), given, span)
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
        return {"child": child, "weight": weight, "transpose": transpose}

    def part(self, site: WeightSite, span: Span | None) -> Tie:
        """Return the tie."""
        return Tie(child=site["child"], weight=site["weight"], transpose=site["transpose"], span=span)

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the weight: what the other instance stores may be anything."""
        return weight

    def free(self, site: WeightSite) -> int:
        """Return 0: the other instance counts them."""
        return 0


def _path(path: Expression | None, span: Span | None) -> tuple[str, str]:
    if isinstance(path, Member) and isinstance(path.of, Name):
        return path.of.name, path.name
    raise Refused(
        WrongTie(path.span if path is not None else span, text=path.span.text if path else "nothing")
    )
