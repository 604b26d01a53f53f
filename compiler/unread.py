"""Warns of inputs, values and states that no output depends on: they make instances that never learn.

In: a typed graph, so that a spec with errors is not warned about as well. Out: warnings in the bag.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.ir import Block, Graph, Loop, blocks
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.names import NeverRead
from nnspec.dsl.errors.systems import UnheardState
from nnspec.dsl.source import Span


def warn_of_unread(graph: Graph, bag: Bag, read: frozenset[str] = frozenset()) -> None:
    """Add a warning for each input or named value of a block that nothing reads.

    `read` are the values of the network's own body that losses and metrics read.
    """
    for block in blocks(graph.root):
        for name, span in _unread(block, read if block is graph.root else frozenset()):
            if span is not None:
                bag.add(NeverRead(span, name=name))
        for name, span in _unheard(block, read if block is graph.root else frozenset()):
            bag.add(UnheardState(span, name=name))


def _unread(block: Block, judged: frozenset[str]) -> Iterator[tuple[str, Span | None]]:
    read = {value for statement in block.body for value in statement.inputs} | judged
    read |= {item.value for item in (*block.outputs, *block.updates, *block.penalties)}
    yield from ((port.name, port.span) for port in block.inputs if port.value not in read)
    named = set(block.named)
    for statement in block.body:
        # Of the several values of one operation (`split`) some may be left.
        if not read & set(statement.outputs):
            yield from ((value, statement.span) for value in statement.outputs[:1] if value in named)


def _unheard(block: Block, judged: frozenset[str]) -> Iterator[tuple[str, Span | None]]:
    """Yield the states of loops that reach nothing behind the loop, however many steps they take."""
    outside = {value for statement in block.body for value in statement.inputs} | judged
    outside |= {item.value for item in (*block.outputs, *block.updates, *block.penalties)}
    for loop in (statement for statement in block.body if isinstance(statement, Loop)):
        wanted = {state.before for state in loop.carried if state.result in outside}
        before = -1
        while before < len(wanted):
            before = len(wanted)
            wanted.update(state.after for state in loop.carried if state.before in wanted)
            for statement in reversed(loop.body):
                if wanted.intersection(statement.outputs):
                    wanted.update(statement.inputs)
        yield from ((state.name, state.span) for state in loop.carried if state.before not in wanted)
