"""What emitted modules look like and hold: shared, repeated, constrained, tied instances; hostile names."""

from __future__ import annotations

import ast
import keyword
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.load import function, initial_state, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph, Tie, instances, state_key
from nnspec.compiler.naming import MODULE_ATTRIBUTES, attribute, variable
from nnspec.dsl.source import Source, Span


def keys(graph: Graph) -> list[str]:
    """Return the state-dict keys that the graph says there are, in order."""
    return [
        state_key(found.path, tensor.name)
        for found in instances(graph.root)
        for weight in found.primitive.weights
        for tensor in weight.stored
    ]


def agree(graph: Graph, *inputs: torch.Tensor) -> nn.Module:
    """Check that module, function and graph agree; return the module."""
    net = module(graph).eval()
    state = dict(net.state_dict())
    assert list(state) == keys(graph)
    assert torch.equal(net(*inputs), function(graph)(state, *inputs))
    return net


@pytest.mark.parametrize("name", ["mlp", "lenet", "residual_cnn", "mixer"])
def test_golden(name: str, networks: dict[str, Graph], golden: Any) -> None:
    golden(f"compiler/emit/golden/{name}.py.txt", emit(networks[name]))
    golden(f"compiler/emit/golden/{name}_functional.py.txt", emit_functional(networks[name]))


def test_shared_child_is_one_instance_called_twice(hand: Any) -> None:
    b = hand.network("twice")
    b.add("enc", hand.primitive("dense", units=6), shared=True)
    x = b.op("tanh", b.call("enc", b.input("x", (6,))))
    b.output("y", b.call("enc", x))
    graph = b.graph()
    assert keys(graph) == ["enc.weight", "enc.bias"]
    x = torch.randn(3, 6)
    net = agree(graph, x)
    assert torch.equal(net(x), net.enc(torch.tanh(net.enc(x))))


def test_equal_blocks_share_a_class_and_different_ones_do_not(hand: Any) -> None:
    def inner(units: int) -> Any:
        b = hand.network("inner")
        b.output("y", b.op("relu", b.layer("f", "dense", b.input("x", ("n",)), units=units)))
        return b.block()

    b = hand.network("outer")
    x = b.input("x", (4,))
    for name, units in (("a", 4), ("b", 4), ("c", 5)):
        b.add(name, inner(units))
        x = b.call(name, x)
    b.output("y", x)
    text = emit(b.graph())
    assert text.count("class Inner(") == 1 and text.count("class Inner2(") == 1
    agree(b.graph(), torch.randn(2, 4))


def test_one_instance_of_a_repeat_differs(hand: Any) -> None:
    binary = hand.laid(hand.binary())
    plain, bound = hand.primitive("dense", units=4), hand.primitive("dense", (binary,), units=4)
    b = hand.network("uneven")
    b.add("f", plain, bound, plain, repeated=True)
    b.output("y", b.call("f", b.input("x", (4,))))
    graph = b.graph()
    x = torch.randn(2, 4)
    net = agree(graph, x)
    f: Any = net.f
    hard = torch.where(f[1].weight >= 0, 1.0, -1.0)
    assert torch.equal(net(x), f[2](F.linear(f[0](x), hard, f[1].bias)))


def test_binary_weights_pass_gradients_straight_through(hand: Any) -> None:
    b = hand.network("hard_net")
    bound = hand.laid(hand.binary(clip=1.0))
    b.add("fc", hand.primitive("dense", (bound,), units=3))
    b.output("y", b.call("fc", b.input("x", (5,))))
    net, x = agree(b.graph(), torch.randn(4, 5)), torch.randn(4, 5)
    fc: Any = net.fc
    with torch.no_grad():
        fc.weight.copy_(torch.randn(3, 5) * 2)
        fc.weight[0, 0] = 0.0  # counts as +1
    weight, up = fc.weight.detach(), torch.randn(4, 3)
    hard = torch.where(weight >= 0, 1.0, -1.0)
    assert torch.equal(net(x), F.linear(x, hard, fc.bias))
    (net(x) * up).sum().backward()
    assert torch.allclose(fc.weight.grad, (up.t() @ x) * (weight.abs() <= 1))


