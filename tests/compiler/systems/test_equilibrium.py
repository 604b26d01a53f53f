"""Equilibrium layers: what theory says of them, with matrices small enough to check it exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nnspec
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.system import System
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.operations.code import settle

SPECS = Path(__file__).parent.parent.parent.parent / "specs" / "equilibrium"
OPTIMAL = """
layer optimal(width: int, hidden: int) {
  input  z: real[width]
  input  x: real[pixels]
  units = (z -> dense(hidden, bias = false) as lift) + (x -> dense(hidden) as inject) -> sigmoid
  output next = units @ lift.weight
  constrain lift.weight: spectral(BOUND)
}

network minimum {
  input  x: real[5]
  output z = x -> equilibrium(optimal(6, 9), solve = SOLVE, gradient = GRADIENT) as inner
}
"""
TIGHT = "steps = 500, tolerance = 1e-13"


def optimal(
    bound: float = 0.9, solve: str = f"fixed_point({TIGHT})", gradient: str = f"ift({TIGHT})", seed: int = 0
) -> tuple[Any, Any, Tensor]:
    """Return the graph, the module in double precision, and an input."""
    text = OPTIMAL.replace("BOUND", str(bound)).replace("SOLVE", solve).replace("GRADIENT", gradient)
    graph = nnspec.load(text).network().graph
    torch.manual_seed(seed)
    net = module(graph).double()
    with torch.no_grad():
        net.inner.lift.weight.mul_(5.0)  # beyond the bound, so that the constraint holds it there
    return graph, net, torch.randn(3, 5, dtype=torch.float64)


def effective(net: Any, bound: float = 0.9) -> Tensor:
    weight = net.inner.lift.weight
    return weight / (torch.linalg.matrix_norm(weight, 2) / bound).clamp_min(1.0)


def cell(net: Any, bound: float = 0.9) -> Callable[[Tensor, Tensor], Tensor]:
    """Return z, x -> W' sigma(W z + U x + b), written by hand."""
    weight = effective(net, bound)
    return lambda z, x: torch.sigmoid(z @ weight.T + net.inner.inject(x)) @ weight


def test_the_cell_has_a_symmetric_jacobian_with_eigenvalues_in_the_unit_interval() -> None:
    """So it is a proximal operator of a convex function (Xie et al. 2021)."""
    graph, net, x = optimal()
    run = System(_inner(graph))
    given = run.begin(run.weights(_state(net)), x)
    z = torch.randn(3, 6, dtype=torch.float64)
    columns = [run.jvp(given, (z,), (e.expand(3, 6).clone(),))[0] for e in torch.eye(6, dtype=z.dtype)]
    jacobian = torch.stack(columns, -1)
    assert (jacobian - jacobian.mT).abs().max() < 1e-14
    values = torch.linalg.eigvalsh(jacobian)
    assert values.min() >= -1e-12 and values.max() <= 0.25 * 0.9**2 + 1e-12


def test_the_equilibrium_minimises_the_convex_energy() -> None:
    _, net, x = optimal()
    weight = effective(net).detach()
    z = net(x).detach().requires_grad_()
    softplus = torch.nn.functional.softplus  # the integral of the logistic function

    def energy(z: Tensor) -> Tensor:
        return (z**2).sum(1) / 2 - softplus(z @ weight.T + net.inner.inject(x)).sum(1)

    (slope,) = torch.autograd.grad(energy(z).sum(), z)
    assert slope.abs().max() < 1e-11
    lowest = energy(z)
    for _ in range(200):
        assert (energy(z + 0.1 * torch.randn_like(z)) >= lowest - 1e-12).all()


def test_all_starts_lead_to_one_equilibrium() -> None:
    _, net, x = optimal()
    found = net(x)
    step = cell(net)
    for seed in range(5):
        z = 10 * torch.randn(3, 6, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
        distances = []
        for _ in range(300):
            distances.append(float((z - found).detach().norm()))
            z = step(z, x)
        assert (z - found).abs().max() < 1e-12
        shrinks = [b / a for a, b in pairwise(distances) if a > 1e-9]
        assert max(shrinks) <= 0.25 * 0.9**2 + 1e-9  # the slope of the logistic function is at most 1/4


@pytest.mark.parametrize("solve", ["fixed_point", "anderson", "broyden"])
@pytest.mark.parametrize("gradient", ["ift", "unrolled"])
def test_gradients_agree_with_finite_differences(solve: str, gradient: str) -> None:
    own = f"ift({TIGHT})" if gradient == "ift" else "unrolled"
    _, net, x = optimal(solve=f"{solve}({TIGHT})", gradient=own)
    x.requires_grad_()

    def loss() -> Tensor:
        return (net(x) ** 3).sum()

    loss().backward()
    generator = torch.Generator().manual_seed(4)
    tensors = [*net.parameters(), x]
    away = [torch.randn(t.shape, dtype=t.dtype, generator=generator) for t in tensors]
    expected = _slope(lambda: float(loss()), tensors, away)
    found = float(sum((t.grad * d).sum() for t, d in zip(tensors, away, strict=True)))
    assert abs(found - expected) < 1e-6 * abs(expected)


def _slope(loss: Callable[[], float], tensors: list[Tensor], away: list[Tensor]) -> float:
    """Return the derivative along a direction, by central differences of fourth order."""
    values: dict[int, float] = {}
    step = 1e-4
    with torch.no_grad():
        for count in (-2, -1, 1, 2):
            for tensor, direction in zip(tensors, away, strict=True):
                tensor += count * step * direction
            values[count] = loss()
            for tensor, direction in zip(tensors, away, strict=True):
                tensor -= count * step * direction
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)


