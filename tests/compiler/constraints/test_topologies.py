"""Which entries of a weight there are: counts, places, and what a network makes of them."""

from __future__ import annotations

import itertools
from math import prod
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from nnspec.compiler.constraints.code import masks, sparse
from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.kst import Kst
from nnspec.compiler.constraints.locally_connected import LocallyConnected
from nnspec.compiler.constraints.sparse import Sparse
from nnspec.compiler.constraints.topology import Topology
from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.load import load_source
from nnspec.dsl.source import Source


def graph(text: str) -> Graph:
    bag = Bag()
    checked = check(Source("net.nnspec", text), bag)
    assert not bag.failed, list(bag)
    found = checked.graph(checked.networks()[-1])
    assert found is not None
    return found


def layer(constraint: str, units: int = 12, inputs: int = 8) -> Graph:
    return graph(
        f"network net {{\n  input x: real[{inputs}]\n  output y: real[{units}] = x -> dense({units}) as fc\n"
        f"  constrain fc.weight: {constraint}\n}}"
    )


def site(rule: Topology, shape: tuple[int, ...], **given: Any) -> WeightSite:
    options = {a.name: a.default for a in rule.arguments} | given
    return WeightSite(name="weight", shape=shape, options=options)


def by_hand(shape: tuple[int, ...], condition: Any) -> torch.Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    for place in itertools.product(*(range(n) for n in shape)):
        mask[place] = bool(condition(*place))
    return mask


# ------------------------------------------------------------------------------------------------- sparse


@pytest.mark.parametrize("density", [0.01, 0.1, 0.37, 1.0])
def test_a_random_mask_has_exactly_so_many_entries(density: float) -> None:
    mask = sparse.random_mask(torch.randn(30, 20), density)
    assert int(mask.sum()) == round(density * 600)
    assert not torch.equal(mask, sparse.random_mask(torch.randn(30, 20), density)) or density == 1


def test_every_unit_has_the_same_number_of_inputs() -> None:
    mask = sparse.fan_in_mask(torch.randn(30, 3, 5, 5), 7)
    assert mask.shape == (30, 3, 5, 5)
    assert mask.flatten(1).sum(1).tolist() == [7] * 30
    drawn = torch.stack([sparse.fan_in_mask(torch.randn(2, 10), 3) for _ in range(2000)]).float().mean((0, 1))
    assert torch.allclose(drawn, torch.full((10,), 0.3), atol=0.05)  # five standard deviations: 0.036


def test_blocks_are_whole_and_evenly_spread() -> None:
    mask = sparse.blocks_mask(torch.randn(12, 20), 2, 4)
    coarse = mask.view(3, 4, 5, 4).float().mean((1, 3))
    assert set(coarse.flatten().tolist()) == {0.0, 1.0} and coarse.sum(1).tolist() == [2, 2, 2]


def test_n_of_m_keeps_the_largest() -> None:
    weight = torch.randn(6, 8)
    mask = sparse.n_of_m_mask(weight, 2, 4)
    for group, kept in zip(weight.view(-1, 4), mask.view(-1, 4), strict=True):
        assert set(kept.nonzero().flatten().tolist()) == set(group.abs().argsort()[2:].tolist())


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((30, 20), {"density": 0.1}),
        ((30, 20), {"density": 0.33, "pattern": "fan_in"}),
        ((8, 3, 5, 5), {"density": 0.2, "pattern": "fan_in"}),
        ((32, 48), {"density": 0.4, "pattern": "blocks", "block": 8}),
        ((6, 8), {"pattern": "n_of_m"}),
        ((6, 9), {"pattern": "n_of_m", "n": 1, "m": 3, "density": 1 / 3}),
    ],
)
def test_as_many_entries_as_said(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    rule = Sparse()
    place = site(rule, shape, **options)
    assert int(rule.mask(place, {}).sum()) == rule.free(place)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((30, 20), {}),
        ((3, 3), {"density": 0.01}),
        ((30, 20), {"density": 0.01, "pattern": "fan_in"}),
        ((30, 20), {"density": 0.2, "pattern": "blocks", "block": 8}),
        ((32, 32), {"density": 0.01, "pattern": "blocks", "block": 8}),
        ((6, 9), {"pattern": "n_of_m"}),
        ((6, 8), {"pattern": "n_of_m", "n": 5}),
        ((6, 8), {"pattern": "n_of_m", "density": 0.3}),
    ],
)
def test_what_keeps_nothing_is_a_misfit(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    with pytest.raises(Misfit):
        Sparse().part(site(Sparse(), shape, **options), None)


# -------------------------------------------------------------------------------------------- known masks


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("(i, j) => abs(i - j) <= 2", lambda i, j: abs(i - j) <= 2),
        ("(i, j) => i == j or j == 0", lambda i, j: i == j or j == 0),
        ("(i, j) => not (i % 3 == j // 2) and i + 1 > -j", lambda i, j: i % 3 != j // 2),
        ("(i, j) => i / 3 <= j * 0.7", lambda i, j: i / 3 <= j * 0.7),
        ("(i, j) => (i if i < j else 2 * j) % 2 == 0", lambda i, j: (i if i < j else 2 * j) % 2 == 0),
        ("(lambda, torch) => lambda ^ 2 >= torch", lambda i, j: i**2 >= j),
        ("(i, j) => (i < 4) if j < 4 else (i - j) % 3 != 0", lambda i, j: i < 4 if j < 4 else (i - j) % 3),
    ],
)
def test_a_mask_of_a_condition(text: str, condition: Any) -> None:
    typed = layer(f"mask({text})")
    mask = module(typed).state_dict()["fc.weight_mask"]
    assert mask.dtype == torch.bool and torch.equal(mask, by_hand((12, 8), condition))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("(i < j if strict else i <= j)", lambda i, j: i <= j),
        ("strict or i > j", lambda i, j: i > j),
        ("not strict and i != reach", lambda i, j: i != 3),
        (
            "(2 if i < reach else i - 1) >= (j if j > 1 else 0 - j)",
            lambda i, j: (2 if i < 3 else i - 1) >= (j if j > 1 else -j),
        ),
        ("i * 0.5 + half > j", lambda i, j: i * 0.5 + 0.25 > j),
    ],
)
def test_a_condition_may_name_what_is_around_it(text: str, condition: Any) -> None:
    typed = graph(
        "let half = 1 / 4\nnetwork net(strict: bool = false, reach: int = 3) {\n  input x: real[8]\n"
        "  output y: real[12] = x -> dense(12) as fc\n"
        f"  constrain fc.weight: mask((i, j) => {text})\n}}"
    )
    mask = module(typed).state_dict()["fc.weight_mask"]
    assert torch.equal(mask, by_hand((12, 8), condition))


