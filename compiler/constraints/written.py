"""Constraints written in the language: `constraint thresholded(t: real) { w => ...  gradient ... }`.

In: a definition and the arguments given. Out: a `Written` for each thing that it says about a weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.callables import match_arguments
from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Part, WeightMap
from nnspec.compiler.parameters import bind_parameters
from nnspec.compiler.values import Anonymous, Given, Refused, describe
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import CallOf, ConstraintDefinition, Expression, Lambda

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator


class Written(Constraint):
    """One clause of a constraint of the language, for the arguments of one use."""

    doc = ""

    def __init__(self, name: str, kind: str, part: Part) -> None:
        self.name = name  # type: ignore[misc]  # of the definition, not of the class
        self.kind = kind  # type: ignore[misc]
        self._part = part

    def part(self, site: WeightSite, span: Span | None) -> Part:
        """Return the part, whose blocks the type stage fits to the weight."""
        return self._part

    @classmethod
    def clauses(
        cls, elaborator: Elaborator, definition: Definition, given: tuple[Given, ...], span: Span | None
    ) -> tuple[Written, ...]:
        """Return what a definition says of a weight, or raise Refused."""
        item = definition.item
        if definition.broken or not isinstance(item, ConstraintDefinition):
            raise Refused
        arguments = bind_parameters(elaborator, definition, given, span)
        forward = next((c.value for c in item.clauses if c.kind == "forward"), None)
        if not isinstance(forward, Lambda):
            raise Refused
        target = Anonymous(forward, dict(arguments), definition.module)
        block = elaborator.make_anonymous(target, 1, item.name, span).replace(inline=False)
        straight, clip = _gradient(elaborator, definition, item, arguments)
        made = WeightMap(name=item.name, block=block, straight_through=straight, clip=clip, span=span)
        return (cls(item.name, "values", made),)


def _gradient(
    elaborator: Elaborator, definition: Definition, item: ConstraintDefinition, arguments: dict[str, Any]
) -> tuple[bool, float | None]:
    clause: Expression | None = next((c.value for c in item.clauses if c.kind == "gradient"), None)
    if clause is None:
        return False, None
    clip: Any = None
    if isinstance(clause, CallOf):
        builder = BlockBuilder(item.name, definition.module, dict(arguments), frozenset())
        evaluator = elaborator.evaluator(builder)
        given = tuple(evaluator.given(argument) for argument in clause.arguments)
        matched = match_arguments("straight_through", ("clip",), given, clause.span)
        clip = matched["clip"].value if "clip" in matched else None
        if clip is not None and not (isinstance(clip, int | float) and 0 < clip < float("inf")):
            why = "`clip` must be a finite number above 0, or none"
            raise Refused(
                WrongArgument(clause.span, callee="straight_through", why=why, found=describe(clip))
            )
    return True, None if clip is None else float(clip)