def test_a_phantom_gradient_of_one_step_points_much_the_same_way() -> None:
    grads: list[Tensor] = []
    for gradient in (f"ift({TIGHT})", "phantom(1)", "phantom(40)"):
        _, net, x = optimal(bound=1.8, gradient=gradient)
        (net(x) ** 2).sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    exact, one, many = grads
    cosine = torch.cosine_similarity(exact, one, 0)
    assert 0.9 < cosine < 0.9999  # a descent direction, and not the gradient
    torch.testing.assert_close(exact, many, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("contraction", "plain"), [(0.7, 20), (0.99, 30)])
def test_steps_of_each_solver_to_eight_digits(contraction: float, plain: int) -> None:
    """Acceleration pays: a ridge of fixed size made Anderson's method slower than plain steps."""
    counts: dict[str, list[int]] = {name: [] for name in ("fixed_point", "anderson", "broyden")}
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(30, 30, dtype=torch.float64, generator=generator)
        w *= contraction**0.5 / torch.linalg.matrix_norm(w, 2)
        drive = torch.randn(8, 30, dtype=torch.float64, generator=generator)
        for name, found in counts.items():
            evaluations = 0

            def step(z: Tensor, w: Tensor = w, drive: Tensor = drive) -> tuple[Tensor]:
                nonlocal evaluations
                evaluations += 1
                return (torch.tanh(z @ w.T + drive) @ w,)

            (z,), _ = getattr(settle, name)(step, (torch.zeros_like(drive),), 200, tolerance=1e-8, every=1)
            found.append(evaluations)
            assert (step(z)[0] - z).abs().max() <= 1e-8
    assert min(counts["fixed_point"]) >= plain
    for name in ("anderson", "broyden"):
        assert max(counts[name]) <= 20
        assert all(b < a for a, b in zip(counts["fixed_point"], counts[name], strict=True))


def test_the_weight_keeps_its_bound_after_each_step() -> None:
    graph, net, x = optimal(bound=0.95)
    assert "lift_weight = spectral(self.lift.weight, bound=0.95)" in emit(graph)
    optimizer = torch.optim.SGD(net.parameters(), lr=10.0)
    for _ in range(20):
        optimizer.zero_grad()
        (-net(x).sum()).backward()
        optimizer.step()
        assert torch.linalg.matrix_norm(effective(net, 0.95), 2) <= 0.95 + 1e-12
        torch.testing.assert_close(net(x), cell(net, 0.95)(net(x), x), rtol=0, atol=1e-11)


def test_the_functional_form_has_the_same_gradient() -> None:
    graph, net, x = optimal()
    (net(x) ** 2).sum().backward()
    forward = function(graph)
    found = torch.func.grad(lambda p: (forward(p, x) ** 2).sum())(dict(net.state_dict()))
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-9)


def test_a_state_of_a_given_shape_and_one_that_the_input_says() -> None:
    text = """
    layer halves {
      input  z: real[n]
      input  x: real[n]
      output y = 0.5 * z + x
    }
    network two {
      input  x: real[7]
      output a = x -> equilibrium(halves)
      output b = x -> equilibrium((z, x) => 0.25 * z + x, shape = [7])
    }
    """
    net = module(nnspec.load(text).network().graph)
    x = torch.randn(2, 7)
    a, b = net(x)
    torch.testing.assert_close(a, 2 * x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(b, x * 4 / 3, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["deep_equilibrium", "optimization_induced"])
def test_every_forward_of_training_settles(name: str) -> None:
    """Or a warning says that it does not."""
    spec = nnspec.load(SPECS / f"{name}.nnspec")
    graph = spec.network(spec.networks[0]).graph
    torch.manual_seed(0)
    net = module(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(torch.rand(16, 8, 8)).square().sum().backward()
    assert net.hidden.residual <= 1e-4


def _inner(graph: Any) -> Any:
    """Return the block of the equilibrium as a network of its own."""
    return graph.replace(root=graph.root.child("inner").instances[0])


def _state(net: Any) -> dict[str, Tensor]:
    return {name.removeprefix("inner."): value for name, value in net.state_dict().items()}
