"""Weights of few values against brute force, the papers' equations and brevitas."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from constraint_cases import Case
from torch import Tensor

from nnspec.compiler.constraints.code.discrete import pass_through, quantize_learned


def test_zero_is_positive() -> None:
    for written in ("binary", 'binary(scale = "tensor")'):
        weight = Case(written, (1, 2)).effective({"weight": torch.tensor([[0.0, -2.0]])})
        assert torch.equal(weight.sign(), torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_straight_through_value_is_exact_and_its_gradient_has_a_closed_window(clip: float | None) -> None:
    weight = torch.tensor([-0.3, 0.5, 0.7, 1e-30, -1e30], requires_grad=True)
    chosen = torch.tensor([0.1, -0.3, 1e-9, 1 / 3, 1.0])
    gradient = torch.randn(5)
    within = torch.ones(5) if clip is None else torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    found = pass_through(weight, chosen, clip)
    assert torch.equal(found, chosen)
    assert torch.equal(torch.autograd.grad(found, weight, gradient)[0], gradient * within)
    _, tangent = torch.func.jvp(lambda w: pass_through(w, chosen, clip), (weight.detach(),), (gradient,))
    assert torch.equal(tangent, gradient * within)


def test_scaled_signs_are_the_nearest_of_all() -> None:
    """Every vector of signs, each with the scale that suits it best."""
    case = Case('binary(scale = "channel")', (2, 8))
    weight = case.normal()
    found = case.effective({"weight": weight})
    assert torch.allclose(found, case.rule.project(case.site, weight, {}))
    for row, near in zip(weight, found, strict=True):
        signs = torch.tensor(list(product([-1.0, 1.0], repeat=8)), dtype=torch.float64)
        assert _distance(row, near) == pytest.approx(_least(row, signs))


def test_the_projection_of_scaled_ternary_weights_is_the_nearest_of_all() -> None:
    case = Case('ternary(threshold = 0.7, relative = true, scale = "channel")', (5, 6))
    weight = case.normal()
    found = case.rule.project(case.site, weight, {})
    kinds = torch.tensor(list(product([-1.0, 0.0, 1.0], repeat=6)), dtype=torch.float64)
    for row, near in zip(weight, found, strict=True):
        assert _distance(row, near) == pytest.approx(_least(row, kinds[kinds.any(1)]))


def _distance(row: Tensor, near: Tensor) -> float:
    return float((row - near).square().sum())


def _least(row: Tensor, kinds: Tensor) -> float:
    scales = (kinds @ row).clamp(min=0) / kinds.square().sum(1)
    return float((row - scales[:, None] * kinds).square().sum(1).min())


def test_ternary_weight_networks_as_in_the_paper() -> None:
    """Li and Liu 2016: threshold 0.7 mean |w|, scale the mean of the |w| above it."""
    case = Case('ternary(threshold = 0.7, relative = true, scale = "tensor")', (4, 5))
    weight = case.normal()
    numbers = weight.flatten().tolist()
    limit = 0.7 * sum(map(abs, numbers)) / len(numbers)
    kept = [abs(n) for n in numbers if abs(n) > limit]
    scale = sum(kept) / len(kept)
    expected = [0.0 if abs(n) <= limit else scale if n > 0 else -scale for n in numbers]
    assert case.effective({"weight": weight}).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("clip", [0.8, None])
@pytest.mark.parametrize("word", ["binary", "ternary"])
def test_a_scale_is_differentiated_by_the_product_rule(word: str, clip: float | None) -> None:
    """d(a s) = a ds + s da, with 1 for ds inside the window, and da of a mean of |w|."""
    own = "threshold = 0.7, relative = true, " if word == "ternary" else ""
    case = Case(f'{word}({own}scale = "channel", clip = {clip or "none"})', (3, 7))
    weight, gradient = case.normal(), case.normal()
    latent = weight.clone().requires_grad_()
    found = torch.autograd.grad(case.effective({"weight": latent}), latent, gradient)[0]
    for w, g, got in zip(weight.tolist(), gradient.tolist(), found.tolist(), strict=True):
        limit = 0.7 * sum(map(abs, w)) / 7 if word == "ternary" else -1.0
        kept = [abs(n) > limit for n in w]
        scale = sum(abs(n) for n, k in zip(w, kept, strict=True) if k) / sum(kept)
        sign = [(1.0 if n >= 0 else -1.0) * k for n, k in zip(w, kept, strict=True)]
        along = sum(a * b for a, b in zip(g, sign, strict=True)) / sum(kept)
        inside = [clip is None or abs(n) <= clip for n in w]
        assert got == pytest.approx(
            [scale * g[i] * inside[i] + sign[i] * along for i in range(7)], rel=1e-12, abs=1e-12
        )


@pytest.mark.parametrize("word", ["binary", "ternary"])
def test_a_learned_scale_has_the_signs_for_gradient(word: str) -> None:
    own = "threshold = 0.7, relative = true, " if word == "ternary" else ""
    case = Case(f'{word}({own}scale = "channel", learned = true)', (3, 7))
    weight, gradient = case.normal(), case.normal()
    stored = {name: t.clone().requires_grad_() for name, t in case.begin(weight).items()}
    fixed = Case(case.written.replace(", learned = true", ""), case.shape)
    made = case.effective(stored)
    assert torch.allclose(made, fixed.effective({"weight": weight}), rtol=0, atol=1e-14)
    latent, scale = torch.autograd.grad(made, [stored["weight"], stored["weight_scale"]], gradient)
    signs = made.detach().sign()
    assert torch.allclose(scale, (gradient * signs).sum(1, keepdim=True))
    assert torch.allclose(latent, stored["weight_scale"] * gradient * (weight.abs() <= 1))


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_grid_is_symmetric_and_ends_at_the_largest_entry(bits: int) -> None:
    case = Case(f'quantize(bits = {bits}, scale = "channel")', (3, 400))
    weight = case.normal()
    last = 2 ** (bits - 1) - 1
    found = case.effective({"weight": weight})
    for row, near in zip(weight, found, strict=True):
        step = row.abs().max() / last
        counts = near / step
        assert torch.allclose(counts, counts.round(), atol=1e-9) and counts.abs().max().round() == last
        grid = step * torch.arange(-last, last + 1)
        nearest = (row[:, None] - grid).abs().min(1).values
        assert torch.allclose((row - near).abs(), nearest, atol=1e-12)


def test_a_quantized_weight_of_zeros_stays_zero() -> None:
    for written in ("quantize(bits = 4)", 'quantize(bits = 4, scale = "channel", learned = true)'):
        case = Case(written, (3, 4))
        assert torch.equal(case.effective(case.begin(torch.zeros(3, 4))), torch.zeros(3, 4))


def test_the_gradient_of_a_quantized_weight_passes() -> None:
    case = Case("quantize(bits = 3)", (4, 4))
    latent, gradient = case.normal().requires_grad_(), case.normal()
    assert torch.equal(torch.autograd.grad(case.effective({"weight": latent}), latent, gradient)[0], gradient)


def test_learned_steps_have_the_gradient_of_the_paper() -> None:
    """Esser et al. 2020, equation 3, entry by entry; and 1 for the weight inside the grid."""
    weight = torch.tensor([-5.0, -1.3, -0.2, 0.4, 1.6, 9.0], dtype=torch.float64, requires_grad=True)
    step = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    for place, number in enumerate(weight.tolist()):
        made = quantize_learned(weight, step, levels=7)[place]
        latent, found = torch.autograd.grad(made, [weight, step])
        v = number / 0.5
        expected = round(v) - v if abs(v) < 7 else 7.0 if v > 0 else -7.0
        assert found.item() == pytest.approx(expected)
        assert latent[place].item() == (1.0 if abs(v) < 7 else 0.0)


def test_values_are_the_nearest_and_the_larger_of_two() -> None:
    case = Case("values([0.5, -1, 2])", (40, 50))
    weight = 2 * case.normal()
    choices = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    nearest = choices[(weight[..., None] - choices).abs().argmin(-1)]
    assert torch.equal(case.effective({"weight": weight}), nearest)
    halfway = Case("values([0, 1])", (1, 2)).effective({"weight": torch.tensor([[0.5, 0.499]])})
    assert halfway.tolist() == [[1.0, 0.0]]
    both = Case("values([1, -1], clip = 1)", (6, 6)), Case("binary", (6, 6))
    latents = [weight[:6, :6].clone().requires_grad_() for _ in both]
    for one, latent in zip(both, latents, strict=True):
        one.effective({"weight": latent}).square().cumsum(0).sum().backward()
    assert torch.equal(both[0].effective({"weight": latents[0]}), both[1].effective({"weight": latents[1]}))
    assert torch.equal(latents[0].grad, latents[1].grad)


def test_brevitas_gives_the_same_numbers() -> None:
    pytest.importorskip("brevitas")
    from brevitas.core.bit_width import BitWidthConst
    from brevitas.core.quant import BinaryQuant, IntQuant, TernaryQuant
    from brevitas.core.scaling import ConstScaling

    weight = Case("binary", (6, 5)).normal().float()
    scale = weight.abs().mean()
    own = Case('binary(scale = "tensor")', (6, 5)).effective({"weight": weight})
    assert torch.allclose(own, BinaryQuant(ConstScaling(scale.item()))(weight)[0])
    case = Case("ternary(threshold = 0.4)", (6, 5))
    assert torch.equal(
        case.effective({"weight": weight}), TernaryQuant(ConstScaling(1.0), 0.4)(weight)[0] + 0.0
    )
    # brevitas rounds before it clamps, which differs in the derivative for half a step at the end of the grid.
    weight = torch.where(((weight / 0.3).abs() - 3.25).abs() < 0.25, 0.1, weight)
    theirs = IntQuant(narrow_range=True, signed=True, input_view_impl=torch.nn.Identity())
    latent, step = (t.clone().requires_grad_() for t in (weight, torch.tensor(0.3)))
    ours = quantize_learned(latent, step, levels=3)
    expected = theirs(step, torch.tensor(0.0), BitWidthConst(3)(), latent)
    assert torch.allclose(ours, expected)
    gradient = torch.randn_like(weight)
    for one, other in zip(
        torch.autograd.grad(ours, [latent, step], gradient),
        torch.autograd.grad(expected, [latent, step], gradient),
        strict=True,
    ):
        assert torch.allclose(one, other)
