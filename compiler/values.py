"""What an expression can be worth while a spec is elaborated.

Configuration values are plain Python: int, float, bool, str, None, tuples, and `Dim` for symbolic sizes.
Beside them stand tensors (`Value`, a name in a block) and layers given some of their configuration
(`Layer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from nnspec.compiler.ir import Begin, Instance
from nnspec.dsl.catalog import Entry
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.dimensions import Dim, Size, substitute
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument, Expression, Lambda, Step


class Value:
    """A tensor of the block under construction. `name` is settled when the body is done."""

    def __init__(self, name: str, owner: object) -> None:
        self.name = name
        self.owner = owner  # the builder of the block that computes it
        self.named = False  # whether the spec gave it a name


class Given(Node):
    """An argument as given: evaluated, and with the expression it was written as."""

    name: str | None
    value: Any
    expression: Expression | None
    span: Span | None = None


class SharedInstance(Node):
    """A `shared` child of a block under construction."""

    child: str
    owner: Any
    inputs: int


class TrainedPart(Node):
    """A part of another experiment's network, and what its weights begin as."""

    instance: Instance
    begins: Begin


class Anonymous:
    """A chain of steps or an anonymous function used as a layer, with the scope it was written in."""

    def __init__(self, body: tuple[Step, ...] | Lambda, scope: dict[str, Any], module: Any) -> None:
        self.body = body
        self.scope = scope
        self.module = module


Target: TypeAlias = "Entry | Definition | SharedInstance | TrainedPart | Anonymous"


class Layer(Node):
    """Something that can be applied: a target and the arguments given so far."""

    target: Target
    name: str  # as written where it is used
    given: tuple[Given, ...] = ()
    span: Span | None = None


class Refused(Exception):
    """Evaluation cannot go on. Carries the error, or None where the cause was already reported."""

    def __init__(self, error: Error | None = None) -> None:
        super().__init__("" if error is None else str(error.message))
        self.error = error


class UnitCount(Node):
    """`f * k` in `units`: k units of one function."""

    layer: Layer
    count: int


class NamedSize:
    """A dimension's name with its size: an `axis` argument takes the name, any other the size."""

    def __init__(self, name: str, size: Any) -> None:
        self.name = name
        self.size = size


class Unknown:
    """The value of a name whose definition was refused; silent ever after."""


UNKNOWN = Unknown()


def entries(value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a list value, None for any other value."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else None


def resolve(value: Any, sizes: Mapping[str, Size]) -> Any:
    """Replace symbolic dimensions inside an argument by the sizes they are bound to."""
    if isinstance(value, Dim):
        return substitute(value, sizes)
    listed = entries(value)
    return value if listed is None else tuple(resolve(item, sizes) for item in listed)


def tensors(value: Any) -> tuple[Value, ...]:
    """Return the tensors that a value stands for: one, those of a list of them, or none."""
    if isinstance(value, Value):
        return (value,)
    found = entries(value) or ()
    return cast("tuple[Value, ...]", found) if all(isinstance(v, Value) for v in found) else ()


def describe(value: Any) -> str:
    """Say what a value is, for a message: "a tensor", "the number 3"."""
    match value:
        case Value():
            return "a tensor"
        case NamedSize():
            return describe(value.size)
        case UnitCount():
            return f"{value.count} units of `{value.layer.name}`"
        case Layer():
            kind = value.target.kind if isinstance(value.target, Definition) else "layer"
            return f"the {kind} `{value.name}`"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value}"'
        case None:
            return "none"
        case tuple():
            return "a list of tensors" if tensors(value) else "a list"
        case Dim():
            return f"the dimension {value}"
        case _:
            return "a value"


def source_text(expression: Expression | Argument) -> str:
    """Return an expression as it is written, on one line and not too long, for a message."""
    span = expression.span
    text = " ".join(span.text.split()) if span else ""
    return text if len(text) <= 60 else text[:57] + "..."
