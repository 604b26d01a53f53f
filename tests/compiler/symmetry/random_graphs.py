"""Random networks that use every word of the library: small, typed right, each from one seed.

A step makes a value from values made before. Each kind of step says for which shapes it can stand, so that every
network passes `check`; widths are small, so that Jacobians are quick.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod

Shape = tuple[int, ...]
Made = tuple[str, Shape]
Z: Shape = (3,)

DEFINITIONS = """
constraint squared { w => w * abs(w) }
constraint shrunk { w => tanh(w) }
constraint signs {
  w => sign(w)
  gradient straight_through(clip = 1.0)
}
activation slanted(learn slope: real[unit] = 0.25) {
  x => where(x > 0, x, slope * x)
}
activation mixed(learn a: real[edge, 2] = normal(std = 0.5)) {
  x => a[0.., 0.., 0] * x + a[0.., 0.., 1] * sin(x)
}
activation crooked { x => x + 0.5 * tanh(2 * x) }
layer gain(width: int) {
  input  x: real[.., width]
  parameter a: real[width] = normal
  parameter b: real[width] = normal
  buffer k: real[width] = ones
  output y = (x * a + b) * k
}
layer memory(width: int, slots: int = 3) {
  input  x: real[.., width]
  parameter m: real[slots, width] = normal
  output y = softmax(x @ transpose(m)) @ m
}
layer one_scale(width: int) {
  input  x: real[.., width]
  parameter s: real = normal
  output y = s * x
}
"""

PLAIN = [
    "relu",
    "leaky_relu",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "gelu",
    "silu",
    "softplus",
    "elu",
    "sin",
    "cos",
    "abs",
    "sign",
    "erf",
    "square",
    "round",
    "floor",
    "ceil",
    "identity",
    "clamp(-1,1)",
    "clamp(0)",
    "leaky_relu(-0.5)",
    "elu(0.5)",
    'gelu(approximate="tanh")',
    "crooked",
    "stop_gradient",
    "dropout(0.2)",
]
# Functions that are defined, or do not overflow, on a part of the line only.
CAREFUL = (
    "abs({}) + 0.1 -> log",
    "abs({}) -> sqrt",
    "0.3 * ({}) -> exp",
    "({}) / (({}) ^ 2 + 1)",
    "({}) ^ 3",
    "2 / (abs({}) + 1)",
)
NORMS = ("layernorm", "layernorm(affine = false)", "rmsnorm", "rmsnorm(affine = false)")
ALONG = ("softmax", "log_softmax", "cumsum", "softmax(axis = 0)", "cumsum(axis = 0)")
REDUCED = ("sum", "mean", "max", "min", "variance", "norm")
CONSTRAINTS = [
    "squared",
    "shrunk",
    "signs",
    "binary",
    "ternary",
    'binary(scale="tensor",learned=true)',
    'binary(scale="channel")',
    "quantize(4)",
    "low_rank(1)",
    "low_rank(2)",
    "spectral",
    "normalized",
    "frozen",
    "l2(0.1)",
    "nonnegative",
    "mask((i,j)=>(i+j)%2==0)",
    "mask((i,j)=>i>=j)",
    "sparse(0.6)",
    "max_norm(2)",
    "box(-2,2)",
]
SQUARE = [
    "symmetric",
    "skew",
    "psd",
    "circulant",
    "toeplitz",
    "orthogonal",
    "near_identity(0.1)",
    "mask((i,j)=>i==j)",
    "mask((i,j)=>i!=j)",
    "equivariant(cyclic({n}))",
]


class Writer:
    """Writes one network, line by line."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.before: list[str] = []
        self.lines: list[str] = []
        self.constraints: list[str] = []
        self.number = 0
        kind = self.draw.choice(["vector", "vector", "matrix", "words", "two"])
        width = self.draw.randint(2, 4)
        self.values: list[tuple[str, Shape]] = [("x", (width,))]
        self.inputs = [f"input x: real[{width}]"]
        if kind == "matrix":
            length = self.draw.randint(2, 3)
            self.inputs, self.values = [f"input x: real[{length}, {width}]"], [("x", (length, width))]
        if kind == "words":
            self.inputs = ["input t: int[3]"]
            self.lines.append(f"x = t -> embedding(4, {width})")
            self.values = [("x", (3, width))]
        if kind == "two":
            self.inputs.append("input z: real[3]")
            self.values.append(("z", Z))

    def dense(self, width: int) -> str:
        return f"dense({width})" if self.draw.random() < 0.6 else f"dense({width}, bias = false)"

    def shared(self, text: str) -> str:
        name = f"s{self.number}"
        self.before.append(f"shared {name} = {text}")
        return name

    def named(self, text: str, constraint: str) -> str:
        self.constraints.append(f"constrain d{self.number}.weight: {constraint}")
        return f"{text} as d{self.number}"

    def line(self, name: str, text: str) -> str:
        self.lines.append(f"{name} = {text}")
        return name

    def step(self, kind: str) -> None:
        """Write lines that make a new value from an old one, if a step of this kind can follow it."""
        value, shape = self.values[-1] if self.draw.random() < 0.75 else self.draw.choice(self.values)
        self.number += 1
        made = STEPS[kind](self, value, shape)
        if made is not None and prod(made[1]) <= 16:
            self.line(f"v{self.number}", made[0])
            self.values.append((f"v{self.number}", made[1]))

    def spec(self, kinds: list[str]) -> str:
        for kind in kinds:
            self.step(kind)
        value, shape = self.values[-1]
        if not shape:
            value, shape = f"({value} -> unsqueeze(0))", (1,)
        end = self.draw.choice(["", "", "", " -> softmax", " -> tanh"])
        flat = " -> flatten" if len(shape) > 1 and self.draw.random() < 0.5 else ""
        self.lines.append(f"output y = {value}{flat} -> {self.dense(self.draw.randint(1, 3))}{end}")
        if self.draw.random() < 0.15:
            extra, size = self.draw.choice(self.values)
            self.lines.append(f"output also = {extra} -> tanh" if size else f"output also = {extra} * 2")
        body = "\n  ".join([*self.inputs, *self.before, *self.lines, *self.constraints])
        return f"{DEFINITIONS}\nnetwork n {{\n  {body}\n}}\n"

    def vector(self, value: str, shape: Shape) -> tuple[str, int]:
        """Return a value as a vector."""
        return (value, shape[0]) if len(shape) == 1 else (f"({value} -> flatten)", prod(shape))

    def pair(self, value: str, width: int) -> tuple[str, str]:
        return f"({value} -> {self.dense(width)})", f"({value} -> {self.dense(width)})"

    def function(self) -> str:
        return self.draw.choice(PLAIN)


