"""What a rule supposes of the rest to which states come: that it is smooth in the nudge, and that its slope is a gradient.

In: a typed system. Out: what is amiss, in words, and its place in the network. Imports no torch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nnspec.compiler.ir import Apply, Block, Call, Graph, Loop, Primitive, Pullback, Statement
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rewrites.acting import acting
from nnspec.compiler.rewrites.hoist import hoisted
from nnspec.compiler.rules.settled.scheme import loop_of
from nnspec.dsl.source import Span


class Jump(NamedTuple):
    """A function whose slope stands in a rate of change, and where that slope jumps; nowhere: at some states."""

    name: str
    at: tuple[float, ...]
    span: Span | None


def unlike_gradient(graph: Graph) -> str | None:
    """Say why what a rule multiplies is no gradient: pushes and synapses act on the units at no one place."""
    root = hoisted(graph.root)
    return acting(root, next(s for s in root.body if isinstance(s, Loop))).why


def jump(graph: Graph) -> Jump | None:
    """Return a function whose slope makes the rate of change jump at states that nothing keeps away from there.

    Where it jumps from one sign to the other, states slide along that place and cross it with every step.
    """
    loop = loop_of(graph)
    if loop.form != "flow":
        return None
    low, high = loop.clip or (-math.inf, math.inf)
    states = {state.before for state in loop.carried}
    slopes = (own for statement in loop.body if isinstance(statement, Pullback) for own in statement.through)
    for own in slopes:
        found = tuple(kink for kink in _kinks(graph.root, own, states) if not (kink <= low or kink >= high))
        if found:
            return Jump(
                _name(graph.root, own), tuple(kink for kink in found if not math.isnan(kink)), loop.span
            )
    return None


def _name(root: Block, statement: Statement) -> str:
    if isinstance(statement, Apply):
        return statement.operation.word or statement.operation.operation
    assert isinstance(statement, Call)
    instance = root.child(statement.child).instances[0]
    return instance.name if isinstance(instance, Block) else statement.child


def _kinks(root: Block, statement: Statement, states: set[str]) -> tuple[float, ...]:
    """Return the states at which the slope of a function jumps; not a number: it does so at some state."""
    if not isinstance(statement, Apply | Call):
        return ()
    instance = (
        statement.operation if isinstance(statement, Apply) else root.child(statement.child).instances[0]
    )
    if isinstance(instance, Block):
        given = {port.value for port in instance.inputs}
        return tuple(kink for own in instance.body for kink in _kinks(instance, own, given))
    found = tuple(
        kink for kink in operation(instance.operation).kinks(instance.options) if _turns(instance, kink)
    )
    return found if states.issuperset(statement.inputs) else (math.nan,) * bool(found)


def _turns(primitive: Primitive, kink: float) -> bool:
    """Return whether a slope times a drive, less a leak, may change its sign at a kink: not at 0 between slopes of one sign."""
    rule, step = operation(primitive.operation), 2.0**-10
    before, at, after = (float(rule.number(primitive.options, (kink + d,))) for d in (-step, 0, step))
    return kink != 0 or (at - before) * (after - at) <= 0
