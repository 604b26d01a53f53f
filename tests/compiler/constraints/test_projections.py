"""Projections give the nearest member of their set: by closed forms, by enumeration, by the law of obtuse angles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import torch
from torch import Tensor

from nnspec.compiler.constraints.code.box import box
from nnspec.compiler.constraints.code.max_norm import max_norm
from nnspec.compiler.constraints.code.nonnegative import nonnegative
from nnspec.compiler.constraints.code.simplex import simplex
from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.simplex import Simplex


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


CASES: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("nonnegative", nonnegative),
    ("box", lambda w: box(w, -0.3, 0.7)),
    ("max_norm of rows", lambda w: max_norm(w, 1.5, (1,))),
    ("max_norm of columns", lambda w: max_norm(w, 1.5, (0,))),
    ("max_norm of all", lambda w: max_norm(w, 1.5, (0, 1))),
    ("max_norm of entries", lambda w: max_norm(w, 0.5, ())),
    ("simplex of rows", lambda w: simplex(w, (5, 7), 1)),
    ("simplex of columns", lambda w: simplex(w, (5, 7), 0)),
]
every_case = pytest.mark.parametrize("project", [c[1] for c in CASES], ids=[c[0] for c in CASES])


@every_case
def test_it_is_the_nearest_member(project: Callable[[Tensor], Tensor]) -> None:
    """p is the projection of v onto a convex set if and only if <v - p, q - p> <= 0 for every member q."""
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        weight = scale * torch.randn(5, 7, generator=generator)
        nearest = project(weight)
        others = torch.stack([project(4 * torch.randn(5, 7, generator=generator)) for _ in range(400)])
        angles = ((weight - nearest) * (others - nearest)).sum(dim=(1, 2))
        assert angles.max() <= 1e-10
        assert (project(nearest) - nearest).abs().max() < 1e-12


@every_case
def test_members_stay(project: Callable[[Tensor], Tensor]) -> None:
    member = project(torch.randn(5, 7, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(project(member), member, atol=1e-14)


@every_case
def test_many_at_once_are_each_alone(project: Callable[[Tensor], Tensor]) -> None:
    many = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(2))
    together = torch.vmap(project)(many)
    assert torch.equal(together, torch.stack([project(one) for one in many]))


def by_enumeration(v: Tensor) -> Tensor:
    """The nearest point of the simplex: the best of the solutions for each set of entries above zero."""
    best, least = v, torch.inf
    for count in range(1, len(v) + 1):
        for chosen in combinations(range(len(v)), count):
            index = torch.tensor(chosen)
            candidate = torch.zeros_like(v)
            candidate[index] = v[index] + (1 - v[index].sum()) / count
            away = float((candidate - v).square().sum())
            if bool((candidate >= 0).all()) and away < least:
                best, least = candidate, away
    return best


def test_simplex_by_enumeration() -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        v = 2 * torch.randn(6, generator=generator)
        assert torch.allclose(simplex(v, (6,), 0), by_enumeration(v), atol=1e-12)


def test_simplex_leaves_out_what_is_not_kept() -> None:
    generator = torch.Generator().manual_seed(4)
    v = torch.randn(6, generator=generator) - 5
    kept = torch.tensor([True, False, True, True, False, True])
    found = simplex(v, (6,), 0, kept)
    assert torch.allclose(found[kept], by_enumeration(v[kept]), atol=1e-12)
    assert not found[~kept].any()


def test_simplex_of_large_and_equal_numbers() -> None:
    assert torch.allclose(simplex(torch.full((4,), 1e12), (4,), 0), torch.full((4,), 0.25))
    single = simplex(torch.tensor([1e8, 0.0], dtype=torch.float32), (2,), 0)
    assert torch.equal(single, torch.tensor([1.0, 0.0], dtype=torch.float32))


def test_max_norm_is_torch_renorm() -> None:
    weight = 3 * torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(5))
    ours = max_norm(weight, 2.0, (1, 2, 3))
    # torch stops a little short of the bound: it divides by the norm plus 1e-7.
    assert torch.allclose(ours, torch.renorm(weight, 2, 0, 2.0), atol=1e-6)
    assert torch.equal(max_norm(torch.zeros(2, 2), 1.0, (1,)), torch.zeros(2, 2))


def test_a_number_is_no_simplex() -> None:
    with pytest.raises(Misfit, match="one number by itself"):
        Simplex().part(WeightSite(name="gain", shape=(), options={"axis": "rows"}), None)


def test_free_numbers_of_a_simplex() -> None:
    """One less a vector: the rank of the map's derivative where all entries are above zero."""
    site = WeightSite(name="weight", shape=(3, 5), options={"axis": "rows"})
    inside = torch.full((3, 5), 0.2)
    jacobian = torch.autograd.functional.jacobian(lambda w: simplex(w, (3, 5), 1), inside).reshape(15, 15)
    assert Simplex().free(site) == int(torch.linalg.matrix_rank(jacobian)) == 12
