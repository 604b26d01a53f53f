"""What an equation of dynamics may be made of: functions, perhaps ones that learn, and nothing that owns or draws.

In: the statements that an equation came to, and the instances that it made. Out: nothing, or a refusal.
"""

from __future__ import annotations

from nnspec.compiler.block_builder import BlockBuilder, Line
from nnspec.compiler.ir import Apply, Block, Call, Child
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Refused
from nnspec.dsl.errors.systems import WrongTerm

_OWNS = "an equation is written for one unit, and owns no layer"


def check_functions(builder: BlockBuilder, made: list[Child], body: list[Line], states: set[str]) -> None:
    """Refuse layers inside an equation, and random numbers: what joins units are connections."""
    for child in made:
        instance = child.instances[0]
        is_function = (
            instance.function if isinstance(instance, Block) else operation(instance.operation).tracks
        )
        if not is_function and child.name not in states:
            help_text = "what joins units is a connection: `connect a -> b via ..`"
            text = child.name if child.span is None else " ".join(child.span.text.split())
            raise Refused(WrongTerm(child.span, text=text, why=_OWNS, help=help_text))
    for statement, _, _ in body:
        if isinstance(statement, Apply) and operation(statement.operation.operation).draws:
            why = "it draws random numbers, and states that are drawn anew do not settle"
            help_text = "draw before the states settle, or behind them"
            raise Refused(WrongTerm(statement.span, text=statement.name, why=why, help=help_text))


def check_slope(builder: BlockBuilder, body: list[Line], text: str) -> None:
    """Refuse the slope of a function that learns: it would be that of another instance."""
    children = {child.name: child for child in builder.children}
    for statement, _, _ in body:
        if not isinstance(statement, Call):
            continue
        instance = children[statement.child].instances[0]
        if not (isinstance(instance, Block) and instance.is_pure):
            why = "the function learns, and its slope would learn numbers of its own"
            help_text = "use a function without `learn` parameters"
            raise Refused(WrongTerm(statement.span, text=text, why=why, help=help_text))
