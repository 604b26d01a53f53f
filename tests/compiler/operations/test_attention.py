"""`attention` and `rotary` against loops over heads, complex multiplication, and what they are known to keep."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nnspec.compiler.emit.export import exported, onnx_model
from nnspec.compiler.emit.load import function, module, plain_attention
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Apply, Axis, Graph
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation

Build = Callable[..., Graph]


def values(arguments: str, keys: int = 5, mask: str = "") -> str:
    """A network of nothing but attention: 4 heads of 6, 2 groups of keys and values, values of 3."""
    inputs = f"input q: real[5, 24]\n  input k: real[{keys}, 12]\n  input v: real[{keys}, 6]\n  {mask}"
    given = "q, k, v, mask = m" if mask else "q, k, v"
    return (
        f"network n {{\n  {inputs}\n  output y = attention({given}, heads = 4, groups = 2{arguments})\n}}\n"
    )


def by_loops(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    groups: int,
    allowed: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale * q k') v, one head, one query at a time."""
    width, other = q.shape[-1] // heads, v.shape[-1] // groups
    scale = 1 / sqrt(width) if scale is None else scale
    out = torch.zeros(*q.shape[:-1], heads * other, dtype=q.dtype)
    for head in range(heads):
        group = head // (heads // groups)
        for t in range(q.shape[-2]):
            query = q[..., t, head * width : (head + 1) * width]
            own = k[..., group * width : (group + 1) * width]
            scores = scale * (own @ query[..., None])[..., 0]
            if allowed is not None:
                scores = scores.masked_fill(~allowed[..., t, :], -torch.inf)
            shares = torch.exp(scores - scores.amax(-1, keepdim=True))
            shares = shares / shares.sum(-1, keepdim=True)
            mixed = (shares[..., None] * v[..., group * other : (group + 1) * other]).sum(-2)
            out[..., t, head * other : (head + 1) * other] = mixed
    return out


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(*shape, dtype=torch.float64) for shape in shapes]


def test_grouped_heads_are_a_loop_over_heads(build: Build) -> None:
    q, k, v = drawn((3, 5, 24), (3, 7, 12), (3, 7, 6))
    for arguments, scale in (("", None), (", scale = 0.7", 0.7)):
        graph = build(values(arguments, keys=7))
        expected = by_loops(q, k, v, 4, 2, scale=scale)
        torch.testing.assert_close(module(graph)(q, k, v), expected)
        torch.testing.assert_close(function(graph)({}, q, k, v), expected)


def test_one_group_and_one_head(build: Build) -> None:
    text = "network n {\n  input q: real[5, 12]\n  input k: real[4, 12]\n  output y = attention(q, k, k)\n}\n"
    q, k = drawn((3, 5, 12), (3, 4, 12))
    graph = build(text)
    assert "F.scaled_dot_product_attention(q, k, k)" in emit(graph)
    torch.testing.assert_close(module(graph)(q, k), by_loops(q, k, k, 1, 1))


def test_causal_positions_read_no_later_one(build: Build) -> None:
    q, k, v = drawn((3, 5, 24), (3, 5, 12), (3, 5, 6))
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()
    graph = build(values(", causal = true"))
    torch.testing.assert_close(module(graph)(q, k, v), by_loops(q, k, v, 4, 2, allowed))


@pytest.mark.parametrize(("causal", "shape"), [(False, (5, 7)), (False, (1, 7)), (True, (5, 5))])
def test_masks_hide_keys(build: Build, causal: bool, shape: tuple[int, int]) -> None:
    q, k, v = drawn((3, 5, 24), (3, shape[1], 12), (3, shape[1], 6))
    allowed = torch.rand(3, *shape) > 0.4
    allowed[..., 0] = True  # each query reads something
    order = torch.ones(5, shape[1], dtype=torch.bool)
    graph = build(
        values(f", causal = {str(causal).lower()}", shape[1], f"input m: bool[{shape[0]}, {shape[1]}]")
    )
    expected = by_loops(q, k, v, 4, 2, allowed & (order.tril() if causal else order))
    torch.testing.assert_close(module(graph)(q, k, v, allowed), expected)


def test_axes_before_the_sequence_are_kept(build: Build) -> None:
    text = "network n {\n  input q: real[2, 3, 5, 8]\n  output y = attention(q, q, q, heads = 2) -> rotary(heads = 2)\n}\n"
    (q,) = drawn((4, 2, 3, 5, 8))
    found = module(build(text))(q)
    torch.testing.assert_close(found, by_complex(by_loops(q, q, q, 2, 2), 2, 10000.0, "halves"))


def test_heads_are_factors_of_the_axis(build: Build) -> None:
    graph = build(values(""))
    (out,) = (graph.root.types[-1][1],)
    assert out.axes[-1] == Axis(size=12, factors=(4, 3))


