"""A block under construction: its scope, its children, its body, and the names of its values.

Knows nothing of expressions; `evaluate` fills it, statement by statement.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from nnspec.compiler.ir import (
    Apply,
    Ascription,
    Begin,
    Block,
    Call,
    Charge,
    Child,
    Instance,
    Law,
    Plain,
    Port,
    Primitive,
    Statement,
    Type,
    Update,
)
from nnspec.compiler.values import Value
from nnspec.dsl.definitions import Module
from nnspec.dsl.source import Span


class Draft(Protocol):
    """A statement with a body of its own, to be written once all names are settled."""

    def finish(self) -> Statement:
        """Return the statement."""
        ...


Line: TypeAlias = "tuple[Plain | Draft, tuple[Value, ...], tuple[Value, ...]]"


class BlockBuilder:
    """Collects one block. Values get readable temporary names, settled by `finish`."""

    def __init__(
        self,
        name: str,
        module: Module,
        scope: dict[str, Any],
        reserved: frozenset[str],
        is_body: bool = False,
    ) -> None:
        self.name = name
        self.is_body = is_body  # of a graph; others only evaluate configuration
        self.module = module
        self.scope = scope
        self.dimensions: set[str] = set()  # names that axes of declared types bear
        self.inputs: list[tuple[str, Value, Type | None, Span | None]] = []
        self.outputs: list[tuple[str, Value, Type | None, Span | None]] = []
        self.children: list[Child] = []
        self.body: list[Line] = []
        self.ascriptions: list[tuple[Value, Type, Span | None]] = []
        self.laws: list[Law] = []
        self.buffers: set[str] = set()
        self.updates: list[tuple[str, Value, Span | None]] = []
        self.penalties: list[tuple[str, Value, Span | None]] = []
        self.system: Any = (
            None  # the states and connections, a `systems.System`, from the first `state` line on
        )
        self.lent: dict[tuple[str, str], Value] = {}  # weights of children that stand as values
        self._taken = set(reserved)  # names that the spec gives to values
        self._counts: dict[str, int] = {}
        self._instances: dict[str, int] = {}

    def value(self, base: str) -> Value:
        """Return a new value with a name of its own."""
        count = self._counts.get(base, 0) + 1
        name = base if count == 1 else f"{base}_{count}"
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._taken.add(name)
        return Value(name, self)

    def input(self, name: str, declared: Type | None, span: Span | None) -> Value:
        value = Value(name, self)
        value.named = True
        self.inputs.append((name, value, declared, span))
        return value

    def name_value(self, value: Value, name: str) -> None:
        """Let a computed value bear the name that the spec gives it, unless it has one already."""
        if value.owner is self and not value.named:
            value.name = name
            value.named = True

    def rename(self, value: Value, base: str) -> None:
        """Give a computed value a readable name, unless the spec has given it one."""
        if (
            value.owner is self
            and not value.named
            and value.name not in [v.name for _, v, _, _ in self.inputs]
        ):
            value.name = self.value(base).name

    def instance_span(self, name: str) -> tuple[bool, Span | None]:
        """Return whether an instance of this name stands in the body already, and where it was made."""
        if name not in self._instances:
            return False, None
        spans = [child.span for child in self.children if child.name == name]
        spans += [s.span for s, _, _ in self.body if isinstance(s, Apply) and s.name == name]
        return True, spans[0] if spans else None

    def instance_name(self, base: str) -> str:
        """Return the name of an instance, numbered from the second of that name."""
        count = self._instances.get(base, 0) + 1
        name = base if count == 1 else f"{base}_{count}"
        while count > 1 and name in self._instances:
            count += 1
            name = f"{base}_{count}"
        self._instances[base] = count
        self._instances.setdefault(name, 1)
        return name

    def apply(
        self, name: str, primitive: Primitive, inputs: tuple[Value, ...], count: int, span: Span | None
    ) -> tuple[Value, ...]:
        """Add the use of an operation that owns nothing."""
        own = self.instance_name(name)
        outputs = tuple(self.value(name) for _ in range(count))
        statement = Apply(name=own, operation=primitive, inputs=(), outputs=(), span=span)
        self.body.append((statement, inputs, outputs))
        return outputs

    def add_child(
        self,
        name: str,
        instances: tuple[Instance, ...],
        span: Span | None,
        repeated: bool = False,
        flow: str = "chain",
        shared: bool = False,
        begins: Begin | None = None,
    ) -> str:
        own = self.instance_name(name)
        child = Child(name=own, instances=instances, repeated=repeated, flow=flow, shared=shared, span=span)
        self.children.append(child.replace(begins=begins))
        return own

    def call(self, child: str, inputs: tuple[Value, ...], count: int, span: Span | None) -> tuple[Value, ...]:
        """Add a call of a child."""
        outputs = tuple(self.value(child) for _ in range(count))
        self.body.append((Call(child=child, inputs=(), outputs=(), span=span), inputs, outputs))
        return outputs

    @contextmanager
    def nested(self) -> Generator[list[Line]]:
        """Collect statements into a body inside the body; what it made once is not seen outside, nor the reverse."""
        outside, lent = self.body, self.lent
        self.body, self.lent = [], {}
        try:
            yield self.body
        finally:
            self.body, self.lent = outside, lent

    def finish(self, **extra: Any) -> Block:
        """Return the block, with every value under its settled name."""
        body = finished(self.body)
        named = {v.name: None for _, v, _, _ in self.inputs}
        named.update({v.name: None for _, _, outs in self.body for v in outs if v.named})
        return Block(
            name=self.name,
            inputs=tuple(_port(*item) for item in self.inputs),
            outputs=tuple(_port(*item) for item in self.outputs),
            children=tuple(self.children),
            body=body,
            named=tuple(named),
            ascriptions=tuple(
                Ascription(value=v.name, declared=t, span=span) for v, t, span in self.ascriptions
            ),
            laws=tuple(self.laws),
            updates=tuple(Update(child=name, value=v.name, span=span) for name, v, span in self.updates),
            penalties=tuple(Charge(name=name, value=v.name, span=span) for name, v, span in self.penalties),
            **extra,
        )


def finished(body: list[Line]) -> tuple[Statement, ...]:
    """Return statements with the settled names of their values."""
    return tuple(
        statement.replace(inputs=tuple(v.name for v in inputs), outputs=tuple(v.name for v in outputs))
        if isinstance(statement, Apply | Call)
        else statement.finish()
        for statement, inputs, outputs in body
    )


def _port(name: str, value: Value, declared: Type | None, span: Span | None) -> Port:
    return Port(name=name, value=value.name, declared=declared, span=span)
