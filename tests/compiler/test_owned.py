"""Parameters and buffers of a layer, and how tensors begin."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.emit.load import function, initial_state, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

ATTENTION = """
layer linear_attention(width: int, rank: int = 16) {
  input  x: real[T, width]
  parameter mix: real[rank, width] = normal(std = 0.02)
  parameter gain: real = constant(2)
  buffer seen: real[width] = zeros
  z = x + seen * gain
  output y: real[T, width] = softmax(z @ transpose(mix), axis = -1) @ mix
}
"""


def attention_network(lines: str = "") -> str:
    return f"""{ATTENTION}
network n {{
  input x: real[5, 8]
  output y = x -> repeat(2) {{ linear_attention(8, rank = 3) }} -> linear_attention(8, rank = 3) as last -> flatten -> dense(2)
{lines}
}}"""


class Attention(nn.Module):
    """The layer as an expert writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.empty(3, 8))
        nn.init.normal_(self.mix, std=0.02)
        self.gain = nn.Parameter(torch.full((), 2.0))
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        z = x + self.seen * self.gain
        return torch.softmax(z @ self.mix.T, -1) @ self.mix


class Twin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.repeat = nn.ModuleList([nn.ModuleDict({"linear_attention": Attention()}) for _ in range(2)])
        self.last = Attention()
        self.dense = nn.Linear(40, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.repeat:
            x = layer["linear_attention"](x)
        return self.dense(self.last(x).flatten(1))


def test_a_layer_with_parameters_is_what_an_expert_writes(build: Build) -> None:
    """Same names, same draws of torch's generator in the same order, same numbers in every form."""
    graph = verify(build(attention_network()))
    torch.manual_seed(3)
    net = module(graph)
    torch.manual_seed(3)
    twin = Twin()
    state = net.state_dict()
    assert list(state) == list(twin.state_dict())
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)
    assert {n for n, _ in net.named_buffers()} == {n for n, _ in twin.named_buffers()}
    x = torch.randn(4, 5, 8)
    for one in (net, twin):
        for buffer in one.buffers():
            buffer.fill_(0.3)
    torch.testing.assert_close(net(x), twin(x))
    torch.testing.assert_close(function(graph)(net.state_dict(), x), twin(x))
    torch.testing.assert_close(function(graph)(net.state_dict(), x, training=True), twin(x))
    assert graph_data(graph)["network"] == "n"


def test_many_networks_at_once_and_export(build: Build) -> None:
    graph = build(attention_network())
    x = torch.randn(4, 5, 8)
    forward = function(graph)
    states = initial_state(graph, 0, 3)
    stacked = torch.vmap(lambda state: forward(state, x))(states)
    for number in range(3):
        alone = forward(initial_state(graph, number), x)
        torch.testing.assert_close(stacked[number], alone)
    state = initial_state(graph, 0)
    torch.testing.assert_close(exported(graph, state=state).module()(x), forward(state, x))


def test_parameters_are_counted_once_each(build: Build) -> None:
    table = cost_table(build(attention_network()))
    assert table.parameters == 3 * (24 + 1) + 40 * 2 + 2
    assert table.buffers == 3 * 8


# ------------------------------------------------------------------------------------------------ initialize


@pytest.mark.parametrize(
    ("word", "torch_text"),
    [
        ("he_normal", "nn.init.kaiming_normal_({})"),
        ("he_uniform()", "nn.init.kaiming_uniform_({})"),
        ("xavier_normal", "nn.init.xavier_normal_({})"),
        ("xavier_uniform", "nn.init.xavier_uniform_({})"),
        ("lecun_normal", 'nn.init.kaiming_normal_({}, nonlinearity="linear")'),
        ("lecun_uniform", 'nn.init.kaiming_uniform_({}, nonlinearity="linear")'),
        ("orthogonal", "nn.init.orthogonal_({})"),
        ("orthogonal(gain = 0.5)", "nn.init.orthogonal_({}, gain=0.5)"),
        ("normal", "nn.init.normal_({})"),
        ("normal(std = 0.02)", "nn.init.normal_({}, std=0.02)"),
        ("normal(1, 0.02)", "nn.init.normal_({}, mean=1, std=0.02)"),
        ("uniform", "nn.init.uniform_({})"),
        ("uniform(-0.5, 0.5)", "nn.init.uniform_({}, a=-0.5, b=0.5)"),
        ("trunc_normal(std = 0.5)", "nn.init.trunc_normal_({}, std=0.5, a=-1.0, b=1.0)"),
        ("zeros", "nn.init.zeros_({})"),
        ("ones", "nn.init.ones_({})"),
        ("constant(3)", "nn.init.constant_({}, 3)"),
    ],
)
def test_every_initializer_is_the_call_of_torch(build: Build, word: str, torch_text: str) -> None:
    text = emit(
        build(f"""network n {{
  input x: real[6]
  output y = x -> dense(4) as fc1
  initialize fc1.weight: {word}
}}""")
    )
    assert f"        {torch_text.format('self.fc1.weight')}\n" in text


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    field = 1
    for size in shape[2:]:
        field *= size
    return shape[1] * field, shape[0] * field


