"""Orthogonal, bounded and structured weights against torch's parametrizations, geotorch, scipy and optimality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from constraint_cases import Case
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm

from nnspec.compiler.emit.load import module

SHAPES = [(5, 5), (7, 3), (3, 7)]
MAPS = {"cayley": "cayley", "exponential": "matrix_exp"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MAPS)
def test_the_same_turns_as_torch(name: str, shape: tuple[int, int]) -> None:
    """torch: W = base f(A)[:, :k], A skew with the stored numbers below its diagonal."""
    case = Case(f'orthogonal(map = "{name}")', shape)
    layer: Any = nn.Linear(shape[1], shape[0], bias=False, dtype=torch.float64)
    layer.weight.data = case.normal()
    orthogonal(layer, orthogonal_map=MAPS[name], use_trivialization=True)
    stored, theirs = layer.parametrizations.weight.original, layer.parametrizations.weight[0]
    stored.data = 0.7 * case.normal(*stored.shape)
    rows, columns = shape
    strict = (stored if rows >= columns else stored.mT).detach().tril(-1)
    short = min(shape)
    base = theirs.base if rows == columns else theirs.base[:, :short]
    turn = strict if rows == columns else theirs.base @ strict
    if rows < columns:
        base, turn = base.mT, turn.mT
    own = case.effective({"weight": turn, "weight_base": base})
    assert torch.allclose(own, layer.weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [*SHAPES, (4, 2, 3, 3)])
def test_any_orthogonal_matrix_may_be_the_start(shape: tuple[int, ...]) -> None:
    """Those that turn over (determinant -1) and those that a Cayley transform cannot reach, too."""
    case = Case("orthogonal", shape)
    for draw in range(4):
        matrix = torch.linalg.qr(case.normal(max(shape[0], 18), max(shape[0], 18)))[0]
        short, long = case.site.matrix
        member = matrix[:short, :short] if short == long else None
        if member is None or not torch.allclose(member @ member.mT, torch.eye(short, dtype=torch.float64)):
            square = torch.linalg.qr(case.normal(max(short, long), max(short, long)))[0]
            member = square[:short, :long].reshape(shape)
        member = -member if draw % 2 else member
        assert torch.allclose(case.effective(case.begin(member)), member, rtol=0, atol=1e-12)
    minus = -torch.eye(5, dtype=torch.float64)
    square = Case("orthogonal", (5, 5))
    assert torch.allclose(square.effective(square.begin(minus)), minus)


@pytest.mark.parametrize("shape", [*SHAPES, (4, 2, 3, 3)])
def test_the_projection_is_the_polar_factor(shape: tuple[int, ...]) -> None:
    polar = pytest.importorskip("scipy.linalg").polar
    case = Case("orthogonal", shape)
    weight = case.normal()
    expected = torch.from_numpy(polar(weight.flatten(1).numpy())[0]).view_as(weight)
    assert torch.allclose(case.rule.project(case.site, weight, {}), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MAPS)
def test_descent_reaches_the_orthogonal_matrix_asked_for(name: str, shape: tuple[int, int]) -> None:
    """Orthogonal Procrustes: of all orthogonal W, the polar factor of T has the largest <W, T>."""
    case = Case(f'orthogonal(map = "{name}")', shape)
    target = case.normal()
    wanted = case.rule.project(case.site, target, {})
    start = case.normal()
    if shape[0] == shape[1] and torch.det(start) * torch.det(wanted) < 0:
        start = torch.diag(torch.tensor([-1.0, 1, 1, 1, 1], dtype=torch.float64)) @ start
    stored = case.begin(start)
    latent = stored["weight"].requires_grad_()
    optimizer = torch.optim.LBFGS([latent], max_iter=400, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = -(case.effective({**stored, "weight": latent}) * target).sum()
        found.backward()
        return found

    optimizer.step(loss)
    assert torch.allclose(case.effective({**stored, "weight": latent}), wanted, atol=1e-3)


@pytest.mark.parametrize("shape", [(6, 4), (4, 2, 3, 3)])
def test_beyond_the_bound_it_is_torchs_spectral_norm(shape: tuple[int, ...]) -> None:
    case = Case("spectral(bound = 0.8)", shape)
    weight = 3 * case.normal()
    layer: Any = module(case.graph).double().f
    layer.weight.data = weight.clone()
    spectral_norm(layer, n_power_iterations=2000)
    own = case.effective({"weight": weight})
    assert torch.allclose(own, 0.8 * layer.weight, rtol=0, atol=1e-9)
    assert torch.linalg.matrix_norm(own.flatten(1), ord=2).item() == pytest.approx(0.8)
    small = 0.01 * weight
    assert torch.equal(case.effective({"weight": small}), small)


@pytest.mark.parametrize(
    "written", ["spectral(bound = 0.8)", "psd", "symmetric", "skew", "circulant", "toeplitz"]
)
def test_projections_to_convex_sets_are_the_nearest_points(written: str) -> None:
    """P is the point of a convex set nearest to W if and only if <W - P, Z - P> <= 0 for all its Z."""
    case = Case(written, (5, 5))
    for _ in range(20):
        weight = 2 * case.normal()
        nearest = case.rule.project(case.site, weight, {})
        for _ in range(20):
            member = case.rule.project(case.site, 3 * case.normal(), {})
            assert ((weight - nearest) * (member - nearest)).sum() <= 1e-9


def test_the_truncated_decomposition_is_the_nearest_of_its_rank() -> None:
    """Eckart and Young 1936: the squared distance is the sum of the squares of what is left out."""
    case = Case("low_rank(2)", (6, 5))
    weight = case.normal()
    nearest = case.rule.project(case.site, weight, {})
    values = torch.linalg.svdvals(weight)
    assert torch.linalg.matrix_rank(nearest) == 2
    assert (weight - nearest).square().sum().item() == pytest.approx(values[2:].square().sum().item())


def test_a_psd_weight_of_bounded_rank_is_the_nearest() -> None:
    case = Case("psd(rank = 2)", (5, 5))
    weight = case.normal()
    values = torch.linalg.eigvalsh((weight + weight.mT) / 2).clamp(min=0)
    nearest = case.rule.project(case.site, weight, {})
    left_out = ((weight + weight.mT) / 2 - nearest).square().sum()
    expected = torch.linalg.eigvalsh((weight + weight.mT) / 2).square().sum() - values[-2:].square().sum()
    assert left_out.item() == pytest.approx(expected.item())


def test_a_psd_weight_has_no_dead_column_at_the_start() -> None:
    case = Case("psd", (8, 8))
    stored = {name: t.requires_grad_() for name, t in case.begin(case.normal()).items()}
    (case.effective(stored) * case.normal()).sum().backward()
    gradient = stored["weight_factor"].grad
    assert gradient is not None and (gradient.norm(dim=0) > 1e-3).all()


@pytest.mark.parametrize("written", ["toeplitz", "circulant"])
def test_the_same_matrices_as_scipy(written: str) -> None:
    linear: Any = pytest.importorskip("scipy.linalg")
    case = Case(written, (4, 4) if written == "circulant" else (4, 6))
    stored = case.moved(case.begin(case.normal()))
    found = case.effective(stored).numpy()
    again = (
        linear.circulant(found[:, 0]) if written == "circulant" else linear.toeplitz(found[:, 0], found[0])
    )
    assert (found == again).all()
    assert len(set(found.flatten().tolist())) == case.rule.free(case.site)


def test_geotorch_finds_the_weights_in_its_manifolds() -> None:
    geotorch: Any = pytest.importorskip("geotorch")
    members: dict[str, Callable[[tuple[int, ...]], Any]] = {
        "orthogonal": lambda size: geotorch.Stiefel(size),
        "low_rank(2)": lambda size: geotorch.LowRank(size, 2),
        "symmetric": lambda size: geotorch.Symmetric(size),
        "skew": lambda size: geotorch.Skew(size),
        "psd": lambda size: geotorch.PSSD(size),
        "psd(rank = 2)": lambda size: geotorch.PSSDLowRank(size, 2),
    }
    for written, manifold in members.items():
        case = Case(written, (5, 5))
        theirs = manifold((5, 5))
        for size in (0.0, 0.5):
            weight = case.effective(case.moved(case.begin(case.normal()), size))
            assert theirs.in_manifold(weight), written
        assert not theirs.in_manifold(case.normal()), written