def test_heads_may_be_a_dimension(build: Build) -> None:
    text = (
        'layer over_heads {\n  input x: real[T, h, d]\n  flat = x -> rearrange("T h d -> T (h d)")\n'
        "  output y = attention(flat, flat, flat, heads = h, groups = h) -> rotary(heads = h)\n}\n"
        "network n {\n  input x: real[5, 2, 4]\n  output y = x -> over_heads\n}\n"
    )
    (x,) = drawn((3, 5, 2, 4))
    flat = x.flatten(2)
    expected = by_complex(by_loops(flat, flat, flat, 2, 2), 2, 10000.0, "halves")
    torch.testing.assert_close(module(build(text))(x), expected)


def by_complex(x: Tensor, heads: int, base: float, pairs: str) -> Tensor:
    """Each pair as a complex number times e^(i t / base^(2 p / d)) (Su et al. 2021, equation 13)."""
    width = x.shape[-1] // heads
    out = x.clone()
    for head in range(heads):
        for pair in range(width // 2):
            a, b = (pair, pair + width // 2) if pairs == "halves" else (2 * pair, 2 * pair + 1)
            a, b = head * width + a, head * width + b
            for t in range(x.shape[-2]):
                angle = torch.tensor(t * base ** (-2 * pair / width), dtype=torch.float64)
                turned = torch.complex(x[..., t, a], x[..., t, b]) * torch.polar(
                    torch.ones((), dtype=torch.float64), angle
                )
                out[..., t, a], out[..., t, b] = turned.real, turned.imag
    return out


def turning(pairs: str, length: str = "9", base: str = "50") -> str:
    return (
        f"network n {{\n  input x: real[{length}, 12]\n"
        f'  output y = x -> rotary(heads = 2, base = {base}, pairs = "{pairs}")\n}}\n'
    )


@pytest.mark.parametrize("pairs", ["halves", "interleaved"])
def test_rotary_is_complex_multiplication(build: Build, pairs: str) -> None:
    (x,) = drawn((3, 9, 12))
    graph = build(turning(pairs))
    expected = by_complex(x, 2, 50.0, pairs)
    torch.testing.assert_close(module(graph)(x), expected)
    torch.testing.assert_close(function(graph)({}, x), expected)


def test_rotary_as_llama_writes_it(build: Build) -> None:
    """x cos + rotate_half(x) sin with each table written twice, as in the code of Llama at Hugging Face."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 9, 6)
    frequencies = 1.0 / (50.0 ** (torch.arange(0, 6, 2).float() / 6))
    angles = torch.outer(torch.arange(9).float(), frequencies)
    cos, sin = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()
    half = torch.cat((-x[..., 3:], x[..., :3]), -1)
    expected = (x * cos + half * sin).transpose(1, 2).flatten(2)
    torch.testing.assert_close(
        module(build(turning("halves")))(x.transpose(1, 2).flatten(2)), expected, atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("pairs", ["halves", "interleaved"])
def test_products_depend_on_distances_alone(build: Build, pairs: str) -> None:
    (row,) = drawn((2, 1, 12))
    turned = module(build(turning(pairs)))(row.expand(2, 9, 12))
    scores = turned @ turned.transpose(1, 2)
    for distance in range(9):
        along = scores.diagonal(distance, 1, 2)
        torch.testing.assert_close(along, along[:, :1].expand_as(along))
    assert scores[0, 0].std() > 0.1


@pytest.mark.parametrize("pairs", ["halves", "interleaved"])
def test_what_commutes_is_a_complex_number_for_each_pair(build: Build, pairs: str) -> None:
    """The commutant of the turns has dimension d, two for each pair, and each complex number is in it."""
    text = (
        f'network n {{\n  input x: real[5, 6]\n  output y = x -> rotary(base = 50, pairs = "{pairs}")\n}}\n'
    )
    net = module(build(text))
    turns = torch.stack([net(torch.eye(6, dtype=torch.float64)[i].expand(1, 5, 6))[0] for i in range(6)], -1)
    one = torch.eye(6, dtype=torch.float64)
    system = torch.cat([torch.kron(turn, one) - torch.kron(one, turn.T.contiguous()) for turn in turns])
    assert 36 - int(torch.linalg.matrix_rank(system)) == 6
    a, b = torch.randn(2, 3, dtype=torch.float64)
    first, second = ([0, 1, 2], [3, 4, 5]) if pairs == "halves" else ([0, 2, 4], [1, 3, 5])
    number = torch.zeros(6, 6, dtype=torch.float64)
    number[first, first], number[second, second], number[first, second], number[second, first] = a, a, -b, b
    for turn in turns:
        torch.testing.assert_close(number @ turn, turn @ number)


FULL = """
network n {
  input  x: real[T, 8]
  q = x -> dense(16) as q -> rotary(heads = 4)
  k = x -> dense(8) as k -> rotary(heads = 2)
  v = x -> dense(8) as v
  output y = attention(q, k, v, heads = 4, groups = 2, causal = true) -> dense(3) as o
}
"""


def test_exported_programs_take_sequences_of_any_length(build: Build) -> None:
    graph = build(FULL)
    torch.manual_seed(0)
    net = module(graph)
    program = exported(graph, state=net.state_dict()).module()
    for batch, length in ((2, 5), (3, 11), (4, 2)):
        x = torch.randn(batch, length, 8)
        torch.testing.assert_close(program(x), net(x))


def test_onnx_models_take_sequences_of_any_length(build: Build) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    graph = build(FULL)
    torch.manual_seed(0)
    net = module(graph)
    session = runtime.InferenceSession(onnx_model(graph, net.state_dict()))
    x = torch.randn(3, 7, 8)
    (found,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), net(x).detach(), atol=1e-5, rtol=1e-5)


def test_many_networks_are_one_vmap(build: Build) -> None:
    graph = build(FULL)
    nets = [module(graph).double() for _ in range(3)]
    states = {key: torch.stack([net.state_dict()[key] for net in nets]) for key in nets[0].state_dict()}
    (x,) = drawn((3, 6, 5, 8))
    found = torch.vmap(function(graph))(states, x)
    torch.testing.assert_close(found, torch.stack([net(item) for net, item in zip(nets, x, strict=True)]))


def test_derivatives_in_forward_and_reverse_mode_agree(build: Build) -> None:
    graph = build(FULL)
    state = module(graph).double().state_dict()
    (x,) = drawn((2, 5, 8))

    def outputs(weight: Tensor) -> Tensor:
        return function(graph)({**state, "k.weight": weight}, x)

    with plain_attention():
        forward = torch.func.jacfwd(outputs)(state["k.weight"])
    torch.testing.assert_close(forward, torch.func.jacrev(outputs)(state["k.weight"]))


def test_cost_counts_the_products_and_six_steps_of_a_softmax(build: Build) -> None:
    """What torch counts of the kernel are its products of matrices."""
    graph = build(values("", keys=7))
    (statement,) = graph.root.body
    assert isinstance(statement, Apply)
    primitive = statement.operation
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    q, k, v = (given.float() for given in drawn((1, 5, 24), (1, 7, 12), (1, 7, 6)))
    with FlopCounterMode(display=False) as counter:
        module(graph)(q, k, v)
    cost = operation("attention").cost(site).flops
    assert cost == counter.get_total_flops() + 6 * 4 * 5 * 7


def test_the_approximate_gelu_is_that_of_gpt2(build: Build) -> None:
    text = 'network n {\n  input x: real[50]\n  output y = x -> gelu(approximate = "tanh")\n}\n'
    x = torch.linspace(-5, 5, 50, dtype=torch.float64)[None]
    expected = 0.5 * x * (1 + torch.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    torch.testing.assert_close(module(build(text))(x), expected)
    rule = operation("gelu")
    for how, tolerance in (("tanh", 1e-15), ("none", 1e-3)):
        found = [rule.number({"approximate": how}, (float(value),)) for value in x[0]]
        assert max(abs(a - b) for a, b in zip(found, expected[0].tolist(), strict=True)) <= tolerance


def test_they_may_stand_in_an_activation(build: Build) -> None:
    text = (
        "activation mixed {\n  x => attention(rotary(x), rotary(x), x, heads = 2)\n}\n"
        "network n {\n  input x: real[5, 8]\n  output attention = x -> mixed\n}\n"
    )
    (x,) = drawn((3, 5, 8))
    turned = by_complex(x, 1, 10000.0, "halves")
    torch.testing.assert_close(module(build(text))(x), by_loops(turned, turned, x, 2, 2))


def test_queries_and_masks_may_be_the_same_for_every_sample(build: Build) -> None:
    text = (
        "network n {\n  input k: real[5, 8]\n  parameter q: real[3, 8] = normal(std = 1)\n"
        "  buffer m: bool[3, 5] = ones\n  output y = attention(q, k, k, heads = 2, mask = m)\n}\n"
    )
    graph = build(text)
    net = module(graph).double()
    state = net.state_dict()
    state["m"][1, 2:] = False
    (k,) = drawn((4, 5, 8))
    expected = by_loops(state["q"].expand(4, 3, 8), k, k, 2, 2, state["m"].expand(4, 3, 5))
    torch.testing.assert_close(net(k), expected)
    torch.testing.assert_close(function(graph)(state, k), expected)


def test_names_of_a_spec_do_not_hide_the_functions(build: Build) -> None:
    text = (
        "network n {\n  input rotary: real[5, 8]\n"
        "  attention = attention(rotary, rotary, rotary, heads = 2)\n"
        "  output y = attention -> rotary(heads = 2)\n}\n"
    )
    (x,) = drawn((3, 5, 8))
    expected = by_complex(by_loops(x, x, x, 2, 2), 2, 10000.0, "halves")
    for found in (module(build(text))(x), function(build(text))({}, x)):
        torch.testing.assert_close(found, expected)