@pytest.mark.parametrize(
    ("word", "variance"),
    [
        ("he_normal", lambda i, o: 2 / i),
        ("he_uniform", lambda i, o: 2 / i),
        ("xavier_normal", lambda i, o: 2 / (i + o)),
        ("xavier_uniform", lambda i, o: 2 / (i + o)),
        ("lecun_normal", lambda i, o: 1 / i),
        ("lecun_uniform", lambda i, o: 1 / i),
        ("normal(std = 0.3)", lambda i, o: 0.09),
        ("uniform(-0.5, 0.5)", lambda i, o: 1 / 12),
    ],
)
@pytest.mark.parametrize("kind", ["parameter", "dense", "conv2d"])
def test_draws_have_the_variance_of_the_paper(
    build: Build, word: str, variance: Callable[[int, int], float], kind: str
) -> None:
    line, shape, key = {
        "parameter": (f"x -> own\n  initialize own.p: {word}", (200, 150), "own.p"),
        "dense": (f"x -> dense(150)\n  initialize dense.weight: {word}", (150, 200), "dense.weight"),
        "conv2d": (
            f"x -> reshape([8, 5, 5]) -> conv2d(300, kernel = 3)\n  initialize every conv2d.weight: {word}",
            (300, 8, 3, 3),
            "conv2d.weight",
        ),
    }[kind]
    own = """layer own {
  input x: real[200]
  parameter p: real[200, 150] = zeros
  output y = (x -> reshape([1, 200])) @ p
}
"""
    torch.manual_seed(0)
    weight = module(build(f"{own}network n {{\n  input x: real[200]\n  output y = {line}\n}}")).state_dict()[
        key
    ]
    assert tuple(weight.shape) == shape
    found, expected = weight.double().var(), variance(*fans(shape))
    # The variance of the sample variance of n draws is at most 2 v^2 / n (a normal's): five of its deviations.
    assert abs(found - expected) < 5 * expected * (2 / weight.numel()) ** 0.5
    assert abs(weight.double().mean()) < 5 * (expected / weight.numel()) ** 0.5


def test_orthogonal_rows_are_orthonormal_times_the_gain(build: Build) -> None:
    graph = build(attention_network("  initialize last.mix: orthogonal(gain = 2.0)"))
    mix = module(graph).state_dict()["last.mix"].double()
    torch.testing.assert_close(mix @ mix.T, 4 * torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)


def test_truncated_draws_stay_within_two_deviations(build: Build) -> None:
    graph = build(
        "network n {\n  input x: real[300]\n  output y = x -> dense(300)\n  initialize dense.weight: trunc_normal(0.5)\n}"
    )
    weight = module(graph).state_dict()["dense.weight"]
    assert weight.abs().max() <= 1.0 and weight.abs().max() > 0.99


def test_outer_lines_beat_inner_ones_and_later_ones_earlier_ones(build: Build) -> None:
    graph = build("""
layer inner {
  input x: real[3]
  parameter a: real[3] = constant(1)
  parameter b: real[3] = constant(1)
  parameter c: real[3] = constant(1)
  parameter d: real[3] = constant(1)
  output y = x * a * b * c * d
  initialize a: constant(2)
  initialize a, b, c: constant(3)
}
layer outer {
  input x: real[3]
  output y = x -> inner
  initialize inner.*: constant(4)
  initialize inner.* except inner.a, inner.d: constant(5)
}
network base {
  input x: real[3]
  output y = x -> outer -> inner as plain
  initialize outer.inner.b: constant(6)
}
network n = base {
  initialize plain.d: constant(7)
}
""")
    state = {name: float(tensor[0]) for name, tensor in module(graph).state_dict().items()}
    assert state == {
        "outer.inner.a": 4.0,
        "outer.inner.b": 6.0,
        "outer.inner.c": 5.0,
        "outer.inner.d": 4.0,
        "plain.a": 3.0,
        "plain.b": 3.0,
        "plain.c": 3.0,
        "plain.d": 7.0,
    }