def test_double_precision_reaches_the_effective_weight(hand: Any) -> None:
    b = hand.network("hard_net")
    b.add("fc", hand.primitive("dense", (hand.laid(hand.binary()),), units=3))
    kept = b.op("where", b.op("greater", b.call("fc", b.input("x", (5,))), constant=0), then=1, otherwise=-1)
    b.output("y", b.layer("out", "dense", kept, units=2))
    net = module(b.graph()).double()
    assert net(torch.randn(4, 5, dtype=torch.float64)).dtype == torch.float64


def test_effective_weight_of_a_shared_child_is_computed_once(hand: Any) -> None:
    b = hand.network("once")
    bound = hand.laid(hand.binary())
    b.add("enc", hand.primitive("dense", (bound,), units=6), shared=True)
    b.output("y", b.call("enc", b.op("relu", b.call("enc", b.input("x", (6,))))))
    text = emit(b.graph())
    assert text.count("binary(self.enc.weight)") == 1
    agree(b.graph(), torch.randn(3, 6))


@pytest.mark.parametrize("bias", [True, False])
def test_tied_transpose_stores_nothing_twice(hand: Any, bias: bool) -> None:
    b = hand.network("tied")
    b.add("enc", hand.primitive("dense", units=3))
    tie = hand.laid(Tie(child="enc", weight="weight", transpose=True))
    b.add("dec", hand.primitive("dense", (tie,), units=5, bias=bias))
    b.output("y", b.call("dec", b.op("tanh", b.call("enc", b.input("x", (5,))))))
    graph = b.graph()
    assert keys(graph) == ["enc.weight", "enc.bias"] + (["dec.bias"] if bias else [])
    x = torch.randn(2, 5)
    net = agree(graph, x)
    enc: Any = net.enc
    expected = F.linear(torch.tanh(enc(x)), enc.weight.t(), net.dec.bias if bias else None)
    assert torch.equal(net(x), expected)


def test_several_inputs_and_outputs_in_order(hand: Any) -> None:
    b = hand.network("pair")
    left, right = b.input("left", (3,)), b.input("right", (4,))
    b.output("first", b.op("concat", left, right, axis=-1))
    q, k = b.op("split", right, parts=2, axis=-1, outs=2)
    b.output("second", b.op("subtract", q, k))
    net = module(b.graph())
    a, c = torch.randn(2, 3), torch.randn(2, 4)
    first, second = net(a, c)
    assert torch.equal(first, torch.cat((a, c), -1)) and torch.equal(second, c[:, :2] - c[:, 2:])


def test_repeat_that_carries_two_values_and_keeps_an_input(hand: Any) -> None:
    b = hand.network("step", inline=True)
    h, c = b.input("h", ("n",)), b.input("c", ("n",))
    made = b.op("tanh", b.op("add", b.layer("f", "dense", h, units=4), c))
    b.output("c", c)
    b.output("h", made)
    step = b.block()
    b = hand.network("carry")
    x = b.input("x", (4,))
    b.add("repeat", step, step, step, repeated=True)
    left, right = b.call("repeat", x, b.op("relu", x), outs=2)
    b.output("y", b.op("add", b.op("add", left, right), x))
    graph = b.graph()
    x = torch.randn(2, 4)
    net = agree(graph, x)
    h, c = x, torch.relu(x)
    for cell in net.repeat:
        h, c = c, torch.tanh(cell.f(h) + c)
    assert torch.equal(net(x), h + c + x)


