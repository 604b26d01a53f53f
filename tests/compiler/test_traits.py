"""What is decided about an activation is so: against known functions, and against torch on random expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnspec.compiler.emit.load import module
from nnspec.compiler.ir import Block, Graph
from nnspec.compiler.operations.elementwise import Elementwise
from nnspec.compiler.operations.registry import operations
from nnspec.compiler.pipeline import check
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.traits.decide import Traits, traits
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source


def typed(body: str) -> Graph | None:
    text = f"activation f {{ x => {body} }}\nnetwork n {{\n  input x: real[7]\n  output y = x -> f\n}}"
    bag = Bag()
    checked = check(Source("test.nnspec", text), bag)
    return None if bag.failed else checked.graph(checked.networks()[-1], {})


def decided(body: str) -> Traits:
    graph = typed(body)
    assert graph is not None
    block = graph.root.children[0].instances[0]
    assert isinstance(block, Block)
    return traits(block)


@pytest.mark.parametrize(
    ("body", "parity", "degree"),
    [
        ("relu(x)", "none", 1),
        ("where(x > 0, x, 0)", "none", 1),
        ("where(x >= 0, x, 0.1 * x)", "none", 1),
        ("(x + abs(x)) / 2", "none", 1),
        ("where(x > 0, x, -x)", "even", 1),
        ("x * abs(x)", "odd", 2),
        ("sign(x) * sqrt(abs(x))", "odd", 0.5),
        ("1 / x", "none", None),  # nothing is said of what has no value at zero
        ("where(x / x > 0, x, 1)", "none", None),
        ("where((x - 1) / (x - 1) > 0, x, 5)", "none", None),
        ("sign(x)", "odd", 0),
        ("where(x >= 0, 1, -1)", "none", 0),  # at zero it is 1
        ("(exp(x) - exp(-x)) / (exp(x) + exp(-x))", "odd", None),
        ("x / (1 + abs(x))", "odd", None),
        ("x / sqrt(1 + x ^ 2)", "odd", None),
        ("tanh(sin(x))", "odd", None),
        ("where(abs(x) > 0.5, x, 0)", "odd", None),
        ("exp(-x ^ 2)", "even", None),
        ("x * tanh(x)", "even", None),
        ("(x + 1) ^ 2 - (x - 1) ^ 2", "odd", None),
        ("x * sigmoid(x)", "none", None),
        ("x + 1", "none", None),
        ("sqrt(x)", "none", None),  # nothing is said of what has no value on half the line
    ],
)
def test_known_functions(body: str, parity: str, degree: float | None) -> None:
    found = decided(body)
    assert (found.entrywise, found.parity, found.degree) == (True, parity, degree)


@pytest.mark.parametrize(
    ("body", "linear", "shifts"),
    [
        ("x", 1, None),
        ("3 * x - x / 2", 2.5, None),
        ("relu(x) - relu(-x)", 1, None),
        ("leaky_relu(x, slope = 1.0)", 1, None),
        ("2 * x + 1", None, 2),
        ("1 - x", None, -1),
        ("abs(x)", None, None),
        ("where(x == 0, 1, x)", None, None),
    ],
)
def test_straight_lines(body: str, linear: float | None, shifts: float | None) -> None:
    found = decided(body)
    assert (found.linear, found.shifts) == (linear, shifts)


@pytest.mark.parametrize(
    ("body", "complete"),
    [
        ("tanh(x)", True),
        ("2 * sigmoid(3 * x)", True),
        ("tanh(abs(x))", False),
        ("tanh(0 * x)", False),
        ("tanh(x) + x", False),
        ("relu(x)", False),
    ],
)
def test_only_one_function_between_scales_is_known_to_be_complete(body: str, complete: bool) -> None:
    assert decided(body).complete is complete


@pytest.mark.parametrize("body", ["softmax(x, axis = 0)", "x - mean(x)", "x -> flatten", "x / sum(x ^ 2)"])
def test_what_mixes_entries_is_not_entrywise(body: str) -> None:
    assert decided(body) == Traits() or body == "x -> flatten"


_FUNCTIONS = [
    "relu",
    "abs",
    "sign",
    "tanh",
    "sigmoid",
    "square",
    "sin",
    "cos",
    "leaky_relu",
    "hard_sigmoid",
    "-",
]


@st.composite
def bodies(draw: Callable[[st.SearchStrategy[Any]], Any], depth: int = 3) -> str:
    """Draw an expression in x; numbers stand only beside tensors."""

    def grown(depth: int) -> str:
        kind = draw(st.integers(0, 6)) if depth else 0
        if kind <= 1:
            return "x"
        inner = grown(depth - 1)
        if kind == 2:
            return f"{draw(st.sampled_from(_FUNCTIONS))}({inner})"
        if kind == 3:
            return (
                f"({inner} {draw(st.sampled_from('+-*/'))} {draw(st.sampled_from(['2', '0.5', '3', '-1']))})"
            )
        if kind == 4:
            return f"({inner} {draw(st.sampled_from('+-*/'))} {grown(depth - 1)})"
        if kind == 5:
            return f"({inner}) ^ {draw(st.sampled_from(['2', '3', '0.5', '5']))}"
        condition = f"{inner} {draw(st.sampled_from(['>', '>=', '<', '==']))} {draw(st.sampled_from(['0', '1', 'x']))}"
        return f"where({condition}, {grown(depth - 1)}, {draw(st.sampled_from(['0', '1', 'x', '-x', '-tanh(x)']))})"

    return grown(depth)


def _agree(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two results are the same wherever both are numbers of a sensible size."""
    known = left.isfinite() & right.isfinite() & (left.abs() < 1e6) & (right.abs() < 1e6)
    scale = 1 + right[known].abs()
    return bool(((left - right)[known].abs() <= 1e-7 * scale).all())


