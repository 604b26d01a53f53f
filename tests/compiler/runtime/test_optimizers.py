"""Optimizers against their update equations, fused and over stacked networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime import optimizers
from nnspec.dsl.catalog import validate

ENTRIES = {entry.name: entry for entry in optimizers.entries()}


def choice(name: str, **given: Any) -> Choice:
    options, problems = validate(ENTRIES[name], given)
    assert not problems
    return Choice(family="optimizer", name=name, arguments=tuple(options.items()))


def run(chosen: Choice, start: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    weight = start.clone().requires_grad_()
    optimizer = optimizers.build(chosen, [weight], "cpu")
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.fixture
def start() -> torch.Tensor:
    return torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def gradients() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(4)]


def test_sgd_and_momentum(start: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    plain, heavy, velocity = start.clone(), start.clone(), torch.zeros(5, dtype=torch.float64)
    for gradient in gradients:
        plain = plain - 0.1 * (gradient + 0.01 * plain)
        velocity = 0.9 * velocity + gradient
        heavy = heavy - 0.1 * velocity
    torch.testing.assert_close(run(choice("sgd", lr=0.1, weight_decay=0.01), start, gradients), plain)
    torch.testing.assert_close(run(choice("momentum", lr=0.1), start, gradients), heavy)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam(name: str, start: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    weight, mean, square = start.clone(), torch.zeros(5), torch.zeros(5)
    for step, gradient in enumerate(gradients, 1):
        if name == "adamw":
            weight = weight * (1 - 0.1 * 0.2)
        else:
            gradient = gradient + 0.2 * weight
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        weight = weight - 0.1 * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
    chosen = choice(name, lr=0.1, beta1=0.8, beta2=0.95, weight_decay=0.2)
    torch.testing.assert_close(run(chosen, start, gradients), weight)


def test_rmsprop(start: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    weight, square = start.clone(), torch.zeros(5, dtype=torch.float64)
    for gradient in gradients:
        square = 0.9 * square + 0.1 * gradient**2
        weight = weight - 0.1 * gradient / (square.sqrt() + 1e-8)
    torch.testing.assert_close(run(choice("rmsprop", lr=0.1, alpha=0.9), start, gradients), weight)


@pytest.mark.parametrize("name", sorted(set(ENTRIES) - {"lbfgs"}))
def test_stacked_networks_are_each_alone(
    name: str, start: torch.Tensor, gradients: list[torch.Tensor]
) -> None:
    chosen = choice(name, lr=0.05)
    assert optimizers.elementwise(chosen)
    stacked = run(chosen, torch.stack([start, -start]), [torch.stack([g, 2 * g]) for g in gradients])
    torch.testing.assert_close(stacked[0], run(chosen, start, gradients), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        stacked[1], run(chosen, -start, [2 * g for g in gradients]), rtol=1e-12, atol=1e-12
    )


def test_fused_where_torch_can() -> None:
    weight = torch.zeros(3, requires_grad=True)
    assert optimizers.build(choice("adam"), [weight], "cpu").defaults["fused"]
    assert not optimizers.build(choice("adam"), [weight], "xpu-of-tomorrow").defaults.get("fused")


def test_the_default_is_adam_as_its_entry_has_it() -> None:
    assert choice("adam") == optimizers.DEFAULT


def test_nesterov_needs_momentum() -> None:
    assert optimizers.misfit(choice("sgd", lr=0.1, nesterov=True)) is not None
    assert optimizers.misfit(choice("momentum", lr=0.1, nesterov=True)) is None


def test_lion(start: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    """Algorithm 2 of Chen and others (2023)."""
    weight, mean = start.clone(), torch.zeros(5, dtype=torch.float64)
    for gradient in gradients:
        direction = torch.sign(0.9 * mean + 0.1 * gradient)
        weight = weight - 0.1 * (direction + 0.2 * weight)
        mean = 0.99 * mean + 0.01 * gradient
    torch.testing.assert_close(run(choice("lion", lr=0.1, weight_decay=0.2), start, gradients), weight)


def test_adagrad_and_rprop(start: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    weight, total = start.clone(), torch.zeros(5, dtype=torch.float64)
    for gradient in gradients:
        total = total + gradient**2
        weight = weight - 0.1 * gradient / (total.sqrt() + 1e-10)
    torch.testing.assert_close(run(choice("adagrad", lr=0.1), start, gradients), weight)
    weight, size, last = start.clone(), torch.full((5,), 0.1, dtype=torch.float64), torch.zeros(5)
    for gradient in gradients:
        turned = last * gradient
        factor = torch.where(turned > 0, 1.2, torch.where(turned < 0, 0.5, 1.0))
        size = (size * factor).clamp(1e-6, 50.0)
        gradient = torch.where(turned < 0, 0.0, gradient)
        weight, last = weight - gradient.sign() * size, gradient
    torch.testing.assert_close(run(choice("rprop", lr=0.1), start, gradients), weight)