def test_symbolic_sizes_are_read_at_run_time(hand: Any) -> None:
    b = hand.network("tokens")
    x = b.layer("f", "dense", b.input("x", ("T", 6)), units=6)
    x = b.op("permute", b.op("reshape", x, shape=(hand.type(("T",)).shape[0], 2, 3)), axes=(1, 0, 2))
    b.output("y", b.op("sum", x, axis=0))
    net = module(b.graph())
    assert net(torch.randn(2, 5, 6)).shape == (2, 5, 3) and net(torch.randn(1, 9, 6)).shape == (1, 9, 3)


def test_lower_rank_is_aligned_apart_from_the_batch(hand: Any) -> None:
    b = hand.network("gate")
    b.output("y", b.op("multiply", b.input("x", (4, 3)), b.input("g", (3,))))
    x, g = torch.randn(5, 4, 3), torch.randn(5, 3)
    assert torch.equal(module(b.graph())(x, g), x * g[:, None])


# --------------------------------------------------------------------------------------------- hostile text

HOSTILE = [
    *keyword.kwlist,
    *sorted(MODULE_ATTRIBUTES),
    *("self", "torch", "F", "nn", "math", "Tensor", "print", "range", "super", "input", "x", "y", "layer"),
    *("prefix", "dtype", "ctx", "__init__", "__x", "_modules", "forward_", "Module"),
]


def _named(hand: Any, child: str, value: str, block: str) -> Graph:
    inner = hand.network(block, doc='"""quotes""" \\ and "')
    inner.output("y", inner.op("relu", inner.layer(child, "dense", inner.input(value, ("n",)), units=4)))
    b = hand.network(block + "_net", doc="\\")
    b.add(child, inner.block())
    hidden = b.op("relu", b.call(child, b.input("x_in", (4,))), to=value)
    b.output("y", b.op("add", hidden, hidden))
    return b.graph()


def _shape_of(text: str) -> str:
    """Return the tree of a text with every name replaced by one mark; `agree` tells whether they match."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for field in ("name", "id", "arg", "attr"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "name")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = "text"
    return ast.dump(tree)


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_names_parse_to_the_same_tree(word: str, hand: Any) -> None:
    harmless, hostile = _named(hand, "child", "value", "block"), _named(hand, word, word, word)
    assert _shape_of(emit(hostile)) == _shape_of(emit(harmless))
    assert _shape_of(emit_functional(hostile)) == _shape_of(emit_functional(harmless))
    agree(hostile, torch.randn(2, 4))


def test_reserved_attributes_cover_torch() -> None:
    for name in {*dir(nn.Module), *vars(nn.Module())}:
        if not name.startswith("_"):
            assert attribute(name) != name, name
    names = [
        "forward",
        "forward_",
        "forward__",
        "class",
        "class_",
        "__a",
        "u__a",
        "uu__a",
        "é",
        "_ue9_",
        "a",
        "_u5f_ue9_",
        "_",
        "1",
        "",
        " ",
    ]
    assert len({attribute(name) for name in names}) == len(names)
    assert all(attribute(name).isidentifier() and variable(name).isidentifier() for name in names)


def test_private_module_attributes_are_not_shadowed(hand: Any) -> None:
    for word in (name for name in vars(nn.Module()) if name.startswith("_")):
        agree(_named(hand, word, word, word), torch.randn(2, 4))


def test_hostile_docstrings_and_file_names(hand: Any) -> None:
    for doc in ['"""', "'''", "\\", 'ends in "', "a\nb\\n", "\x00\u2028\r", "<b>", '""" + evil() + """']:
        b = hand.network("net", doc=doc)
        b.add("fc", hand.primitive("dense", units=2))
        b.output("y", b.call("fc", b.input("x", (2,))))
        graph = b.graph()
        source = Source('evil\n__import__("os")\r"""\\.nnspec', "fc = 1")
        root = graph.root
        span = Span(source=source, start=0, end=2)
        graph = graph.replace(
            source=source, root=root.replace(children=tuple(c.replace(span=span) for c in root.children))
        )
        tree = ast.parse(emit(graph))
        network = tree.body[-1]
        assert isinstance(network, ast.ClassDef) and len(tree.body) == 3
        found = ast.get_docstring(network, clean=False) or ""
        assert [line.strip() for line in found.split("\n")] == [
            x.strip() for x in f"{doc.strip()}".split("\n")
        ] + ([""] if "\n" in doc.strip() else [])


