"""What stands in the nodes and on the edges of a picture.

Labels are Graphviz' HTML-like ones; every text of the spec is escaped. The alphabet is kept to glyphs that
every renderer has: `x` for the product in shapes is the multiplication sign, which they do.
"""

from __future__ import annotations

from html import escape
from typing import Any

from nnspec.compiler.diagrams.themes import Theme
from nnspec.compiler.ir import Block, Instance, Primitive, Tensor, Type, instances
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import entries

SYMBOLS = {
    "add": "+",
    "subtract": "-",
    "multiply": "×",
    "divide": "/",
    "matmul": "@",
    "power": "^",
    "greater": ">",
    "greater_equal": "≥",
    "less": "<",
    "less_equal": "≤",
    "equal": "=",
    "not_equal": "≠",
}
_LONGEST = 40


def operation_text(primitive: Primitive) -> str:
    """Say what a primitive is: `dense 128`, `conv2d 6, kernel 3`, `2 - x`."""
    given = primitive.options
    if "constant" in given and primitive.operation in SYMBOLS:
        sign, constant = SYMBOLS[primitive.operation], given.get("constant")
        if constant is not None:
            return f"{constant} {sign} x" if given.get("reversed") else f"x {sign} {constant}"
        return sign
    parts: list[str] = []
    for argument in operation(primitive.operation).arguments:
        value = given.get(argument.name)
        if argument.required:
            text = value_text(value, " × " if argument.name == "shape" else ", ")
            parts.append(f"{argument.name} {text}" if parts else text)
        elif value != argument.default:
            parts.append(f"{argument.name} {value_text(value)}")
    return f"{primitive.operation} {', '.join(parts)}".strip()


def value_text(value: Any, between: str = ", ") -> str:
    """Write an argument's value as short as it can be read."""
    listed = entries(value)
    if listed is not None:
        return between.join(map(str, listed))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def shape_text(given: Type) -> str:
    """Write a shape for an edge: `8 × 8`; a single number has none."""
    return " × ".join(str(size) for size in given.shape)


def parameter_count(instance: Instance) -> int | None:
    """Return the number of learned scalars that an instance stores; None if a size is symbolic."""
    total = 0
    for tensor in _tensors(instance):
        count = 1
        for size in tensor.shape:
            if not isinstance(size, int):
                return None
            count *= size
        total += count
    return total


def _tensors(instance: Instance) -> list[Tensor]:
    primitives = [instance] if isinstance(instance, Primitive) else _primitives(instance)
    return [t for p in primitives for w in p.weights for t in w.stored if t.kind == "learned"]


def _primitives(block: Block) -> list[Primitive]:
    return [located.primitive for located in instances(block)]


def badges(primitive: Primitive) -> list[str]:
    """Return what is said about a primitive's weights: constraints and ties."""
    found: dict[str, None] = {}
    for weight in primitive.weights:
        found.update({item.name: None for item in weight.maps})
        if weight.tie is not None:
            found[f"tied to {weight.tie.child}"] = None
    return list(found)


def clipped(text: str) -> str:
    """Return a text that fits into a node, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 3] + "..."


def node_label(title: str, notes: list[str], marks: list[str], theme: Theme) -> str:
    """A bold first line, a small faint one, and a small coloured one."""
    rows = [f"<b>{escape(clipped(title))}</b>"]
    if notes:
        text = escape(" · ".join(clipped(note) for note in notes))
        rows.append(f'<font point-size="9" color="{theme.faint}">{text}</font>')
    if marks:
        text = escape(" · ".join(clipped(mark) for mark in marks))
        rows.append(f'<font point-size="9" color="{theme.badge}">{text}</font>')
    return "<" + "<br/>".join(rows) + ">"


def quoted(text: str) -> str:
    """Return a DOT string; backslashes would begin Graphviz' own escapes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
