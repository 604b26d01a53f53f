"""Who reads what in a block, and what a weight in use is as an expression.

In: a typed block; a weight, and how a form reaches tensors and maps. Out: places, counts, expressions.
"""

from __future__ import annotations

from collections.abc import Callable

from nnspec.compiler.ir import Apply, Block, Call, Code, Loop, Primitive, Tensor, Weight, WeightMap
from nnspec.compiler.naming import attribute
from nnspec.compiler.operations.registry import operation


def last_uses(block: Block) -> dict[str, int]:
    """Return the place of the last statement of a block that reads each value."""
    found = {value: index for index, statement in enumerate(block.body) for value in statement.inputs}
    loops = [index for index, statement in enumerate(block.body) if isinstance(statement, Loop)]
    for port in block.inputs if loops else ():  # states begin in their batch
        found[port.value] = max(loops[-1], found.get(port.value, -1))
    kept = (*block.outputs, *block.updates, *block.penalties)
    found.update({item.value: len(block.body) for item in kept})
    for statement in reversed(block.body):
        if (
            isinstance(statement, Apply)
            and operation(statement.operation.operation).constant(statement.operation.options) is not None
        ):
            last = found.get(statement.outputs[0], -1)
            found.update({value: max(found[value], last) for value in statement.inputs})
    return found


def is_same(one: Primitive, other: Primitive) -> bool:
    """Return whether two uses compute the same of the same values."""
    return one.operation == other.operation and one.arguments == other.arguments


def readers(block: Block) -> dict[tuple[str, str], int]:
    """Return how often each weight of a child is read: by its own calls and by ties."""
    calls: dict[str, int] = {}
    for statement in block.body:
        if isinstance(statement, Call):
            calls[statement.child] = calls.get(statement.child, 0) + 1
    found: dict[tuple[str, str], int] = {}
    for child in block.children:
        for instance in child.instances:
            for weight in getattr(instance, "weights", ()):
                own = (attribute(child.name), weight.name)
                found[own] = found.get(own, 0) + calls.get(child.name, 0)
                if weight.tie:
                    other = (attribute(weight.tie.child), weight.tie.weight)
                    found[other] = found.get(other, 0) + calls.get(child.name, 0)
    return found


def effective_text(
    weight: Weight,
    reach: Callable[[Tensor], str],
    mapped: Callable[[WeightMap], str],
    maps: tuple[WeightMap, ...] | None = None,
) -> str:
    """Return the expression of a weight after all its maps, or after these first ones."""
    main = [tensor for tensor in weight.stored if tensor.name == weight.name]
    text = reach(main[0]) if main else ""
    for item in weight.maps if maps is None else maps:
        given = [] if item.replaces else [text]
        given += [reach(tensor) for tensor in item.stored]
        text = call_text(mapped(item), given, item.code)
    return text


def call_text(name: str, given: list[str], code: Code | None) -> str:
    """Return a call with the options of a function of the library."""
    options = [] if code is None else [f"{key}={value!r}" for key, value in code.options]
    return f"{name}({', '.join([*given, *options])})"