def test_copies_that_begin_apart_do_not_share_a_class(build: Build) -> None:
    text = emit(build(attention_network("  initialize repeat[1].**.gain: constant(5)")))
    assert text.count("class LinearAttention") == 2 and "class LinearAttention2(" in text
    assert text.count("class Repeat") == 2
    state = module(build(attention_network("  initialize repeat[1].**.gain: constant(5)"))).state_dict()
    assert [float(state[f"repeat.{i}.linear_attention.gain"]) for i in range(2)] == [2.0, 5.0]


def test_whole_numbers_and_truth_values_are_buffers(build: Build) -> None:
    graph = build("""
layer positions(T: int) {
  input x: real[T]
  buffer steps: int[T] = constant(3)
  buffer kept: bool[T] = ones
  output y = where(kept, x, 0) + steps
}
network n {
  input x: real[4]
  output y = x -> positions(4)
}
""")
    state = module(graph).state_dict()
    assert state["positions.steps"].dtype == torch.int64 and state["positions.kept"].dtype == torch.bool
    x = torch.randn(2, 4)
    torch.testing.assert_close(module(graph)(x), x + 3)
    torch.testing.assert_close(function(graph)(state, x), x + 3)


def test_hostile_names_are_safe(build: Build) -> None:
    graph = build("""
layer own {
  input x: real[3]
  parameter forward: real[3] = constant(2)
  parameter class: real[3] = constant(3)
  parameter torch: real[3] = constant(5)
  output y = x * forward * class * torch
}
network n {
  input x: real[3]
  output y = x -> own
}
""")
    net, x = module(graph), torch.randn(2, 3)
    assert list(net.state_dict()) == ["own.forward_", "own.class_", "own.torch"]
    torch.testing.assert_close(net(x), x * 30)
    torch.testing.assert_close(function(graph)(net.state_dict(), x), x * 30)


# ---------------------------------------------------------------------------- values without a batch axis

BY_HAND: dict[str, Callable[[Tensor, dict[str, Tensor]], Tensor]] = {
    "x * v": lambda x, p: x * p["v"],
    "v - x": lambda x, p: p["v"] - x,
    "m + x": lambda x, p: p["m"] + x[:, None, :],
    "m * v + x": lambda x, p: p["m"] * p["v"][:, None] + x[:, None, :],
    "s * x / (1 + s)": lambda x, p: p["s"][:, None] * x / (1 + p["s"][:, None]),
    "stack(x, v) @ transpose(m)": lambda x, p: torch.stack((x, p["v"]), 1) @ p["m"].transpose(1, 2),
    "m @ transpose(stack(x, x, v))": lambda x, p: p["m"] @ torch.stack((x, x, p["v"]), 1).transpose(1, 2),
    "k @ stack(x, v)": lambda x, p: p["k"] @ torch.stack((x, p["v"]), 1)[:, None],
    "concat(x, v)": lambda x, p: torch.cat((x, p["v"]), 1),
    "concat(v, x, axis = 0)": lambda x, p: torch.cat((p["v"], x), 1),
    "[m, x -> reshape([1, 4])] -> concat(axis = 0)": lambda x, p: torch.cat((p["m"], x[:, None]), 1),
    "where(v > 0, x, m)": lambda x, p: torch.where(p["v"][:, None] > 0, x[:, None, :], p["m"]),
    "where(x > v, s, v)": lambda x, p: torch.where(x > p["v"], p["s"][:, None], p["v"]),
    "x > m": lambda x, p: x[:, None] > p["m"],
    "softmax(m, axis = 0) * x": lambda x, p: torch.softmax(p["m"], 1) * x[:, None],
    "(m -> flatten) * concat(x, x, x)": lambda x, p: p["m"].flatten(1) * torch.cat((x, x, x), 1),
    "(m -> reshape([4, 3])) + mean(x)": lambda x, p: p["m"].reshape(-1, 4, 3) + x.mean(1)[:, None, None],
    "m[1] * x + m[0..1, 2][0]": lambda x, p: p["m"][:, 1] * x + p["m"][:, 0, 2][:, None],
    "mean(m, axis = 0) + sum(v) * x": lambda x, p: p["m"].mean(1) + p["v"].sum(1)[:, None] * x,
    "(m -> permute([1, 0])) * (x -> reshape([4, 1]))": lambda x, p: p["m"].transpose(1, 2) * x[:, :, None],
    "exp(-m ^ 2) * tanh(x)": lambda x, p: torch.exp(-(p["m"] ** 2)) * torch.tanh(x)[:, None],
}


