"""What a body does beside giving its outputs, in training alone: penalties and updates of buffers.

In: a typed block. Out: its statements with those last that no output needs, and the lines behind the others. All
expressions are evaluated on the buffers as they were; a penalty keeps its gradient, an update has none. A buffer is
made anew rather than changed in place, since the values of this forward may need it in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nnspec.compiler.emit.text import Line, indent, lines
from nnspec.compiler.ir import Block, Statement
from nnspec.dsl.node import Node


class Order(Node):
    """The statements for the outputs, those for penalties alone, and those for updates alone."""

    main: tuple[Statement, ...]
    for_penalties: tuple[Statement, ...]
    for_updates: tuple[Statement, ...]

    @property
    def body(self) -> tuple[Statement, ...]:
        return (*self.main, *self.for_penalties, *self.for_updates)


def ordered(block: Block) -> Order:
    """Part the statements of a block by what needs them; one that nothing needs stays where it is."""
    outputs = _needed(block, (port.value for port in block.outputs))
    penalties = _needed(block, (penalty.value for penalty in block.penalties))
    updates = _needed(block, (update.value for update in block.updates))
    main: list[Statement] = []
    for_penalties: list[Statement] = []
    for_updates: list[Statement] = []
    for index, statement in enumerate(block.body):
        effect = index not in outputs and (index in penalties or index in updates)
        place = for_penalties if index in penalties else for_updates
        (place if effect else main).append(statement)
    return Order(main=tuple(main), for_penalties=tuple(for_penalties), for_updates=tuple(for_updates))


def _needed(block: Block, values: Iterable[str]) -> set[int]:
    """Return the places of the statements that these values depend on."""
    wanted = set(values)
    found: set[int] = set()
    for index in range(len(block.body) - 1, -1, -1):
        statement = block.body[index]
        if wanted.intersection(statement.outputs):
            found.add(index)
            wanted.update(statement.inputs)
    return found


def effect_lines(
    block: Block,
    order: Order,
    training: str,
    for_penalties: Callable[[], list[Line]],
    for_updates: Callable[[], list[Line]],
    read: Callable[[str], str],
    buffer: Callable[[str], str],
) -> list[Line]:
    """Return the lines of a module that are for training alone; the writers give those of statements."""
    types = dict(block.types)
    inside: list[Line] = []
    if block.penalties:
        inside += for_penalties()
        terms = [
            f'"{item.name}": {_mean(read(item.value), types[item.value].batched)}' for item in block.penalties
        ]
        inside += lines(f"self.penalties = {{{', '.join(terms)}}}")
    if block.updates:
        made = for_updates()
        targets = ", ".join(buffer(item.child) for item in block.updates)
        inner = {value for statement in order.for_updates for value in statement.outputs}
        joined = {v for statement in block.body if len(statement.inputs) > 1 for v in statement.outputs}

        def kept(value: str) -> str:
            if types[value].batched:
                return ""
            if value not in joined:  # it may be what another tensor stores, which training changes in place
                return ".clone()"
            return "" if value in inner else ".detach()"

        values = ", ".join(
            _mean(read(item.value), types[item.value].batched) + kept(item.value) for item in block.updates
        )
        inside += [Line(code="with torch.no_grad():"), *indent([*made, *lines(f"{targets} = {values}")])]
    return [Line(code=f"if {training}:"), *indent(inside)] if inside else []


def _mean(text: str, batched: bool) -> str:
    """Return the mean over the batch, in brackets' stead of an operator's text."""
    if not batched:
        return text
    return f"{text}.mean(0)" if text.replace(".", "").replace("_", "").isalnum() else f"({text}).mean(0)"
