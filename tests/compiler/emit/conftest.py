"""A tiny builder of graphs, for tests that stand below the language."""

from __future__ import annotations

from collections.abc import Callable
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
    Carried,
    Child,
    Constraint,
    Graph,
    Instance,
    Loop,
    Port,
    Primitive,
    Pullback,
    Statement,
    Tie,
    Type,
    WeightMap,
    Word,
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


# ------------------------------------------------------------------------------------------------- systems

SOLVERS: dict[str, dict[str, Any]] = {
    "fixed_point": {"damping": 1.0, "steps": 50, "tolerance": 0.0},
    "anderson": {"damping": 1.0, "memory": 5, "ridge": 1e-4, "steps": 50, "tolerance": 0.0},
    "broyden": {"memory": 10, "steps": 50, "tolerance": 0.0},
    "euler": {"dt": 0.5, "steps": 50, "tolerance": 0.0},
    "rk4": {"dt": 0.5, "steps": 50, "tolerance": 0.0},
    "ift": {"steps": 50, "tolerance": 0.0},
    "phantom": {"steps": 5},
    "unrolled": {},
}


def word(name: str, **options: Any) -> Word:
    """Return a solver or a gradient with complete arguments."""
    return Word(name=name, arguments=tuple(sorted({**SOLVERS[name], **options}.items())))


def looped(
    graph: Graph,
    states: dict[str, tuple[str, str]],
    outputs: dict[str, str],
    *,
    form: str = "map",
    solver: Word | None = None,
    gradient: Word | None = None,
    clip: tuple[float, float] | None = None,
    driven: dict[str, str] | None = None,
    change: Callable[[tuple[Statement, ...]], tuple[Statement, ...]] = tuple,
    extra: dict[str, Type] | None = None,
) -> Graph:
    """Return a network that runs the body of a typed one as a loop.

    `states` are input ports of it and the values that they become; `outputs` name states.
    """
    root = graph.root
    types = dict(root.types)
    carried = tuple(
        Carried(
            name=name,
            before=before,
            after=after,
            result=f"{name}_settled",
            declared=types[before],
            driven=(driven or {}).get(name),
        )
        for name, (before, after) in states.items()
    )
    loop = Loop(
        name="settle",
        form=form,
        carried=carried,
        body=change(root.body),
        solver=solver or word("euler" if form == "flow" else "fixed_point"),
        gradient=gradient or word("ift"),
        clip=clip,
    )
    befores = {state.before for state in carried}
    block: Block = root.replace(
        inputs=tuple(port for port in root.inputs if port.value not in befores),
        outputs=tuple(Port(name=name, value=f"{state}_settled") for name, state in outputs.items()),
        body=(loop,),
        named=tuple(name for name in root.named if name not in befores),
        types=tuple({**types, **(extra or {}), **{s.result: types[s.before] for s in carried}}.items()),
    )
    return graph.replace(root=block)


def cell(inputs: int = 4, width: int = 6, form: str = "map", act: str = "tanh", **options: Any) -> Graph:
    """s = tanh(U x + b + W s), or ds/dt = tanh(..) - s."""
    b = Network("cell")
    x, s = b.input("x", (inputs,)), b.input("s", (width,))
    fed = b.layer("feed", "dense", x, units=width)
    back = b.layer("rec", "dense", s, units=width, bias=False)
    drive = b.op("add", fed, back, to="drive")
    after = b.op(act, drive, to="rate")
    if form == "flow":
        after = b.op("subtract", after, s, to="change")
    b.output("y", after)
    graph = b.graph()
    return looped(graph, {"s": ("s", after)}, {"y": "s"}, form=form, driven={"s": "drive"}, **options)


def transposed(value: str, statement: Any, at: str, end: str, cotangent: str) -> Pullback:
    """Return the way back through one statement."""
    return Pullback(
        name=value, through=(statement,), at=(at,), end=end, cotangent=cotangent, outputs=(value,)
    )


def pair(act: str = "hard_sigmoid", sizes: tuple[int, int, int] = (4, 6, 3), **options: Any) -> Graph:
    """Two layers of leaky units with one weight between them, used both ways, as of equilibrium propagation.

    h' = act'(h) (U x + b + W' act(o)) - h, o' = act'(o) (W act(h) + c) - o.
    """
    inputs, width, classes = sizes
    b = Network("pair")
    x, h, o = b.input("x", (inputs,)), b.input("h", (width,)), b.input("o", (classes,))
    rate_h, rate_o = b.op(act, h), b.op(act, o)
    fed = b.layer("feed", "dense", x, units=width)
    up = b.layer("up", "dense", rate_h, units=classes, to="up")
    down = b.op("identity", h, to="down")  # stands for the way back through `up`
    drive_h = b.op("add", fed, down, to="drive_h")
    slope_h = b.op("identity", drive_h, to="slope_h")  # stands for act'(h) drive_h
    slope_o = b.op("identity", up, to="slope_o")
    b.output("y", b.op("subtract", slope_h, h))
    b.output("z", b.op("subtract", slope_o, o))
    graph = b.graph()

    def change(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        by = {value: s for s in body for value in s.outputs}
        plain = by["up"].replace(outputs=("plain",))
        through = {
            "down": transposed("down", plain, rate_h, "plain", rate_o),
            "slope_h": transposed("slope_h", by[rate_h].replace(outputs=("again_h",)), h, "again_h", drive_h),
            "slope_o": transposed("slope_o", by[rate_o].replace(outputs=("again_o",)), o, "again_o", up),
        }
        return tuple(through.get(s.outputs[0], s) for s in body)

    types = dict(graph.root.types)
    outputs = [port.value for port in graph.root.outputs]
    return looped(
        graph,
        {"h": ("h", outputs[0]), "o": ("o", outputs[1])},
        {"y": "o"},
        form="flow",
        driven={"h": drive_h, "o": up},
        change=change,
        extra={"plain": types[up], "again_h": types[h], "again_o": types[o]},
        **options,
    )


class Systems:
    """What tests of loops use."""

    word = staticmethod(word)
    looped = staticmethod(looped)
    cell = staticmethod(cell)
    pair = staticmethod(pair)
    transposed = staticmethod(transposed)


@pytest.fixture
def systems() -> type[Systems]:
    return Systems
