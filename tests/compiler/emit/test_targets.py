"""Every cell of the table of targets and kinds of weight runs, on a small network."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.graph_json import emit_graph, graph_data
from nnspec.compiler.emit.load import function, initial_state, module
from nnspec.compiler.emit.targets import KINDS, TABLE, TARGETS, kinds
from nnspec.compiler.ir import Graph


def small(hand: Any, kind: str) -> Graph:
    laid = {
        "plain": ((), ()),
        "binary": ((hand.laid(hand.binary()),),) * 2,
        "sparse": ((hand.laid(hand.masked()),),) * 2,
        "compressed": ((hand.kept("rows", "random"),), (hand.kept("blocks", "blocks"),)),
    }[kind]
    b = hand.network("small")
    b.add("fc1", hand.primitive("dense", laid[0], units=6))
    x = b.op("tanh", b.call("fc1", b.input("x", (4,))))
    b.add("fc2", hand.primitive("dense", laid[1], units=2))
    b.output("y", b.call("fc2", x))
    return b.graph()


def rows_by_hand(state: dict[str, torch.Tensor]) -> torch.Tensor:
    weight = torch.zeros(6, 4)
    ends, columns = state["fc1.weight_ends"].tolist(), state["fc1.weight_columns"].tolist()
    for unit in range(6):
        for place in range(ends[unit], ends[unit + 1]):
            weight[unit, columns[place]] = state["fc1.weight_values"][place]
    return weight


def blocks_by_hand(state: dict[str, torch.Tensor]) -> torch.Tensor:
    weight = torch.zeros(2, 6)
    for place, column in enumerate(state["fc2.weight_columns"][0].tolist()):
        weight[:, 2 * column : 2 * column + 2] = state["fc2.weight_blocks"][0, place]
    return weight


def learned(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what is learned, and what is not."""
    real = {name: value for name, value in state.items() if value.is_floating_point()}
    return real, {name: value for name, value in state.items() if name not in real}


def expected(kind: str, state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The same network by hand."""
    if kind == "compressed":
        state = state | {"fc1.weight": rows_by_hand(state), "fc2.weight": blocks_by_hand(state)}

    def bound(weight: torch.Tensor) -> torch.Tensor:
        if kind == "binary":
            return torch.where(weight >= 0, 1.0, -1.0)
        return weight * (weight.abs() > 0.05) if kind == "sparse" else weight

    hidden = torch.tanh(x @ bound(state["fc1.weight"]).t() + state["fc1.bias"])
    return hidden @ bound(state["fc2.weight"]).t() + state["fc2.bias"]


def test_the_table_has_no_hole(hand: Any) -> None:
    assert set(TABLE) == {(target, kind) for target in TARGETS for kind in KINDS}
    assert all(cell.form in ("module", "function") and cell.weights for cell in TABLE.values())
    for kind in KINDS:
        assert kinds(small(hand, kind))[-1] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_train(kind: str, hand: Any) -> None:
    net, x = module(small(hand, kind)), torch.randn(5, 4)
    assert torch.allclose(net(x), expected(kind, dict(net.state_dict()), x))
    net(x).square().sum().backward()
    gradients = [p.grad for p in net.parameters()]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap(kind: str, hand: Any) -> None:
    graph, x = small(hand, kind), torch.randn(5, 4)
    forward, states = function(graph), initial_state(graph, 0, 3)

    def loss(real: dict[str, torch.Tensor], kept: dict[str, torch.Tensor]) -> torch.Tensor:
        return forward({**real, **kept}, x).square().sum()

    many = torch.vmap(torch.func.grad(loss))(*learned(states))
    for k in range(3):
        net = module(graph)
        net.load_state_dict({key: value[k] for key, value in states.items()})
        net(x).square().sum().backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, many[key][k], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
def test_export(kind: str, strict: bool, hand: Any) -> None:
    graph = small(hand, kind)
    if strict:
        net = module(graph, "export").eval()
        program = torch.export.export(net, (torch.zeros(2, 4),), strict=True)
        x = torch.randn(2, 4)
    else:
        program = exported(graph)
        x = torch.randn(9, 4)
    assert torch.allclose(program.module()(x), expected(kind, dict(program.state_dict), x), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_compile_without_graph_break(kind: str, hand: Any) -> None:
    torch._dynamo.reset()
    net, x = module(small(hand, kind), "compile"), torch.randn(5, 4)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    net(x).square().sum().backward()
    plain = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    compiled(x).square().sum().backward()
    assert all(torch.allclose(a, p.grad) for a, p in zip(plain, net.parameters(), strict=True))


@pytest.mark.slow
def test_compile_whole_networks(networks: dict[str, Graph]) -> None:
    shapes = {"mlp": (8, 8), "lenet": (1, 28, 28), "residual_cnn": (3, 12, 12), "mixer": (6, 20)}
    for name, graph in networks.items():
        torch._dynamo.reset()
        net, x = module(graph).eval(), torch.randn(3, *shapes[name])
        compiled = torch.compile(net, fullgraph=True)
        assert torch.allclose(compiled(x), net(x), atol=1e-5)
        compiled(x).sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_jacobian(kind: str, hand: Any) -> None:
    graph, x = small(hand, kind), torch.randn(3, 4)
    network, state = function(graph), initial_state(graph, 0)
    state, kept = learned(state)

    def forward(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return network({**parameters, **kept}, x)

    found = torch.func.jacrev(forward)(state, x)
    one_by_one = torch.vmap(
        torch.func.jacrev(lambda parameters, row: forward(parameters, row[None])[0]), in_dims=(None, 0)
    )(state, x)
    for key, value in found.items():
        assert value.shape == (3, 2, *state[key].shape)
        assert torch.allclose(value, one_by_one[key], atol=1e-6)
    if kind != "binary":
        forward_mode = torch.func.jacfwd(forward)(state, x)
        assert all(torch.allclose(forward_mode[key], found[key], atol=1e-6) for key in found)


def test_export_keeps_symbolic_dimensions_free(hand: Any) -> None:
    b = hand.network("tokens")
    x = b.layer("f", "dense", b.input("x", ("T", 6)), units=3)
    b.output("y", b.op("mean", x, axis=0))
    program = exported(b.graph())
    assert program.module()(torch.randn(4, 9, 6)).shape == (4, 3)


def test_graph_json_is_complete_and_written_once(networks: dict[str, Graph], hand: Any) -> None:
    data = json.loads(emit_graph(networks["residual_cnn"]))
    assert data == graph_data(networks["residual_cnn"]) and data["network"] == "residual_cnn"
    root = data["definitions"][data["root"]]
    blocks = next(child for child in root["children"] if child["name"] == "blocks")
    assert len(blocks["instances"]) == 3 and len(set(blocks["instances"])) == 1
    assert root["types"]["label"]["shape"] == [5]
    inner = data["definitions"][blocks["instances"][0]]
    norm = next(child for child in inner["children"] if child["name"] == "bn1")
    stored = [t["name"] for w in data["definitions"][norm["instances"][0]]["weights"] for t in w["stored"]]
    assert stored == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    bound = graph_data(small(hand, "binary"))
    fc1 = bound["definitions"][bound["definitions"][bound["root"]]["children"][0]["instances"][0]]
    assert fc1["weights"][0]["maps"][0]["straight_through"] and fc1["weights"][0]["maps"][0]["clip"] == 1.0