Step = Callable[[Writer, str, Shape], "Made | None"]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    STEPS[function.__name__] = function
    return function


@step
def layer(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    m = w.draw.randint(2, 4)
    return f"{v} -> {w.dense(m)} -> {w.function()}", (*s[:-1], m)


@step
def linear(w: Writer, v: str, s: Shape) -> Made | None:
    m = w.draw.randint(1, 4)
    return (f"{v} -> {w.dense(m)} -> {w.dense(3)}", (*s[:-1], 3)) if s else None


@step
def function(w: Writer, v: str, s: Shape) -> Made:
    return f"{v} -> {w.function()}", s


@step
def careful(w: Writer, v: str, s: Shape) -> Made:
    form = w.draw.choice(CAREFUL)
    return form.replace("{}", v), s


@step
def residual(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    norm = w.draw.choice(["", "", f"{w.draw.choice(NORMS)} -> "]) if s[-1] > 1 else ""
    return f"{v} + ({v} -> {norm}{w.dense(w.draw.randint(2, 3))} -> {w.function()} -> {w.dense(s[-1])})", s


@step
def norm(w: Writer, v: str, s: Shape) -> Made | None:
    m = w.draw.randint(2, 4)
    return (f"{v} -> {w.dense(m)} -> {w.draw.choice(NORMS)}", (*s[:-1], m)) if s else None


@step
def batch_norm(w: Writer, v: str, s: Shape) -> Made | None:
    affine = w.draw.choice(["batchnorm", "batchnorm(affine = false)"])
    return (f"{v} -> {w.dense(3)} -> {affine}", (*s[:-1], 3)) if len(s) in (1, 2) else None


@step
def along(w: Writer, v: str, s: Shape) -> Made | None:
    return (f"{v} -> {w.draw.choice(ALONG)}", s) if s else None


@step
def gate(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    one, other = w.pair(v, 3)
    return f"({one} -> {w.function()}) * {other}", (*s[:-1], 3)


@step
def ratio(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    one, other = w.pair(v, 2)
    return f"{one} / (abs({other}) + 1)", (*s[:-1], 2)


@step
def arithmetic(w: Writer, v: str, s: Shape) -> Made:
    form = w.draw.choice(
        ["2 * {}", "{} + 1", "1 - {}", "-{}", "{} / 3", "{} ^ 2", "{} * {}", "{} - tanh({})"]
    )
    return form.replace("{}", v), s


@step
def joined(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) != 1:
        return None
    other = w.draw.choice([made for made in w.values if len(made[1]) == 1])
    return f"concat({v}, {other[0]})", (s[0] + other[1][0],)


@step
def stacked(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) != 1:
        return None
    one, other = w.pair(v, 3)
    stack = f"stack({one}, {other} -> {w.function()})"
    return w.draw.choice(
        [
            (f"{stack} -> mean(axis = 0)", (3,)),
            (f"{stack} -> max(axis = 0)", (3,)),
            (f"{stack} -> flatten", (6,)),
        ]
    )


@step
def halves(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    w.line(f"a{w.number}, b{w.number}", f"{v} -> {w.dense(4)} -> split(2)")
    form = w.draw.choice(
        ["a{k} * sigmoid(b{k})", "(a{k} -> relu) + b{k}", "a{k} - (b{k} -> tanh)", "maximum(a{k}, b{k})"]
    )
    return form.replace("{k}", str(w.number)), (*s[:-1], 2)


@step
def shared(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    name, f = w.shared(w.dense(s[-1])), w.function()
    return w.draw.choice(
        [f"{v} -> {name} -> {f} -> {name}", f"({v} -> {name} -> {f}) + ({v} -> tanh -> {name})"]
    ), s


@step
def tied(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    m, k = w.draw.randint(2, 3), w.number
    w.constraints.append(f"constrain f{k}.weight: tied(e{k}.weight, transpose = true)")
    return f"{v} -> {w.dense(m)} as e{k} -> {w.function()} -> {w.dense(s[-1])} as f{k}", s


@step
def repeated_weight(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    k = w.number
    w.constraints.append(f"constrain f{k}.weight: shared_with(e{k}.weight)")
    return f"{v} -> {w.dense(s[-1])} as e{k} -> {w.function()} -> {w.dense(s[-1])} as f{k} -> tanh", s


@step
def constrained(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    m = w.draw.randint(2, 4)
    return f"{v} -> {w.named(w.dense(m), w.draw.choice(CONSTRAINTS))} -> {w.function()}", (*s[:-1], m)


@step
def square_weight(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    m = w.draw.randint(2, 3)
    constraint = w.draw.choice(SQUARE).replace("{n}", str(m))
    return f"{v} -> {w.dense(m)} -> tanh -> {w.named(w.dense(m), constraint)} -> {w.function()}", (*s[:-1], m)


@step
def read_weight(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    k = w.number
    w.line(f"h{k}", f"{v} -> dense(3) as d{k} -> {w.function()}")
    return f"h{k} @ d{k}.weight", s


@step
def own(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    name = w.draw.choice(["gain", "memory", "one_scale"])
    return f"{v} -> {w.dense(3)} -> {name}(3)", (*s[:-1], 3)


@step
def learned(w: Writer, v: str, s: Shape) -> Made | None:
    return (f"{v} -> {w.dense(3)} -> slanted", (*s[:-1], 3)) if s else None


@step
def blocks(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    v, _ = w.vector(v, s)
    f = w.draw.choice([w.function(), "permute([1, 0])", "transpose"])
    return f"{v} -> {w.dense(6)} -> {w.function()} -> reshape([2, 3]) -> {f} -> flatten", (6,)


@step
def pattern(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    v, _ = w.vector(v, s)
    end, shape = w.draw.choice(
        [
            ('rearrange("a b -> (a b)")', (6,)),
            ('reduce("a b -> b", mean)', (2,)),
            ('reduce("a b -> a", max)', (3,)),
            ('reduce("a b -> b", norm)', (2,)),
        ]
    )
    text = f'rearrange("(a c) -> c a", a = 2) -> {w.dense(2)} -> {w.function()} -> {end}'
    return f"{v} -> {w.dense(6)} -> {text}", shape


@step
def pooled(w: Writer, v: str, s: Shape) -> Made | None:
    axis = w.draw.choice([0, 1])
    if len(s) != 2:
        return None
    return f"{v} -> {w.dense(3)} -> {w.function()} -> {w.draw.choice(REDUCED)}(axis = {axis})", (
        (3,) if axis == 0 else (s[0],)
    )


@step
def reduced(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    one = f"{w.vector(v, s)[0]} -> {w.dense(3)} -> {w.draw.choice(REDUCED)} -> unsqueeze"
    return f"{one} -> {w.dense(2)} -> {w.function()}", (2,)


@step
def entries(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) != 1 or s[0] < 2:
        return None
    return w.draw.choice([(f"{v}[0..{s[0] - 2}]", (s[0] - 1,)), (f"{v}[{s[0] - 1}] -> unsqueeze", (1,))])


@step
def convolution(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    v, _ = w.vector(v, s)
    bias = w.draw.choice(["", ", bias = false"])
    if w.draw.random() < 0.5:
        inner = w.draw.choice(
            [
                "maxpool(2, along = 1)",
                "avgpool(2, along = 1)",
                "batchnorm",
                "conv1d(2, kernel = 2, groups = 2)",
                w.function(),
            ]
        )
        text = (
            f"reshape([2, 4]) -> conv1d(2, kernel = 2{bias}) -> {w.function()} -> {inner} -> mean(axis = 1)"
        )
        return f"{v} -> {w.dense(8)} -> {text}", (2,)
    inner = w.draw.choice(["maxpool(2)", "avgpool(2)", "batchnorm", w.function()])
    text = f"reshape([1, 3, 3]) -> conv2d(3, kernel = 2{bias}) -> {w.function()} -> {inner} -> global_avgpool"
    return f"{v} -> {w.dense(9)} -> {text}", (3,)


@step
def padded(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) != 2:
        return None
    return f'{v} -> conv1d(2, kernel = 3, padding = "same", along = 0) -> {w.function()}', (s[0], 2)


@step
def bilinear(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) == 1:
        one, other = w.pair(v, 2)
        return f'einsum("i, j -> i j", {one}, {other} -> {w.function()}) -> flatten', (4,)
    if len(s) == 2:
        one, other = w.pair(v, 2)
        return w.draw.choice(
            [
                (f'einsum("i d, j d -> i j", {one}, {other})', (s[0], s[0])),
                (f"{one} @ transpose({other}) -> softmax", (s[0], s[0])),
                (f'einsum("i d, i d -> i", {one}, {other})', (s[0],)),
            ]
        )
    return None


@step
def attending(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) != 2:
        return None
    k = w.number
    heads, groups = w.draw.choice([(1, 1), (2, 2), (2, 1)])
    turn = " -> rotary(heads = {})" if w.draw.random() < 0.4 else ""
    width = 2
    w.line(f"q{k}", f"{v} -> {w.dense(heads * width)}{turn.format(heads)}")
    w.line(f"k{k}", f"{v} -> {w.dense(groups * width)}{turn.format(groups)}")
    w.line(f"w{k}", f"{v} -> {w.dense(groups * 2)}")
    causal = w.draw.choice(["", ", causal = true"])
    return f"attention(q{k}, k{k}, w{k}, heads = {heads}, groups = {groups}{causal}) -> {w.dense(s[-1])}", s


@step
def compared(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    one, other = w.pair(v, 3)
    form = w.draw.choice(
        [
            "where({a} > 0, {b}, 0)",
            "where({a} >= {b}, {a}, 1)",
            "{b} * (abs({a}) < 0.5)",
            "{b} * ({a} <= {b})",
            "where({a} == 0, 1, {b})",
            "{b} * ({a} != {b})",
            "where({a} > 0 and {b} < 1, {a}, {b})",
            "where({a} > 0 or not {b} > 0, {a}, 2)",
            "maximum({a}, {b})",
            "minimum({a}, 0)",
            "maximum({a}, 1)",
            "where({a} > 0, {b}, -{b})",
        ]
    )
    w.line(f"a{w.number}", one)
    w.line(f"b{w.number}", other)
    return form.replace("{a}", f"a{w.number}").replace("{b}", f"b{w.number}"), (*s[:-1], 3)


@step
def ranked(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    v, _ = w.vector(v, s)
    k = w.number
    if w.draw.random() < 0.5:
        w.line(f"t{k}, p{k}", f"{v} -> {w.dense(6)} -> reshape([3, 2]) -> top_k(2, axis = 0)")
        return f"t{k} -> flatten", (4,)
    word = w.draw.choice(["argmax", "argmin"])
    return (
        f"where(({v} -> {w.dense(6)} -> reshape([3, 2]) -> {word}(axis = -1)) > 0, {v} -> {w.dense(3)}, 0)",
        (3,),
    )


@step
def complex_numbers(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    one, other = w.pair(v, 2)
    w.line(f"c{w.number}", f"complex({one}, {other})")
    form = w.draw.choice(
        [
            "{c} -> abs",
            "{c} * {c} -> real",
            "({c} * ({c} -> conj)) -> real",
            "{c} -> tanh -> real",
            "{c} -> angle",
            "({c} + {c} * {c}) -> abs",
            "{c} -> sin -> imag",
        ]
    )
    return form.replace("{c}", f"c{w.number}"), (*s[:-1], 2)


@step
def kinds(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    return w.draw.choice(
        [
            (f"{v} -> {w.dense(5)} -> units([sin, square, identity, product])", (*s[:-1], 4)),
            (f"{v} -> {w.dense(4)} -> units([tanh * 2, relu * 2])", (*s[:-1], 4)),
            (f"{v} -> {w.dense(4)} -> product", (*s[:-1], 2)),
        ]
    )


@step
def through(w: Writer, v: str, s: Shape) -> Made:
    return f"straight_through({v} -> sign, {v} -> tanh)", s


@step
def compared_losses(w: Writer, v: str, s: Shape) -> Made | None:
    if len(s) != 1:
        return None
    one, other = w.pair(v, 3)
    text = w.draw.choice(
        [
            f"mean_squared_error({one}, {other})",
            f"mean_absolute_error({one}, {other})",
            f"huber({one}, {other}, delta = 1.0)",
            f"kl({one}, {other} -> tanh)",
            f"cross_entropy({one}, {other} -> argmax)",
            f"negative_log_likelihood({one} -> log_softmax, {other} -> argmax)",
            f"hinge({one}, {other} -> argmax)",
        ]
    )
    return f"{text} -> unsqueeze", (1,)


@step
def noisy(w: Writer, v: str, s: Shape) -> Made:
    return f"{v} + 0.3 * sample(normal, like = {v})", s


@step
def branches(w: Writer, v: str, s: Shape) -> Made | None:
    if not s:
        return None
    text = f"{v} -> fork(2) {{ {w.dense(2)} -> {w.function()} }}"
    return w.draw.choice(
        [
            (f"{text} -> stack -> mean(axis = 0)", (*s[:-1], 2)),
            (f"{text} -> concat(axis = -1)", (*s[:-1], 4)),
            (f"{text} -> add", (*s[:-1], 2)),
            (f"{text} -> multiply", (*s[:-1], 2)),
            (f"{text} -> subtract", (*s[:-1], 2)),
        ]
    )


def random_spec(seed: int) -> str:
    """Return a spec with one network `n`; the first step of seed k is of kind k, so that every kind has its turn."""
    draw = random.Random(seed)
    names = list(STEPS)
    count = draw.randint(1, 3)
    picked = [names[seed % len(names)], *(draw.choice(names) for _ in range(count))]
    draw.shuffle(picked)
    return Writer(seed).spec(picked)
