"""A tiny builder of graphs, for tests that stand below the language."""

from __future__ import annotations

from typing import Any

import pytest

from nnspec.compiler.ir import (
    Apply,
    Axis,
    Block,
    Call,
    Child,
    Constraint,
    Graph,
    Instance,
    Port,
    Primitive,
    Type,
    WeightMap,
)
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.typing import type_graph
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.dimensions import symbol


def tensor_type(shape: tuple[Any, ...], dtype: str = "real") -> Type:
    """Return a type; a text in the shape is a symbolic dimension."""
    sizes = [symbol(size) if isinstance(size, str) else size for size in shape]
    return Type(axes=tuple(Axis(size=size) for size in sizes), dtype=dtype)


def primitive(name: str, constraints: tuple[Constraint, ...] = (), **given: Any) -> Primitive:
    """Return an operation given its configuration, defaults filled in."""
    rule = operation(name)
    values = {argument.name: argument.default for argument in rule.arguments}
    values.update(given)
    return Primitive(operation=name, arguments=tuple(sorted(values.items())), constraints=constraints)


class Network:
    """Collects one block, statement by statement."""

    def __init__(self, name: str, doc: str | None = None, inline: bool = False) -> None:
        self.name, self.doc, self.inline = name, doc, inline
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.children: list[Child] = []
        self.body: list[Any] = []
        self.named: list[str] = []
        self.count = 0

    def input(self, name: str, shape: tuple[Any, ...] | None = None, dtype: str = "real") -> str:
        declared = None if shape is None else tensor_type(shape, dtype)
        self.inputs.append(Port(name=name, value=name, declared=declared))
        self.named.append(name)
        return name

    def value(self, name: str | None) -> str:
        if name is not None:
            self.named.append(name)
            return name
        self.count += 1
        return f"value_{self.count}"

    def op(self, operation_name: str, *inputs: str, to: Any = None, outs: int = 1, **given: Any) -> Any:
        made = self._outputs(to, outs)
        self.body.append(
            Apply(
                name=f"{operation_name}_{len(self.body)}",
                operation=primitive(operation_name, **given),
                inputs=inputs,
                outputs=made,
            )
        )
        return made[0] if outs == 1 else made

    def add(self, name: str, *instances: Instance, repeated: bool = False, shared: bool = False) -> str:
        self.children.append(Child(name=name, instances=instances, repeated=repeated, shared=shared))
        return name

    def call(self, child: str, *inputs: str, to: Any = None, outs: int = 1) -> Any:
        made = self._outputs(to, outs)
        self.body.append(Call(child=child, inputs=inputs, outputs=made))
        return made[0] if outs == 1 else made

    def layer(self, name: str, operation_name: str, *inputs: str, to: str | None = None, **given: Any) -> str:
        """Add a primitive child and call it."""
        self.add(name, primitive(operation_name, **given))
        return self.call(name, *inputs, to=to)

    def _outputs(self, to: Any, outs: int) -> tuple[str, ...]:
        names = to if isinstance(to, tuple) else (to,) * outs
        return tuple(self.value(name) for name in names)

    def output(self, name: str, value: str) -> None:
        self.outputs.append(Port(name=name, value=value))

    def block(self) -> Block:
        return Block(
            name=self.name,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            children=tuple(self.children),
            body=tuple(self.body),
            named=tuple(self.named),
            doc=self.doc,
            inline=self.inline,
        )

    def graph(self) -> Graph:
        """Return the typed graph."""
        bag = Bag()
        typed = type_graph(Graph(name=self.name, root=self.block(), doc=self.doc), bag)
        assert typed is not None, list(bag)
        return typed


class Hand:
    """What tests use: `hand.network("mlp")`, `hand.primitive("dense", units=3)`."""

    network = Network
    primitive = staticmethod(primitive)
    type = staticmethod(tensor_type)

    @staticmethod
    def binary(clip: float | None = 1.0) -> WeightMap:
        """Return w -> where(w >= 0, 1, -1), straight through within `clip`."""
        b = Network("binary")
        positive = b.op("greater_equal", b.input("w"), constant=0)
        b.output("y", b.op("where", positive, then=1, otherwise=-1))
        return WeightMap(name="binary", block=b.block(), straight_through=True, clip=clip)

    @staticmethod
    def masked() -> WeightMap:
        """Return w -> w * (|w| > 0.05), with its own derivative: a sparse weight as a masked dense one."""
        b = Network("sparse")
        w = b.input("w")
        kept = b.op("greater", b.op("abs", w), constant=0.05)
        b.output("y", b.op("multiply", w, kept))
        return WeightMap(name="sparse", block=b.block())


@pytest.fixture
def hand() -> type[Hand]:
    return Hand