@settings(max_examples=250)
@given(bodies())
def test_nothing_false_is_decided_of_random_expressions(body: str) -> None:
    graph = typed(body)
    if graph is None:
        return
    block = graph.root.children[0].instances[0]
    assert isinstance(block, Block)
    found, net = traits(block), module(graph).double()
    points = torch.tensor([0.0, 0.3, 0.5, 1.0, 1.7, 2.0, 4.1], dtype=torch.float64)
    x = torch.stack([points, -points, points.flip(0)])

    def f(values: torch.Tensor) -> torch.Tensor:
        return net(values)

    if found.parity != "none":
        sign = 1 if found.parity == "even" else -1
        assert _agree(f(-x), sign * f(x)), found
    if found.degree is not None:
        for scale in (0.37, 2.9):
            assert _agree(f(scale * x), scale**found.degree * f(x)), found
    if found.linear is not None:
        assert _agree(f(x), found.linear * x), found
    if found.shifts is not None:
        assert _agree(f(x + 0.71), f(x) + 0.71 * found.shifts), found
    if found.entrywise:  # no entry sees another
        moved = x.clone()
        moved[:, 0] += 1
        assert torch.equal(f(moved)[:, 1:].nan_to_num(), f(x)[:, 1:].nan_to_num())


NUMBERS = [name for name, rule in operations().items() if isinstance(rule, Elementwise)]


@pytest.mark.parametrize("name", NUMBERS)
def test_the_rule_for_numbers_is_what_torch_computes(name: str) -> None:
    rule = operations()[name]
    arguments = {argument.name: argument.default for argument in rule.arguments}
    graph = typed(f"{name}(x)")
    assert graph is not None
    values = (
        [0.1, 0.9, 1.0, 2.5, 30.0] if name in ("log", "sqrt") else [-30.0, -2.5, -1.0, -0.2, 0.0, 0.9, 3.3]
    )
    found = module(graph).double()(torch.tensor([values], dtype=torch.float64))
    by_number = torch.tensor(
        [[float(rule.number(arguments, (value,))) for value in values]], dtype=torch.float64
    )
    torch.testing.assert_close(found, by_number, rtol=1e-12, atol=1e-12)


NET = """
activation mine {{ x => {mine} }}

network n {{
  input  x: real[4]
  output y = x -> dense(6{bias}) -> {act} -> dense(5) -> {act} -> dense(3)
}}
"""


@pytest.mark.parametrize("bias", ["", ", bias = false"])
@pytest.mark.parametrize(
    ("act", "mine"),
    [
        ("relu", "where(x > 0, x, 0)"),
        ("relu", "(x + abs(x)) / 2"),
        ("leaky_relu", "where(x > 0, x, 0.01 * x)"),
        ("abs", "where(x > 0, x, -x)"),
        ("square", "x * x"),
        ("tanh", "tanh(x)"),
        ("sign", "where(x > 0, 1, where(x < 0, -1, 0))"),
        ("identity", "2 * x - x"),
    ],
)
def test_the_symmetries_are_those_of_the_built_in(
    build: Callable[..., Graph], act: str, mine: str, bias: str
) -> None:
    def group(name: str) -> tuple[Any, ...]:
        found = symmetry_group(build(NET.format(act=name, mine=mine, bias=bias)))
        return (
            [(wire.size, wire.group) for wire in found.wires],
            found.order,
            found.families,
        )

    assert group("mine") == group(act)


def test_an_odd_activation_gives_signs_and_a_general_one_does_not(build: Callable[..., Graph]) -> None:
    orders = {
        body: symmetry_group(build(NET.format(act="mine", mine=body, bias=""))).order
        for body in ("x / (1 + abs(x))", "x * sigmoid(x)")
    }
    assert orders["x / (1 + abs(x))"] == orders["x * sigmoid(x)"] * 2 ** (6 + 5)


def test_a_tested_claim_counts_as_known(build: Callable[..., Graph]) -> None:
    text = NET.format(act="mine", mine="sigmoid(x) - 0.5", bias="")
    claimed = text.replace("{ x => sigmoid(x) - 0.5 }", "{\n  x => sigmoid(x) - 0.5\n  expect odd\n}")
    plain, told = (symmetry_group(build(given)) for given in (text, claimed))
    assert told.order == (plain.order or 0) * 2 ** (6 + 5)


@pytest.mark.parametrize(
    ("body", "claim", "holds"),
    [
        ("sigmoid(x) - 0.5", "odd", True),
        ("sigmoid(x) - 0.5", "even", False),
        ("maximum(x, -x)", "even", True),
        ("maximum(x, -x)", "homogeneous(1)", True),
        ("maximum(x, -x)", "homogeneous(2)", False),
        ("where(x > 0, 1, -1)", "odd", False),  # at zero
        ("log(exp(x))", "homogeneous(1)", True),
        ("softplus(x) - softplus(-x)", "odd", True),
    ],
)
def test_claims_that_are_not_decided_are_tested(body: str, claim: str, holds: bool) -> None:
    network = "network n {\n  input x: real[3]\n  output y = x -> f -> dense(2)\n}"
    text = f"activation f {{\n  x => {body}\n  expect {claim}\n}}\n{network}"
    bag = Bag()
    check(Source("test.nnspec", text), bag)
    assert [error.code for error in bag] == ([] if holds else ["N0332"])
