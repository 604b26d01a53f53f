"""Constraints written in the language: `constraint thresholded(t: real) { w => ...  gradient ... }`.

In: a definition and the arguments given. Out: a constraint for each thing that it says about a weight: its map
with its gradient, its projection, its penalty, its mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.callables import match_arguments
from nnspec.compiler.constraints.conditions import condition
from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.constraints.mask import Mask
from nnspec.compiler.ir import Block, Part, Penalty, Primitive, Projection, WeightMap, instances
from nnspec.compiler.ir import Constraint as Laid
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.parameters import bind_parameters
from nnspec.compiler.values import Anonymous, Given, Refused, describe
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.definitions import ClauseOwns
from nnspec.dsl.errors.owned import ProgressOutside
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import CallOf, ConstraintDefinition, Expression, Lambda

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator


class Written(Constraint):
    """One clause of a constraint of the language, for the arguments of one use."""

    doc = ""

    def __init__(self, name: str, kind: str, part: Part) -> None:
        self.name = name  # of the definition, not of the class
        self.kind = kind
        self._part = part

    def part(self, site: WeightSite, span: Span | None) -> Part:
        """Return the part, whose blocks the type stage fits to the weight."""
        return self._part

    @classmethod
    def clauses(
        cls, elaborator: Elaborator, definition: Definition, given: tuple[Given, ...], span: Span | None
    ) -> tuple[Laid, ...]:
        """Return what a definition says of a weight, for any weight, or raise Refused."""
        item = definition.item
        if definition.broken or not isinstance(item, ConstraintDefinition):
            raise Refused
        arguments = bind_parameters(elaborator, definition, given, span)
        try:
            clauses = _Clauses(elaborator, definition, item, arguments, span)
            parts, masks = clauses.parts(), clauses.masks()
        except Refused as refused:
            if refused.error is not None and span is not None:
                use = Related(span=span, label=f"in this use of `{item.name}`")
                refused.error.related = (*refused.error.related, use)
            raise
        rules = (cls(item.name, kind, part) for kind, part in parts)
        return (*(Laid(weight="", rule=rule, span=span) for rule in rules), *masks)


class _Clauses:
    """The clauses of one definition for one list of arguments."""

    def __init__(
        self,
        elaborator: Elaborator,
        definition: Definition,
        item: ConstraintDefinition,
        arguments: dict[str, Any],
        span: Span | None,
    ) -> None:
        self.elaborator = elaborator
        self.module = definition.module
        self.name = item.name
        self.written = {clause.kind: clause.value for clause in item.clauses}
        self.arguments = arguments
        self.span = span

    def parts(self) -> list[tuple[str, Part]]:
        """Return (kind, part) for each clause but the gradient, which is part of the map."""
        name, span = self.name, self.span
        found: list[tuple[str, Part]] = []
        if "forward" in self.written:
            found.append(("values", self.map()))
        if "project" in self.written:
            found.append(("projection", Projection(name=name, block=self.block("project"), span=span)))
        if "penalty" in self.written:
            found.append(("penalty", Penalty(name=name, block=self.block("penalty"), span=span)))
        return found

    def masks(self) -> list[Laid]:
        """Return the mask: `mask((i, j) => ...)` of the library, whose condition sees the parameters."""
        written = self.written.get("mask")
        if not isinstance(written, Lambda):
            return []
        builder = BlockBuilder(self.name, self.module, dict(self.arguments), frozenset())
        entries = condition(self.elaborator.evaluator(builder), written)
        return [Laid(weight="", rule=Mask(), options=(("entries", entries),), span=self.span)]

    def map(self) -> WeightMap:
        made = WeightMap(name=self.name, block=self.block("forward"), span=self.span)
        gradient = self.written.get("gradient")
        if gradient is None:
            return made
        if isinstance(gradient, Lambda):
            return made.replace(gradient=self.block("gradient"))
        return made.replace(straight_through=True, clip=self.clip(gradient))

    def block(self, kind: str) -> Block:
        """Return the block of a clause that is a function."""
        function = self.written[kind]
        if not isinstance(function, Lambda):
            raise Refused
        target = Anonymous(function, dict(self.arguments), self.module)
        block = self.elaborator.make_anonymous(target, len(function.parameters), self.name, function.span)
        children = tuple(
            child.replace(instances=tuple(map(_function, child.instances))) for child in block.children
        )
        for located in instances(block):
            if operation(located.primitive.operation).tracks:
                span, help_text = function.span, "a constraint is a function of the weight alone"
                name = located.primitive.operation
                raise Refused(ProgressOutside(span, name=name, help=help_text))
        for child in children:
            if not (isinstance(child.instances[0], Block) and child.instances[0].function):
                raise Refused(ClauseOwns(child.span, name=self.name, operation=child.name))
        return block.replace(inline=False, children=children)

    def clip(self, gradient: Expression) -> float | None:
        """Return the half-width of the window of `straight_through`; None if every gradient passes."""
        if not isinstance(gradient, CallOf):
            return None
        evaluator = self.elaborator.evaluator(
            BlockBuilder(self.name, self.module, dict(self.arguments), frozenset())
        )
        given = tuple(evaluator.given(argument) for argument in gradient.arguments)
        matched = match_arguments("straight_through", ("clip",), given, gradient.span)
        clip: Any = matched["clip"].value if "clip" in matched else None
        finite = isinstance(clip, int | float) and not isinstance(clip, bool) and 0 < clip < float("inf")
        if clip is not None and not finite:
            why = "`clip` must be a finite number above 0, or none"
            raise Refused(
                WrongArgument(gradient.span, callee="straight_through", why=why, found=describe(clip))
            )
        return None if clip is None else float(clip)


def _function(instance: Block | Primitive) -> Block | Primitive:
    """An anonymous function that is given as an activation: `x => sin(x)`."""
    if not isinstance(instance, Block) or instance.children or len(instance.inputs) != 1:
        return instance
    return instance.replace(function=True, inline=False)