@pytest.mark.parametrize(("text", "named"), [("o, i", 2), ("o, i, r, c", 4)])
def test_masks_of_convolutions(text: str, named: int) -> None:
    test = "o >= i" if named == 2 else "o >= i and (r == 1 or c == 1)"
    typed = graph(
        "network net {\n  input x: real[3, 6, 6]\n  output y = x -> conv2d(4, kernel = 3) as conv\n"
        f"  constrain conv.weight: mask(({text}) => {test})\n}}"
    )
    mask = module(typed).state_dict()["conv.weight_mask"]
    each = by_hand((4, 3, 3, 3), lambda o, i, r, c: o >= i and (named == 2 or r == 1 or c == 1))
    assert torch.equal(mask, each)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float32", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mask_of_a_file(kind: str, order: Any, tmp_path: Path) -> None:
    drawn = numpy.asarray(numpy.random.default_rng(0).random((12, 8)) < 0.4)
    numpy.save(tmp_path / "mask.npy", numpy.asarray(drawn.astype(kind), order=order))
    text = (
        "network net {\n  input x: real[8]\n  output y = x -> dense(12) as fc\n"
        '  constrain fc.weight: mask("mask.npy")\n}'
    )
    (tmp_path / "net.nnspec").write_text(text)
    bag = Bag()
    source = load_source(tmp_path / "net.nnspec", bag)
    assert source is not None
    checked = check(source, bag)
    typed = checked.graph(checked.networks()[-1])
    assert typed is not None and not bag.failed
    (tmp_path / "mask.npy").unlink()  # the emitted module stands alone
    assert (module(typed).state_dict()["fc.weight_mask"].numpy() == drawn).all()


