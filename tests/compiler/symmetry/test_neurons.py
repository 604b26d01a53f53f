"""Permutations that keep the patterns of weights: against all permutations of tiny networks, and outputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from math import factorial, gcd

import pytest
import torch

from nnspec.compiler.emit.load import initial_state, map_function, module
from nnspec.compiler.ir import Graph, Weight, instances
from nnspec.compiler.symmetry.automorphisms import automorphisms
from nnspec.compiler.symmetry.generators import generators
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.neuron_graph import neuron_graph
from nnspec.compiler.symmetry.neurons import NeuronGroup, Rearrange, act, flips_of, neuron_group
from nnspec.compiler.symmetry.patterns import patterns

Build = Callable[..., Graph]

NET = "network n {{\n  input x: real[4]\n  output y = x -> {}\n  {}\n}}\n"
CHAIN = "dense({0}) -> tanh -> dense({1}) -> tanh -> dense(3)"
SHARED = """network n {{
  input x: real[4]
  shared w = dense({0})
  h = x -> dense({0}) -> tanh
  output y = h -> w -> tanh -> w -> tanh -> dense(2)
  constrain w.weight: mask((i, j) => {1})
}}
"""
IMAGES = """network n {
  input  x: real[2, 6, 6]
  output y = x -> conv2d(4, kernel = 3) -> batchnorm -> relu -> flatten -> dense(4) -> tanh -> dense(3)
  constrain dense.weight: mask((i, j) => j // 16 != i)
  constrain conv2d.weight: mask((o, i, p, q) => i == 0 or p == q)
}
"""

# name: (spec, order, whether a state is needed)
CASES: dict[str, tuple[str, int, bool]] = {
    "a band": (
        NET.format(CHAIN.format(5, 5), "constrain dense_2.weight: mask((i, j) => abs(i - j) <= 1)"),
        2,
        False,
    ),
    "a circulant": (
        NET.format(CHAIN.format(5, 5), "constrain dense_2.weight: mask((i, j) => (i - j) % 5 <= 1)"),
        10,
        False,
    ),
    "inputs are told apart": (
        NET.format("dense(8) -> tanh -> dense(3)", "constrain dense.weight: mask((i, j) => i % 4 == j)"),
        2**4,
        False,
    ),
    "a mask and a mask": (
        NET.format(
            CHAIN.format(6, 6),
            "constrain dense_2.weight: mask((i, j) => i != j) & mask((i, j) => i // 3 == j // 3)",
        ),
        factorial(3) ** 2 * 2,
        False,
    ),
    "one matrix on both sides": (SHARED.format(6, "i != j"), factorial(6), False),
    "a ring": (SHARED.format(6, "(i - j) % 6 == 1"), 6, False),
    "a tree": (SHARED.format(7, "i == 2 * j + 1 or i == 2 * j + 2"), 8, False),
    "channels of images": (IMAGES, factorial(4), False),
    "Kolmogorov": (
        "network n {\n  input x: real[2]\n  output y = x -> dense(10) -> tanh -> dense(5) -> dense(1)\n"
        '  constrain dense.weight: kst("inner")\n  constrain dense_2.weight: kst("outer")\n}\n',
        factorial(5),
        False,
    ),
    "windows": (
        NET.format(CHAIN.format(6, 6), "constrain dense_2.weight: locally_connected(3)"),
        2,
        False,
    ),
    "two branches side by side": (
        "network n {\n  input x: real[4]\n  h = x -> dense(4) -> tanh\n  g = x -> dense(6) -> tanh\n"
        "  both = concat(h, g)\n  output y = both -> dense(5) -> tanh -> dense(2)\n"
        "  constrain dense_3.weight: mask((i, j) => i != j % 5)\n}\n",
        factorial(4) * 2,
        False,
    ),
    "a tie leads back to the wire": (
        "network n {\n  input x: real[6]\n"
        "  output y = x -> dense(4, bias = false) as e -> tanh -> dense(4) as m -> tanh -> dense(6) as d\n"
        "  constrain d.weight: tied(e.weight, transpose = true)\n"
        "  constrain m.weight: mask((i, j) => i // 2 == j // 2)\n}\n",
        2**2 * 2,
        False,
    ),
    "frozen": (
        NET.format(
            CHAIN.format(5, 5),
            "constrain dense_2.weight: frozen\n  initialize dense_2.weight: constant(0.5)",
        ),
        factorial(5) ** 2,
        True,
    ),
}


def state_of(graph: Graph, seed: int = 0) -> dict[str, torch.Tensor]:
    return {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in initial_state(graph, seed).items()
    }


def check_outputs(graph: Graph, group: NeuronGroup, state: dict[str, torch.Tensor]) -> None:
    net = module(graph).double().eval()
    net.load_state_dict(state)
    x = torch.randn(5, *graph.root.types[0][1].shape, dtype=torch.float64)
    with torch.no_grad():
        wanted = net(x)
        for shuffle in group.generators:
            moved = act(group, shuffle, state)
            assert any(not torch.equal(moved[name], state[name]) for name in state)
            net.load_state_dict(moved)
            torch.testing.assert_close(net(x), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_order_is_known_and_outputs_stay(build: Build, name: str) -> None:
    spec, order, needs_state = CASES[name]
    graph = build(spec)
    state = state_of(graph)
    if needs_state:
        assert neuron_group(graph) is None
    group = neuron_group(graph, state if needs_state else None)
    assert group is not None and group.exact and group.order == order
    check_outputs(graph, group, state)


def test_heads_that_could_be_permuted_apart_are_permuted_alike(build: Build) -> None:
    """So the order is a lower bound: at least 2, and at most that of each head by itself."""
    heads = " -> ".join(["{0} = x -> dense(8) as {0}", 'rearrange("t (h d) -> h t d", h = 2)\n  '])
    graph = build(
        "network n {\n  input x: real[5, 8]\n  "
        + "".join(heads.format(name).replace(f"{name} = ", f"{name}s = ", 1) for name in "qkv")
        + 'output y = attention(qs, ks, vs) -> rearrange("h t d -> t (h d)") -> dense(8) as o\n'
        "  constrain o.weight: mask((i, j) => j % 4 != i % 3)\n}\n"
    )
    group = neuron_group(graph)
    assert group is not None and not group.exact and group.order is None
    assert 0 < group.log10_lower < group.log10_upper
    check_outputs(graph, group, state_of(graph))


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_all_permutations_say(build: Build, seed: int) -> None:
    a, b, c = (seed * n % 5 for n in (1, 2, 3))
    mask = f"({a} * i + {b} * j + {c} * i * j + {seed}) % 5 <= 1"
    graph = build(NET.format(CHAIN.format(4, 5), f"constrain dense_2.weight: mask((i, j) => {mask})"))
    kept = patterns(graph)["dense_2.weight"].classes
    count = sum(
        bool((kept[list(rows)][:, list(columns)] == kept).all())
        for rows, columns in product(permutations(range(5)), permutations(range(4)))
    )
    group = neuron_group(graph)
    assert group is not None and group.order == count
    check_outputs(graph, group, state_of(graph))


def test_drawn_masks_are_read_from_a_state(build: Build) -> None:
    graph = build(NET.format(CHAIN.format(4, 4), "constrain dense_2.weight: sparse(0.25)"))
    assert neuron_group(graph) is None
    state = state_of(graph, seed=3)
    kept = state["dense_2.weight_mask"].bool()
    count = sum(
        bool((kept[list(rows)][:, list(columns)] == kept).all())
        for rows, columns in product(permutations(range(4)), repeat=2)
    )
    group = neuron_group(graph, state)
    assert group is not None and group.exact and group.order == count
    check_outputs(graph, group, state)


@pytest.mark.parametrize(
    ("word", "seed"), [("binary", 0), ("binary", 1), ("ternary", 2), ("ternary", 3), ("ternary", 4)]
)
def test_trained_discrete_weights_are_a_pattern_where_asked(build: Build, word: str, seed: int) -> None:
    """All permutations and flips of three units that keep the weights in use."""
    threshold = "(threshold = 0.3)" if word == "ternary" else ""
    net = NET.format("dense(3) -> tanh -> dense(2)", f"constrain every dense.weight: {word}{threshold}")
    graph = build(net.replace("real[4]", "real[1]"))
    state = state_of(graph, seed)
    assert neuron_group(graph, state) is None
    maps = {name: map_function(weight.maps[0]) for name, weight in weights_of(graph)}
    first, second = (maps[n](state[f"{n}.weight"]) for n in ("dense", "dense_2"))
    count = 0
    for order in permutations(range(3)):
        for flips in product((1.0, -1.0), repeat=3):
            signs = torch.tensor(flips, dtype=torch.float64)
            moved = signs[:, None] * first[list(order)], second[:, list(order)] * signs
            count += torch.equal(moved[0], first) and torch.equal(moved[1], second)
    group = neuron_group(graph, state, values=True)
    assert group is not None and group.exact and group.order == count
    check_outputs(graph, group, state)


def weights_of(graph: Graph) -> list[tuple[str, Weight]]:
    return [(i.path, w) for i in instances(graph.root) for w in i.primitive.weights if w.name == "weight"]


def test_the_double_cover_counts_flips(build: Build) -> None:
    """Weights of unknown signs: every unit of 4-8-8-3 may flip."""
    masks = "\n  ".join(
        f"constrain {n}.weight: mask((i, j) => i >= 0)" for n in ("dense", "dense_2", "dense_3")
    )
    graph = build(NET.format(CHAIN.format(8, 8), masks))
    known = patterns(graph)
    group = neuron_group(graph)
    assert group is not None and group.order == factorial(8) ** 2
    flipped = frozenset(flips_of(group.all_spaces))
    assert set(group.spaces) <= flipped
    cover = automorphisms(neuron_graph(group.all_spaces, known, flipped).graph)
    assert cover.order == factorial(8) ** 2 * 2**16 and cover.log10_lower == pytest.approx(14.0275, abs=1e-4)


def test_functions_that_are_not_odd_flip_nothing(build: Build) -> None:
    net = NET.format("dense(4) -> relu -> dense(3)", "constrain every dense.weight: binary")
    graph = build(net)
    state = state_of(graph)
    state["dense.weight"][1], state["dense_2.weight"][:, 1] = (
        state["dense.weight"][0],
        state["dense_2.weight"][:, 0],
    )
    group = neuron_group(graph, state, values=True)
    assert group is not None and not group.flipping
    assert group.order == 2 and group.generators[0].orders[group.spaces[0]] == (1, 0, 2, 3)
    check_outputs(graph, group, state)


def test_units_are_permuted_alike_wherever_their_wire_goes(build: Build) -> None:
    """A residual stream has one permutation for all of its layers."""
    spec = """network n {
  input  x: real[4]
  a = x -> dense(6)
  b = a + (a -> dense(6) -> tanh)
  output y = b -> dense(2)
  constrain dense_2.weight: mask((i, j) => i // 2 == j // 2)
}
"""
    graph = build(spec)
    group = neuron_group(graph)
    assert group is not None and group.exact and group.order == 2**3 * factorial(3)
    assert len(group.spaces) == 1
    check_outputs(graph, group, state_of(graph))


@pytest.mark.parametrize(
    ("mask", "order"),
    [("(i - j) % 8 <= 2", 16 * 2**16), ("i // 4 == j // 4", 24**4 * 2 * 2**16), ("i > j", 2**16)],
)
def test_the_group_of_a_network_counts_them_beside_signs(build: Build, mask: str, order: int) -> None:
    graph = build(NET.format(CHAIN.format(8, 8), f"constrain dense_2.weight: mask((i, j) => {mask})"))
    group = symmetry_group(graph)
    state = state_of(graph)
    net = module(graph).double().eval()
    net.load_state_dict(state)
    x = torch.randn(5, 4, dtype=torch.float64)
    with torch.no_grad():
        wanted = net(x)
        for generator in generators(group):
            net.load_state_dict(generator(state))
            torch.testing.assert_close(net(x), wanted, rtol=1e-10, atol=1e-12)
    assert group.order == order


def test_moves_that_keep_masks_are_undone_by_their_inverses(build: Build) -> None:
    graph = build(
        NET.format(CHAIN.format(6, 6), "constrain dense_2.weight: mask((i, j) => i // 2 == j // 2)")
    )
    group, state = neuron_group(graph), state_of(graph)
    assert group is not None
    for shuffle in group.generators:
        move = Rearrange(group=group, shuffle=shuffle)
        back = move.inverse().apply(None, move.apply(None, state))
        assert all(torch.equal(back[name], state[name]) for name in state)


def phi(n: int) -> int:
    return sum(gcd(k, n) == 1 for k in range(n))


SHARED_NUMBERS = {
    # i -> a i + b and j -> a j + c; with flips, of a wire as a whole, and alternating ones where the ring is even
    "circulant 5": ("circulant", 5, 5 * 5 * phi(5), 4),
    "circulant 6": ("circulant", 6, 6 * 6 * phi(6), 8),
    "circulant 8": ("circulant", 8, 8 * 8 * phi(8), 8),
    # both sides reversed; whole flips, and alternating ones
    "toeplitz 5": ("toeplitz", 5, 2, 8),
    # a I + b 1 1'
    "symmetric 4": ("equivariant(symmetric(4))", 4, factorial(4), 4),
    # the normaliser of the turns, alike on both sides up to a turn
    "cyclic 6": ("equivariant(cyclic(6))", 6, 6 * 6 * phi(6), 8),
}


@pytest.mark.parametrize("name", SHARED_NUMBERS)
def test_permutations_that_keep_which_entries_share_a_number(build: Build, name: str) -> None:
    constraint, size, order, flips = SHARED_NUMBERS[name]
    graph = build(NET.format(CHAIN.format(size, size), f"constrain dense_2.weight: {constraint}"))
    plain = neuron_group(graph)
    assert plain is not None and plain.exact and plain.order == order
    group = symmetry_group(graph)
    assert group.order == order * flips
    # The double cover, a vertex for each sign of a unit, knows no equations of signs.
    signed = neuron_group(graph, state_of(graph), values=True)
    assert signed is not None and signed.exact and signed.order == order * flips
