"""A tiny builder of graphs, for tests that stand below the language."""

from __future__ import annotations

from typing import Any

import pytest

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.sparse import Sparse
from nnspec.compiler.constraints.written import Written
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
    Tie,
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
    def laid(part: WeightMap | Tie) -> Constraint:
        """Return a constraint on `weight` that comes to this, whatever the shape."""
        return Constraint(weight="weight", rule=Written("written", "values", part))

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

    @staticmethod
    def kept(form: str, pattern: str) -> Constraint:
        """Return half of the entries of `weight`, stored without the zeros although it is small."""
        options = {"density": 0.5, "pattern": pattern, "block": 2, "n": 2, "m": 4}

        class Kept(Sparse):
            def form(self, site: WeightSite) -> str:
                return form

        return Constraint(weight="weight", rule=Kept(), options=tuple(sorted(options.items())))


@pytest.fixture
def hand() -> type[Hand]:
    return Hand


# ------------------------------------------------------------------------------------------------- networks


def mlp() -> Graph:
    b = Network("digits_mlp", doc="Handwritten digits, with backprop.")
    x = b.op("flatten", b.input("image", (8, 8)))
    hidden = b.op("relu", b.layer("fc1", "dense", x, units=32), to="hidden")
    b.output("digit", b.layer("head", "dense", hidden, units=10, to="digit"))
    return b.graph()


def lenet() -> Graph:
    b = Network("lenet")
    x = b.input("image", (1, 28, 28))
    x = b.op("relu", b.layer("conv1", "conv2d", x, channels=6, kernel=5, padding=2))
    x = b.op("maxpool", x, kernel=2)
    x = b.op("relu", b.layer("conv2", "conv2d", x, channels=16, kernel=5))
    x = b.op("flatten", b.op("maxpool", x, kernel=2))
    x = b.op("relu", b.layer("fc1", "dense", x, units=120))
    x = b.op("relu", b.layer("fc2", "dense", x, units=84))
    b.output("digit", b.layer("fc3", "dense", x, units=10, to="digit"))
    return b.graph()


def _residual_block() -> Block:
    b = Network("residual", doc="Two convolutions around a skip.")
    x = b.input("x", ("c", "h", "w"))
    f = b.layer("conv1", "conv2d", x, channels=8, kernel=3, padding="same", bias=False)
    f = b.op("relu", b.layer("bn1", "batchnorm", f))
    f = b.layer("conv2", "conv2d", f, channels=8, kernel=3, padding="same", bias=False)
    f = b.layer("bn2", "batchnorm", f)
    b.output("y", b.op("relu", b.op("add", x, f)))
    return b.block()


def residual_cnn() -> Graph:
    b = Network("residual_cnn")
    x = b.layer("stem", "conv2d", b.input("image", (3, 12, 12)), channels=8, kernel=3, padding="same")
    block = _residual_block()
    b.add("blocks", block, block, block, repeated=True)
    x = b.op("global_avgpool", b.call("blocks", x))
    b.output("label", b.layer("head", "dense", x, units=5, to="label"))
    return b.graph()


def _feedforward(width: int) -> Block:
    b = Network("feedforward")
    x = b.op("gelu", b.layer("up", "dense", b.input("x", ("n", "m")), units=width))
    b.output("y", b.layer("down", "dense", x, units=16 if width == 64 else 6))
    return b.block()


def _mixer_block() -> Block:
    b = Network("mixer_block")
    x = b.input("x", ("tokens", "channels"))
    f = b.op("transpose", b.layer("norm1", "layernorm", x))
    b.add("mix_tokens", _feedforward(12))
    x = b.op("add", x, b.op("transpose", b.call("mix_tokens", f)))
    b.add("mix_channels", _feedforward(64))
    f = b.call("mix_channels", b.layer("norm2", "layernorm", x))
    b.output("y", b.op("add", x, f))
    return b.block()


def mixer() -> Graph:
    b = Network("mlp_mixer")
    x = b.layer("embed", "dense", b.input("patches", (6, 20)), units=16)
    block = _mixer_block()
    b.add("blocks", block, block, repeated=True)
    x = b.layer("norm", "layernorm", b.call("blocks", x))
    b.output("label", b.layer("head", "dense", b.op("mean", x, axis=0), units=3, to="label"))
    return b.graph()


@pytest.fixture
def networks() -> dict[str, Graph]:
    """The four networks that have hand-written twins."""
    return {"mlp": mlp(), "lenet": lenet(), "residual_cnn": residual_cnn(), "mixer": mixer()}
