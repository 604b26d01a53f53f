"""Derived groups against numbers known from theorems and from Jacobians.

The dimensions are those of measured nullities (at generic weights); the orders are counted by hand or by an
independent graph automorphism engine.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, lgamma, log
from pathlib import Path

import pytest

import nnspec.compiler.passes
import nnspec.compiler.symmetry
from nnspec.compiler.ir import Graph
from nnspec.compiler.operations.registry import operations
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group

Build = Callable[..., Graph]


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


RES = "a = x + (x -> dense(7) -> tanh -> dense(6))\n  b = a + (a -> dense(7) -> tanh -> dense(6))\n"

# name: (spec, dimension, order or None)
CASES = {
    "tanh": (
        net("output y = x -> dense(8) -> tanh -> dense(8) -> tanh -> dense(3)"),
        0,
        106542032486400,
    ),
    "gelu": (
        net("output y = x -> dense(8) -> gelu -> dense(8) -> gelu -> dense(3)"),
        0,
        factorial(8) ** 2,
    ),
    "linear with bias": (net("output y = x -> dense(16) -> dense(16) -> dense(4)", "real[8]"), 448, 4),
    "swiglu": (
        net(
            "gate = x -> dense(6, bias = false) -> silu\n"
            "  output y = gate * (x -> dense(6, bias = false)) -> dense(3, bias = false)"
        ),
        6,
        factorial(6) * 2**6,
    ),
    "one leaky matrix used twice": (
        net(
            "shared w = dense(4, bias = false)\n"
            "  a = x -> dense(4, bias = false) -> leaky_relu\n"
            "  output y = a -> w -> leaky_relu -> w -> leaky_relu -> dense(4, bias = false)"
        ),
        5,
        factorial(4),
    ),
    "tied relu": (
        net(
            "output y = x -> dense(3, bias = false) as e -> relu -> dense(6, bias = false) as d\n"
            "  constrain d.weight: tied(e.weight, transpose = true)",
            "real[6]",
        ),
        0,
        factorial(3),
    ),
    "tied linear": (
        net(
            "output y = x -> dense(3, bias = false) as e -> dense(5, bias = false) as d\n"
            "  constrain d.weight: tied(e.weight, transpose = true)",
            "real[5]",
        ),
        3,
        2,
    ),
    "binary": (
        net(
            "output y = x -> dense(8) -> tanh -> dense(8) as b -> tanh -> dense(3)\n"
            "  constrain b.weight: binary"
        ),
        0,
        106542032486400,
    ),
    "residual, 12 shifts and a narrow read-out": (
        net(f"{RES}  output y = b -> dense(3)", "real[6]"),
        33,
        None,
    ),
    "relu stream": (
        net(
            "h = x -> dense(4, bias = false)\n"
            "  r = h + (h -> dense(5) -> relu -> dense(4, bias = false))\n"
            "  output y = r -> dense(4, bias = false)"
        ),
        21,
        None,
    ),
    "batchnorm": (
        net("output y = x -> dense(5, bias = false) -> batchnorm -> relu -> dense(3, bias = false)"),
        10,
        None,
    ),
    "softmax behind": (net("output y = x -> dense(5) -> tanh -> dense(3) -> softmax"), 6, None),
    "rmsnorm": (
        net(
            "output y = x -> dense(5, bias = false) -> rmsnorm(affine = false) -> dense(3, bias = false)",
            "real[7]",
        ),
        11,
        None,
    ),
    "layernorm": (
        net(
            "output y = x -> dense(5, bias = false) -> layernorm(affine = false) -> dense(3, bias = false)",
            "real[7]",
        ),
        17,
        None,
    ),
    "concatenation": (
        net("a = x -> dense(5) -> tanh\n  b = x -> dense(7) -> relu\n  output y = concat(a, b) -> dense(3)"),
        7,
        factorial(5) * factorial(7) * 2**5,
    ),
    "convolution": (
        net(
            "output y = x -> conv2d(6, kernel = 3) -> relu -> maxpool(2) -> flatten -> dense(10)",
            "real[1, 12, 12]",
        ),
        6,
        factorial(6),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_dimension_and_order(build: Build, name: str) -> None:
    text, dimension, order = CASES[name]
    group = symmetry_group(build(text))
    assert group.continuous_dimension == dimension
    assert order is None or group.order == order


def test_wide_relu_net_is_counted_by_logarithms(build: Build) -> None:
    text = net("output y = x -> dense(256) -> relu -> dense(256) -> relu -> dense(10)", "real[64]")
    group = symmetry_group(build(text))
    assert group.log10_order == pytest.approx(2 * lgamma(257) / log(10))
    assert group.log10_order == pytest.approx(1013.867, abs=1e-3)
    assert group.order is None
    assert group.continuous_dimension == 512


def test_families_of_a_residual_net(build: Build) -> None:
    group = symmetry_group(build(net(f"{RES}  output y = b -> dense(3)", "real[6]")))
    assert {name: count for name, count in group.families.items() if count} == {"shift": 12, "kernel": 21}
    assert group.is_exact


def test_a_wire_says_what_decided_its_group(build: Build) -> None:
    group = symmetry_group(build(CASES["tanh"][0]))
    hidden = [wire for wire in group.wires if not wire.is_fixed]
    assert [(wire.size, wire.group, wire.line) for wire in hidden] == [
        (8, "Z2 wr S_8", 3),
        (8, "Z2 wr S_8", 3),
    ]
    assert all("tanh" in wire.reason for wire in hidden)
    assert {wire.reason for wire in group.wires if wire.is_fixed} == {
        "an input of the network",
        "an output of the network",
    }


def test_equal_branches_are_one_wire(build: Build) -> None:
    """The same layer on the same value, twice, is one value; its units have one group."""
    text = net(
        "shared f = dense(5)\n  output y = (x -> f -> tanh -> dense(3)) + (x -> f -> tanh -> dense(3))"
    )
    group = symmetry_group(build(text))
    assert group.order == factorial(5) * 2**5
    assert group.continuous_dimension == 5 * 3 + 3  # the two read-outs add up: N and -N


def test_what_no_output_depends_on_is_counted_apart(build: Build) -> None:
    text = net("dead = x -> dense(5)\n  output y = x -> dense(3)")
    assert symmetry_group(build(text)).families["unused"] == 25


def test_the_cost_grows_with_layers_not_widths(build: Build) -> None:
    text = "network n(w: int) {\n input x: real[8]\n output y = x -> dense(w) -> relu -> dense(3)\n}\n"
    group = symmetry_group(build(text, "n", w=10**6))
    assert group.families["scale"] == 10**6


def test_lower_bounds_are_said(build: Build) -> None:
    group = symmetry_group(build(CASES["swiglu"][0]))
    assert group.completeness == "lower bound"
    assert any("products" in note for note in group.notes)


def test_no_operation_is_known_by_name() -> None:
    """Passes ask operations for rules; the words of the language stand in none of them."""
    own = {
        "sum",
        "sign",
        "identity",
        "split",
        "add",
        "equal",
        "less",
        "complex",
        "real",
        "log",  # of plots
        "slice",
        "variance",
        "units",
    }  # words of English, too
    words = {name for name, rule in operations().items() if rule.written} - own
    for package in (nnspec.compiler.symmetry, nnspec.compiler.passes):
        for path in Path(str(package.__file__)).parent.glob("*.py"):
            code = _strings(path)
            assert not words & code, f"{path.name} names {sorted(words & code)}"


def _strings(path: Path) -> set[str]:
    import ast

    tree = ast.parse(path.read_text())
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("size", [3, 4])
def test_the_vector_of_ones_changes_sign_between_two_norms(build: Build, size: int) -> None:
    """One norm subtracts the mean, one keeps lengths: O(1) x O(n - 1) has 4 components. The first alone has a shift."""
    heads = ("(h -> layernorm(affine = false) -> dense(3))", "(h -> rmsnorm(affine = false) -> dense(3))")
    spec = (
        "network n {{\n  input x: real[3]\n  h = x -> dense({0})\n  output y = {1} -> gelu -> dense(2)\n}}\n"
    )
    both, one = (build(spec.format(size, body)) for body in (" + ".join(heads), heads[0]))
    assert symmetry_group(both).order == 4 * factorial(3)
    assert symmetry_group(one).order == 2 * factorial(3)
    for graph in (both, one):
        verify_group(graph, symmetry_group(graph))
