"""Constraints written in the language: what each clause does, against the same written in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nnspec
from nnspec.compiler.emit.graph_json import graph_data
from nnspec.compiler.emit.load import function, module, penalty_function, projection_function
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph, instances
from nnspec.compiler.rewrites.hard import hard, is_soft
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]

NET = """
activation soft(k: real) {{ w => tanh(k * w) }}

constraint laid(k: real = 2.0) {{
  {clauses}
}}

network n {{
  input  x: real[4]
  output y = x -> dense(3, bias = false)
  constrain dense.weight: laid(1.5)
}}
"""


def gradients(graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the stored weight and its gradient when the gradient of the weight in force is all ones."""
    torch.manual_seed(0)
    net = module(graph).double()
    weight: Any = net.dense.weight
    torch.nn.init.uniform_(weight, -2, 2)
    net(torch.eye(4, dtype=torch.float64)).sum().backward()
    return weight.detach(), weight.grad


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [
        (
            "w => sign(w)\n  gradient (w, g) => g * k * (1 - tanh(k * w) ^ 2)",
            lambda w: 1.5 / torch.cosh(1.5 * w) ** 2,
        ),
        ("w => sign(w)\n  gradient (w, g) => where(abs(w) <= 1, g, 0)", lambda w: (w.abs() <= 1).double()),
        ("w => sign(w)\n  gradient (stored, force) => 3 * force", lambda w: torch.full_like(w, 3)),
        ("w => soft(k, w)\n  gradient (w, g) => g * soft(w, k)", lambda w: torch.tanh(1.5 * w)),
        ("w => soft(w, k)", lambda w: 1.5 / torch.cosh(1.5 * w) ** 2),
    ],
)
def test_a_gradient_is_the_expression(build: Build, clauses: str, expected: Any) -> None:
    if "soft(k, w)" in clauses:
        clauses = clauses.replace("soft(k, w)", "soft(w, k)")
    weight, found = gradients(build(NET.format(clauses=clauses)))
    torch.testing.assert_close(found, expected(weight))


def test_a_straight_through_gradient_goes_to_what_was_given_whatever_the_body_makes_of_it(
    build: Build,
) -> None:
    clauses = (
        "w => round(exp(k * tanh(abs(w) + 1)) * 3 + tanh(k * w) ^ 2) / 3 + clamp(cos(k * w) * sin(w), -1, 1)"
    )
    weight, found = gradients(
        build(NET.format(clauses=f"{clauses}\n  gradient straight_through(clip = 0.9)"))
    )
    assert torch.equal(found, (weight.abs() <= 0.9).double())


def test_a_gradient_goes_through_every_form(build: Build) -> None:
    graph = verify(build(NET.format(clauses="w => sign(w)\n  gradient (w, g) => g * abs(w)")))
    data = graph_data(graph)
    (laid,) = [w["maps"][0] for d in data["definitions"] for w in d.get("weights", ()) if w["maps"]]
    assert data["definitions"][laid["gradient"]]["kind"] == "block"
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    x = torch.eye(4, dtype=torch.float64)
    many = torch.stack([weight.detach(), -2 * weight.detach()]).requires_grad_()
    torch.vmap(lambda w: function(graph)({"dense.weight": w}, x))(many).sum().backward()
    torch.testing.assert_close(many.grad, many.detach().abs())
    assert "def backward(ctx, g):\n        (w,) = ctx.saved_tensors\n        return g * torch.abs(w)" in emit(
        graph
    )


def test_its_hard_version_and_its_symmetries_are_those_of_a_straight_through_map(build: Build) -> None:
    graph = build(NET.format(clauses="w => sign(w)\n  gradient (w, g) => 2 * g"))
    straight = build(NET.format(clauses="w => sign(w)\n  gradient straight_through(clip = none)"))
    assert is_soft(graph) and not is_soft(hard(graph))
    groups = [symmetry_group(given) for given in (graph, straight)]
    assert groups[0].order == groups[1].order and groups[0].families == groups[1].families


def test_a_mask_keeps_the_entries_of_its_condition_and_sees_the_parameters(build: Build) -> None:
    net: Any = module(build(NET.format(clauses="mask (i, j) => abs(i - j) < k")))
    i, j = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    kept = ((i - j).abs() < 1.5).float()
    torch.testing.assert_close(net(torch.eye(4)).t(), net.dense.weight * kept)


def test_a_projection_and_a_penalty_are_their_expressions(build: Build) -> None:
    graph = build(NET.format(clauses="project w => clamp(w, -k, k)\n  penalty w => 0.1 * sum(abs(w) ^ k)"))
    (weight,) = [w for found in instances(graph.root) for w in found.primitive.weights]
    w = 3 * torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(projection_function(weight.projections[0])(w), w.clamp(-1.5, 1.5))
    torch.testing.assert_close(penalty_function(weight.penalties[0])(w), 0.1 * (w.abs() ** 1.5).sum())


def test_all_clauses_of_one_constraint_stand_together(build: Build) -> None:
    clauses = """w => tanh(k * w)
  gradient (w, g) => g
  project w => clamp(w, -1, 1)
  penalty w => sum(w ^ 2)
  mask (i, j) => i <= j"""
    graph = verify(build(NET.format(clauses=clauses)))
    (weight,) = [w for found in instances(graph.root) for w in found.primitive.weights]
    assert [item.name for item in weight.maps] == ["laid", "mask"]
    assert (len(weight.projections), len(weight.penalties)) == (1, 1)
    net: Any = module(graph)
    upper = torch.triu(torch.ones(3, 4))
    net(torch.eye(4)).sum().backward()
    torch.testing.assert_close(net(torch.eye(4)).t(), torch.tanh(1.5 * net.dense.weight) * upper)
    torch.testing.assert_close(net.dense.weight.grad, upper)


def test_training_projects_and_pays(tmp_path: Path) -> None:
    text = """
constraint small { project w => clamp(w, -0.05, 0.05) }

constraint paid { penalty w => 10 * sum(abs(w)) }

network n {
  input  x: real[2]
  output y: real[2] = x -> dense(6) as first -> tanh -> dense(2) as last
  constrain first.weight: small
  constrain last.weight: paid
}

experiment e {
  network   = n
  data      = xor(samples = 100)
  loss      = cross_entropy
  learn     = backprop
  optimizer = sgd(lr = 0.01)
  epochs    = 20
}
"""
    path = tmp_path / "e.nnspec"
    path.write_text(text)
    run = nnspec.load(path).experiment("e").train(out=tmp_path / "runs")
    (file,) = run.path.rglob("*.safetensors")
    state = {key: value for key, value in load_file(file).items() if key.endswith("t.weight")}
    (first,) = [value for key, value in state.items() if key.endswith("first.weight")]
    (last,) = [value for key, value in state.items() if key.endswith("last.weight")]
    assert float(first.abs().max()) <= 0.05 + 1e-7
    assert float(last.abs().max()) < 0.2  # it begins at up to 0.41, and costs ten times its size


def test_a_map_may_take_an_anonymous_activation() -> None:
    text = """
constraint shaped(act: activation = tanh) {
  w => act(w)
}

network net {
  input  x: real[4]
  output y: real[3] = x -> dense(3) as fc
  constrain fc.weight: shaped(act = v => sin(v) * 0.5)
}
"""
    typed = nnspec.load(text).network("net").graph
    net, x = module(typed), torch.randn(5, 4)
    expected = torch.nn.functional.linear(x, torch.sin(net.fc.weight) * 0.5, net.fc.bias)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(function(typed)(net.state_dict(), x), expected)