@pytest.mark.parametrize("inputs", [(7,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_windows_around_a_unit(inputs: tuple[int, ...], outputs: int, kernel: int) -> None:
    axes = len(inputs)
    rule, grid = LocallyConnected(), tuple(n * outputs for n in inputs)
    place = site(
        rule,
        (2 * prod(grid), 3 * prod(inputs)),
        kernel=(kernel,) * axes,
        inputs=inputs,
        outputs=grid,
    )
    mask = rule.mask(place, {})
    assert int(mask.sum()) == rule.free(place)

    def near(u: int, v: int) -> bool:
        at = numpy.unravel_index(u % prod(grid), grid)
        of = numpy.unravel_index(v % prod(inputs), inputs)
        away = [(i + 0.5) - (o + 0.5) * n / m for i, o, n, m in zip(of, at, inputs, grid, strict=True)]
        return all(-kernel / 2 <= a < kernel / 2 for a in away)

    assert torch.equal(mask, by_hand(tuple(mask.shape), near))


def test_one_axis_of_a_local_layer_is_a_band() -> None:
    mask = masks.neighbourhood(torch.zeros(9, 9), (9,), (9,), (5,))
    assert torch.equal(mask, by_hand((9, 9), lambda i, j: abs(i - j) <= 2))


def test_the_inner_layer_reads_one_input_and_the_outer_one_term() -> None:
    rule, terms, n, k, m = Kst(), 5, 3, 4, 2
    inner = rule.mask(site(rule, (terms * n * k, n), role="inner", terms=terms), {})
    sums = rule.mask(site(rule, (terms, terms * n * k), role="outer"), {})
    spread = rule.mask(site(rule, (terms * m, terms), role="outer"), {})
    assert inner.sum(1).tolist() == [1] * 60
    for q in range(terms):
        # Term q is summed from k units for each of its inputs, and read by m units that read no other.
        units = sums[q].nonzero().flatten()
        assert inner[units].float().argmax(1).tolist() == [p for p in range(n) for _ in range(k)]
        assert spread[:, q].nonzero().flatten().tolist() == [m * q, m * q + 1]


def test_a_kst_network_is_a_sum_of_functions_of_one_argument() -> None:
    typed = graph(
        "network net {\n  input x: real[2]\n  output y: real[1] = x -> dense(40) as a -> tanh -> dense(5) as b\n"
        "    -> dense(20) as c -> tanh -> dense(1) as d\n"
        '  constrain a.weight: kst("inner")\n  constrain b.weight, c.weight: kst("outer")\n}'
    )
    net = module(typed).double()
    terms = torch.nn.Sequential(net.a, torch.nn.Tanh(), net.b)

    def term(x: torch.Tensor) -> torch.Tensor:
        weights = {f"{n}.weight": getattr(net, n).weight * getattr(net, n).weight_mask for n in "ab"}
        hidden = torch.tanh(x @ weights["a.weight"].t() + net.a.bias)
        return hidden @ weights["b.weight"].t() + net.b.bias

    assert len(terms) == 3
    # Each term is a sum over inputs, so its mixed second derivative is zero; that of the whole is not.
    x = torch.randn(2, dtype=torch.float64)
    hessians = torch.stack([torch.func.hessian(lambda v, q=q: term(v)[q])(x) for q in range(5)])
    assert hessians[:, 0, 1].abs().max() < 1e-14 < 1e-6 < hessians[:, 0, 0].abs().min()
    whole = torch.func.hessian(lambda v: net(v[None])[0, 0])(x)
    assert whole[0, 1].abs() > 1e-6


# --------------------------------------------------------------------------------------- in a network


CONSTRAINTS = [
    "sparse(0.2)",
    'sparse(0.3, pattern = "fan_in")',
    'sparse(0.5, pattern = "blocks", block = 4)',
    'sparse(pattern = "n_of_m")',
    "mask((i, j) => i != j)",
    "locally_connected(3)",
    'kst("outer", terms = 4)',
    "binary & sparse(0.5)",
    "sparse(0.7) & mask((i, j) => abs(i - j) < 6)",
    "equivariant([[1, 0, 3, 2]])",
]


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_every_form_computes_the_same(constraint: str) -> None:
    typed = layer(constraint)
    torch.manual_seed(0)
    net, x = module(typed).eval(), torch.randn(5, 8)
    assert torch.equal(net(x), function(typed)(net.state_dict(), x))
    program = exported(typed).module()
    program.load_state_dict(net.state_dict())
    assert torch.allclose(program(x), net(x), atol=1e-6)
    other = module(typed)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("constraint", [c for c in CONSTRAINTS if "equivariant" not in c])
def test_no_gradient_reaches_an_entry_that_is_not_there(constraint: str) -> None:
    net = module(layer(constraint))
    kept = [m for name, m in net.state_dict().items() if "mask" in name]
    net(torch.randn(64, 8)).square().sum().backward()
    mask = torch.stack(kept).all(0)
    assert net.fc.weight.grad is not None
    assert torch.equal(net.fc.weight.grad != 0, mask)


def test_masks_on_one_weight_multiply() -> None:
    net = module(layer("mask((i, j) => i >= j) & mask((i, j) => i <= j)"))
    weight = net.fc.weight * net.fc.weight_mask * net.fc.weight_mask_2
    assert torch.equal(weight, torch.nn.functional.pad(torch.diag(net.fc.weight.diagonal()), (0, 0, 0, 4)))


# -------------------------------------------------------------------------------- known without torch


@pytest.mark.parametrize(
    ("rule", "shape", "given"),
    [
        (Kst(), (60, 4), {"role": "inner", "terms": 5}),
        (Kst(), (36, 4), {"role": "inner"}),
        (Kst(), (10, 20), {"role": "outer", "terms": 5}),
        (LocallyConnected(), (9, 9), {"kernel": 3}),
        (LocallyConnected(), (12, 18), {"kernel": (1, 2), "inputs": (3, 3), "outputs": (2, 3)}),
        (LocallyConnected(), (7, 5), {"kernel": 2}),
    ],
)
def test_entries_are_those_of_the_mask(rule: Topology, shape: tuple[int, ...], given: dict[str, Any]) -> None:
    where = site(rule, shape, **given)
    found = rule.entries(where)
    assert found is not None
    rows = torch.tensor([list(row) for row in found], dtype=torch.bool)
    assert torch.equal(rows, rule.mask(where, {}))
    assert rows.sum() == rule.free(where)


def test_entries_of_huge_weights_are_not_listed() -> None:
    assert Kst().entries(site(Kst(), (2**15, 2**12), role="outer", terms=2)) is None
    assert LocallyConnected().entries(site(LocallyConnected(), (2**15, 2**12), kernel=2)) is None
