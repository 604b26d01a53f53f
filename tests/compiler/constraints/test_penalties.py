"""Penalties: their values in closed form, and that proximal maps minimise what they should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from nnspec.compiler.constraints.code.group_lasso import block_soft_threshold, group_lasso
from nnspec.compiler.constraints.code.l1 import l1, soft_threshold
from nnspec.compiler.constraints.code.l2 import l2
from nnspec.compiler.constraints.code.near_identity import near_identity


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


GROUPS: list[dict[str, Any]] = [
    {"group": "unit", "block": (1, 1)},
    {"group": "input", "block": (1, 1)},
    {"group": "block", "block": (2, 3)},
    {"group": "layer", "block": (1, 1)},
]
CASES: list[tuple[str, Callable[..., Tensor], Callable[..., Tensor], dict[str, Any]]] = [
    ("l1", l1, soft_threshold, {}),
    *((f"groups of {options['group']}", group_lasso, block_soft_threshold, options) for options in GROUPS),
]
every_case = pytest.mark.parametrize(
    ("value", "proximal", "options"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)


def descend(value: Callable[..., Tensor], weight: Tensor, step: float, options: dict[str, Any]) -> Tensor:
    """Minimise value(x) + ||x - weight||^2 / (2 step) by many steps of subgradient descent."""
    x = weight.clone().requires_grad_()
    best, least = weight, torch.inf
    for count in range(4000):
        objective = value(x, **options) + (x - weight).square().sum() / (2 * step)
        if objective.item() < least:
            best, least = x.detach().clone(), objective.item()
        (slope,) = torch.autograd.grad(objective, x)
        # Steps for strongly convex functions (Nemirovski et al., 2009): 1 / (modulus * count).
        x = (x - step / (count + 1) * slope.nan_to_num()).detach().requires_grad_()
    return best


@every_case
def test_the_proximal_map_minimises(
    value: Callable[..., Tensor], proximal: Callable[..., Tensor], options: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, step = torch.randn(4, 6, generator=generator), 0.4
    options = {"strength": 0.9} | options

    def objective(x: Tensor) -> float:
        return float(value(x, **options) + (x - weight).square().sum() / (2 * step))

    found = proximal(weight, step, **options)
    assert torch.allclose(found, descend(value, weight, step, options), atol=2e-3)
    least = objective(found)
    for scale in (1e-4, 1e-2, 1.0):
        for _ in range(200):
            assert objective(found + scale * torch.randn(4, 6, generator=generator)) > least


@every_case
def test_zeros_are_exact_and_nothing_else_is_lost(
    value: Callable[..., Tensor], proximal: Callable[..., Tensor], options: dict[str, Any]
) -> None:
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    assert not proximal(weight, 1.0, strength=100.0, **options).any()
    assert torch.equal(proximal(weight, 0.0, strength=1.0, **options), weight)
    assert not proximal(torch.zeros(4, 6), 0.0, strength=1.0, **options).any()


@every_case
def test_many_at_once_are_each_alone(
    value: Callable[..., Tensor], proximal: Callable[..., Tensor], options: dict[str, Any]
) -> None:
    many = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2))

    def both(weight: Tensor) -> tuple[Tensor, Tensor]:
        return proximal(weight, 0.3, strength=0.7, **options), value(weight, strength=0.7, **options)

    together = torch.vmap(both)(many)
    for found, one in zip(zip(*together, strict=True), many, strict=True):
        assert all(torch.allclose(a, b, atol=1e-14) for a, b in zip(found, both(one), strict=True))


def test_soft_threshold_of_numbers() -> None:
    weight = torch.tensor([-2.0, -0.5, -0.1, 0.0, 0.1, 0.5, 2.0])
    expected = torch.tensor([-1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5])
    assert torch.equal(soft_threshold(weight, 0.25, 2.0), expected)
    assert torch.allclose(soft_threshold(weight, 0.1, 2.0), torch.nn.functional.softshrink(weight, 0.2))


def test_values_of_groups() -> None:
    """Each value by hand, from slices of the weight."""
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    by_hand = {
        "unit": sum(sqrt(6) * row.norm() for row in weight),
        "input": sum(sqrt(4) * column.norm() for column in weight.T),
        "block": sum(
            sqrt(6) * weight[i : i + 2, j : j + 3].norm() for i in range(0, 4, 2) for j in range(0, 6, 3)
        ),
        "layer": sqrt(24) * weight.norm(),
    }
    for options in GROUPS:
        found = group_lasso(weight, strength=0.5, **options)
        assert torch.allclose(found, torch.as_tensor(0.5 * by_hand[options["group"]]))


def test_groups_of_a_convolution_are_whole_kernels() -> None:
    weight = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(4))
    found = block_soft_threshold(weight, 1.0, strength=1.0, group="block", block=(1, 1))
    norms = weight.flatten(2).norm(dim=2)
    alive = found.flatten(2).abs().amax(2) > 0
    assert torch.equal(alive, norms > 3) and alive.any() and not alive.all()


def test_gradients_of_smooth_penalties() -> None:
    weight = torch.randn(5, 5, generator=torch.Generator().manual_seed(5), requires_grad=True)
    (decay,) = torch.autograd.grad(l2(weight, 0.3), weight)
    assert torch.allclose(decay, 0.3 * weight)
    (towards,) = torch.autograd.grad(near_identity(weight, 0.3), weight)
    assert torch.allclose(towards, 0.3 * (weight - torch.eye(5)))
    assert near_identity(torch.eye(5), 3.0) == 0
