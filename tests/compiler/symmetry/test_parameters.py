"""Derived groups of networks whose layers own tensors or draw: never more than the weights' own fibre."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group

Build = Callable[..., Graph]

OWN = """
layer own(width: int) {{
  input x: real[width]
  parameter a: real[width] = normal
  parameter b: real[width] = normal
  parameter m: real[5, width] = normal
  parameter s: real = normal
  buffer k: real[width] = ones
  output y = {expression}
}}
network n {{
  input x: real[4]
  output y = x -> dense(6) as one -> {act}own(6) -> {act}dense(3) as two
}}
"""
EXPRESSIONS = {
    "gain": "x * a",
    "bias": "x + a",
    "gain and bias": "x * a + b",
    "two gains": "x * a * b",
    "scale": "s * x",
    "matrix": "x @ transpose(m)",
    "matrix on the left": "m @ x",
    "matrix twice": "tanh(x @ transpose(m)) @ m",
    "memory": "softmax(x @ transpose(m)) @ m",
    "function of a gain": "x * exp(a)",
    "gain read twice": "x * a + tanh(x) * a",
    "buffer": "x * k + a",
    "product of parameters": "x * (s * a) + b * s",
    "beside": "concat(x, a)",
    "chosen": "where(x > 0, x * a, x)",
    "on the left": "a - x",
    "divided": "x / a",
    "norm of a parameter": "x * (a / sqrt(sum(a ^ 2)))",
    "sum of gains": "x * (a + b)",
    "draw": "x * a + sample(normal, like = x)",
    "draw in training": '(x * sample(bernoulli(0.5), like = x, when = "training")) * a',
}


@pytest.mark.parametrize("act", ["", "tanh -> ", "relu -> "])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_parameters_claim_no_symmetry_that_is_not_there(build: Build, name: str, act: str) -> None:
    hold(build(OWN.format(expression=EXPRESSIONS[name], act=act)))


@pytest.mark.parametrize(
    "body",
    [
        "h = x -> dense(5) as one -> tanh\n  output y = h @ one.weight",
        "shared enc = dense(5, bias = false)\n  h = x -> enc\n  output y = (h -> tanh) @ enc.weight",
        "h = x -> dense(5) as one -> relu\n  output y = (h -> dense(3) as two) + two.weight @ one.bias",
    ],
)
def test_weights_as_values_claim_none_either(build: Build, body: str) -> None:
    hold(build(f"network n {{\n  input x: real[4]\n  {body}\n}}"))


def hold(graph: Graph) -> None:
    group = symmetry_group(graph)
    for seed in range(2):
        verified = verify_group(graph, group, seed)
        assert verified.max_output_error < 1e-10
        assert group.continuous_dimension <= verified.nullity
        assert group.continuous_dimension == verified.nullity or not group.is_exact