@pytest.mark.parametrize("expression", sorted(BY_HAND))
def test_parameters_broadcast_as_copies_for_each_sample_would(build: Build, expression: str) -> None:
    """Against torch by hand on parameters expanded over the batch; the batch is as large as other sizes."""
    graph = verify(
        build(f"""
layer own {{
  input x: real[4]
  parameter s: real = normal
  parameter v: real[4] = normal
  parameter m: real[3, 4] = normal
  parameter k: real[5, 3, 2] = normal
  output y = {expression}
}}
network n {{
  input x: real[4]
  output y = x -> own
}}""")
    )
    net = module(graph)
    for batch in (1, 2, 3, 4, 5):
        x = torch.randn(batch, 4)
        by_sample = {
            name.removeprefix("own."): p.expand(batch, *p.shape) for name, p in net.state_dict().items()
        }
        shared = {name.removeprefix("own."): p for name, p in net.state_dict().items()}
        # `k` broadcasts over its own axes in front of the matrices, so it takes part as it is.
        expected = BY_HAND[expression](x, {**by_sample, "k": shared["k"]})
        torch.testing.assert_close(net(x), expected)
        torch.testing.assert_close(function(graph)(net.state_dict(), x), expected)
    states = initial_state(graph, 0, 3)
    many = torch.vmap(lambda state: function(graph)(state, torch.ones(2, 4)))(states)
    assert many.shape[:2] == (3, 2)


def test_parameters_go_into_layers_and_repeats(build: Build) -> None:
    graph = verify(
        build("""
layer mixed {
  input x: real[4]
  input m: real[3, 4]
  output y = m * x
}
layer own {
  input x: real[4]
  parameter m: real[3, 4] = normal
  shared twice = dense(4)
  a = m -> repeat(2) { dense(4) -> tanh }
  output y = mixed(x -> twice, a) + (m -> twice)
}
network n {
  input x: real[4]
  output y = x -> own
}""")
    )
    net, x = module(graph), torch.randn(2, 4)
    p = net.state_dict()

    def dense(name: str, value: Tensor) -> Tensor:
        return value @ p[f"own.{name}.weight"].T + p[f"own.{name}.bias"]

    a = p["own.m"]
    for index in range(2):
        a = torch.tanh(dense(f"repeat.{index}.dense", a))
    expected = a * dense("twice", x)[:, None] + dense("twice", p["own.m"])
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(function(graph)(p, x), expected)


def test_random_expressions_against_explicit_copies(build: Build) -> None:
    """Random sums and products of an input and parameters of random shapes."""
    draw = random.Random(0)
    for number in range(25):
        shapes = {"x": (3, 4)}
        for name in "abc":
            rank = draw.randint(0, 3)
            full = (2, 3, 4)[3 - rank :]
            shapes[name] = tuple(draw.choice((size, 1)) for size in full)
        order = draw.sample(sorted(shapes), 4)
        signs = [draw.choice("+-*") for _ in range(3)]
        text = order[0] + "".join(f" {sign} {name}" for sign, name in zip(signs, order[1:], strict=True))
        lines = "\n".join(
            f"  parameter {name}: real{list(shape) if shape else ''} = normal"
            for name, shape in shapes.items()
            if name != "x"
        )
        graph = build(
            f"layer own {{\n  input x: real[3, 4]\n{lines}\n  output y = {text}\n}}\n"
            "network n {\n  input x: real[3, 4]\n  output y = x -> own\n}"
        )
        net = module(graph)
        x = torch.randn(2, 3, 4)
        values: dict[str, Tensor] = {"x": x[:, None]}  # to rank 3 behind the batch, which alone comes first
        for name, shape in shapes.items():
            if name != "x":
                own = net.state_dict()[f"own.{name}"]
                values[name] = own.reshape((1,) * (3 - len(shape)) + shape).expand(
                    2, *(1,) * (3 - len(shape)), *shape
                )
        expected = eval(text, {}, values)
        rank = max(len(shape) for shape in shapes.values())
        torch.testing.assert_close(
            net(x), expected if rank == 3 else expected[:, 0], msg=f"{number}: {text} {shapes}"
        )
