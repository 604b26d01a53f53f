"""Pushes: the body of a loop with something added to what drives its states, as a learning rule nudges them.

In: a block with a loop, and the names of states. Out: the loop whose body reads one more value for each of them.
"""

from __future__ import annotations

from nnspec.compiler.ir import (
    Apply,
    Block,
    Carried,
    Loop,
    Port,
    Primitive,
    Statement,
    Type,
)
from nnspec.compiler.rewrites.hoist import reading
from nnspec.dsl.node import Node


class Pushed(Node):
    """A body with pushes; `types` are those of its new values, `ports` where the pushes come in, in order."""

    body: tuple[Statement, ...]
    carried: tuple[Carried, ...]
    types: dict[str, Type]
    ports: tuple[Port, ...]


def pushed(block: Block, loop: Loop, names: frozenset[str]) -> Pushed:
    """Return the body of a loop in which these states are pushed."""
    types = dict(block.types)
    moved = {state.driven or state.after: state for state in loop.carried if state.name in names}
    made: dict[str, Type] = {}
    new: dict[str, str] = {}
    inside = {value for statement in loop.body for value in statement.outputs}
    body: list[Statement] = []

    def push(value: str) -> None:
        kind, before = types[moved[value].before], types[value]
        port, result = f"push of {moved[value].name}", f"{value} pushed"
        made.update({port: kind, result: kind})
        body.append(_added(value, port, result, (before, kind), kind))
        new[value] = result

    for value in moved:
        if value not in inside:  # no step changes it
            push(value)
    for statement in loop.body:
        body.append(reading(statement, new))
        for value in statement.outputs:
            if value in moved:
                push(value)
    carried = tuple(state.replace(after=new.get(state.after, state.after)) for state in loop.carried)
    ports = tuple(f"push of {state.name}" for state in loop.carried if state.name in names)
    return Pushed(
        body=tuple(body), carried=carried, types=made, ports=tuple(Port(name=p, value=p) for p in ports)
    )


def _added(value: str, port: str, result: str, inputs: tuple[Type, Type], kind: Type) -> Apply:
    arguments = (("constant", None), ("reversed", False))
    add = Primitive(operation="add", arguments=arguments, inputs=inputs, outputs=(kind,))
    return Apply(name=result, operation=add, inputs=(value, port), outputs=(result,))