def test_place_of_each_child_stands_in_a_comment(hand: Any) -> None:
    source = Source("digits.nnspec", "first\nfc = dense(2)")
    b = hand.network("net")
    b.add("fc", hand.primitive("dense", units=2).replace(span=Span(source=source, start=6, end=8)))
    b.output("y", b.call("fc", b.input("x", (2,))))
    assert "self.fc = nn.Linear(2, 2)  # digits.nnspec:2" in emit(b.graph())


# -------------------------------------------------------------------------------------------- functional core


def test_vmap_over_parameters_is_each_network_alone(networks: dict[str, Graph]) -> None:
    shapes = {"mlp": (8, 8), "lenet": (1, 28, 28), "residual_cnn": (3, 12, 12), "mixer": (6, 20)}
    for name, graph in networks.items():
        states, x = initial_state(graph, 5, 3), torch.randn(4, *shapes[name])
        many = torch.vmap(function(graph), in_dims=(0, None))(states, x)
        for k in range(3):
            alone = initial_state(graph, 5 + k)
            assert all(torch.equal(alone[key], states[key][k]) for key in alone)
            assert torch.allclose(function(graph)(alone, x), many[k], atol=1e-5)


def test_initial_state_leaves_the_global_generator_alone(networks: dict[str, Graph]) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    initial_state(networks["mlp"], 7)
    assert torch.equal(torch.rand(3), expected)


def test_emitting_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "import nnspec.compiler.emit.torch, nnspec.compiler.emit.functional\n"
        "import nnspec.compiler.emit.graph_json, nnspec.compiler.emit.targets\n"
        "from nnspec.compiler.operations.registry import operations\n"
        "operations()\n"
        "assert not {'torch', 'numpy', 'networkx', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_batch_statistics_under_vmap(networks: dict[str, Graph]) -> None:
    graph = networks["residual_cnn"]
    states, x = initial_state(graph, 0, 2), torch.randn(4, 3, 12, 12)
    forward = function(graph)
    many = torch.vmap(lambda state: forward(state, x, training=True))(states)
    net = module(graph).train()
    net.load_state_dict({key: value[1] for key, value in states.items()})
    assert torch.allclose(many[1], net(x), atol=1e-5)


def test_a_symbolic_size_can_be_a_constant(hand: Any) -> None:
    b = hand.network("scaled")
    size = hand.type(("T",)).shape[0]
    b.output(
        "y", b.op("divide", b.op("sum", b.op("divide", b.input("x", ("T", 2)), constant=size)), constant=2)
    )
    x = torch.randn(3, 5, 2)
    assert torch.allclose(module(b.graph())(x), x.mean(dim=(1, 2)))


def test_golden_constraints_and_ties(hand: Any, golden: Any) -> None:
    b = hand.network("bound", doc="A binary encoder, used twice, and its transpose.")
    x = b.input("x", (5,))
    b.add("enc", hand.primitive("dense", (hand.laid(hand.binary()),), units=5))
    h = b.op("tanh", b.call("enc", b.call("enc", x)), to="h")
    tie = hand.laid(Tie(child="enc", weight="weight", transpose=True))
    b.add("dec", hand.primitive("dense", (tie,), units=5))
    b.output("y", b.call("dec", h, to="y"))
    b.output("kept", b.op("where", b.op("greater", h, constant=0), then=1, otherwise=-1))
    golden("compiler/emit/golden/bound.py.txt", emit(b.graph()))
    golden("compiler/emit/golden/bound_functional.py.txt", emit_functional(b.graph()))
