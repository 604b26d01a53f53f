"""What stands in the nodes and on the edges of a picture.

Labels are Graphviz' HTML-like ones; every text of the spec is escaped. The alphabet is kept to glyphs that
every renderer has, such as the multiplication sign in shapes and the middle dot between functions.
"""

from __future__ import annotations

from html import escape
from typing import Any

from nnspec.compiler.diagrams.themes import Theme
from nnspec.compiler.ir import Block, Instance, Primitive, Tensor, Type, Word, instances
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
_LONGEST = 40  # characters of a line in a node
_SHORT = 30  # characters of an operation that fits on one line with all its options


def words(primitive: Primitive) -> tuple[str, str]:
    """Say what a primitive is and what else was asked of it: ("conv2d 16", "kernel 3, no bias")."""
    given = primitive.options
    if "constant" in given and primitive.operation in SYMBOLS:
        sign, constant = SYMBOLS[primitive.operation], given.get("constant")
        if constant is None:
            return sign, ""
        return (f"{constant} {sign} x" if given.get("reversed") else f"x {sign} {constant}"), ""
    body = given.get("body")
    if isinstance(body, Block):
        return " ".join([body.name, *(value_text(value) for _, value in body.arguments)]), ""
    rule = operation(primitive.operation)
    first, rest = primitive.operation, list[str]()
    for index, argument in enumerate(rule.arguments):
        value = given.get(argument.name)
        if argument.required and index == 0:
            first += " " + value_text(value, " × " if argument.name == "shape" else ", ")
        elif argument.required or value != argument.default:
            rest.append(_setting(argument.name, value))
    more = ", ".join(rest)
    if more and not rule.owns and len(first) + len(more) <= _SHORT:
        return f"{first}, {more}" if first != primitive.operation else f"{first} {more}", ""
    return first, more


def is_plain(primitive: Primitive) -> bool:
    """Return whether a function has no settings, or is an activation written in the language."""
    return "body" in primitive.options or words(primitive) == (primitive.operation, "")


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {value_text(value)}"


def value_text(value: Any, between: str = ", ") -> str:
    """Write an argument's value as short as it can be read."""
    listed = entries(value)
    if listed is not None:
        return between.join(value_text(item, " ") for item in listed)
    if isinstance(value, Word):
        return " ".join([value.name, *(value_text(given) for _, given in value.arguments)])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
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
        parts = (*weight.maps, *weight.projections, *weight.penalties)
        found.update({item.name: None for item in parts})
        if any(tensor.kind == "frozen" for tensor in weight.stored):
            found["frozen"] = None
        if weight.tie is not None:
            found[f"tied to {weight.tie.child}"] = None
    return list(found)


def clipped(text: str) -> str:
    """Return a text that fits into a node, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 3] + "..."


def node_label(title: str, theme: Theme, *, options: str = "", note: str = "", mark: str = "") -> str:
    """A bold line, and small ones: what else was asked, what it is called and holds, constraints."""
    rows = [f"<b>{escape(clipped(title))}</b>"]
    lines = ((options, theme.text), (note, theme.faint), (mark, theme.badge))
    rows += [
        f'<font point-size="9" color="{colour}">{escape(clipped(text))}</font>'
        for text, colour in lines
        if text
    ]
    return "<" + "<br/>".join(rows) + ">"


def quoted(text: str) -> str:
    """Return a DOT string; backslashes would begin Graphviz' own escapes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
