"""Weights under a group: as many numbers as orbits, and a layer that commutes with it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.equivariant import Equivariant
from nnspec.compiler.constraints.groups import Generated, group, orbit_count
from nnspec.compiler.emit.load import module
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

GROUPS = {
    "cyclic": (group("cyclic"), 6),
    "dihedral": (group("dihedral"), 5),
    "symmetric": (group("symmetric"), 4),
    "reflection": (group("reflection"), 5),
}
LISTED = {
    "two pairs": ((1, 0, 2, 3), (0, 1, 3, 2)),
    "a square": ((1, 2, 3, 0), (1, 0, 3, 2)),
    "nothing": ((0, 1, 2),),
}


def generators(name: str) -> tuple[tuple[int, ...], ...]:
    if name in LISTED:
        return LISTED[name]
    found, points = GROUPS[name]
    assert found is not None
    return found.generators(points)


def elements(given: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Return all products of generators."""
    found = {tuple(range(len(given[0])))}
    while True:
        new = {tuple(g[k] for k in p) for p in found for g in given} - found
        if not new:
            return sorted(found)
        found |= new


def matrix(permutation: tuple[int, ...], channels: int = 1) -> torch.Tensor:
    """Return P with P x at position p[k] what x is at k."""
    made = torch.zeros(len(permutation), len(permutation), dtype=torch.float64)
    for start, end in enumerate(permutation):
        made[end, start] = 1
    return torch.kron(torch.eye(channels, dtype=torch.float64), made)


def site(shape: tuple[int, ...], name: str) -> WeightSite:
    return WeightSite(
        name="weight", shape=shape, options={"group": Generated(text=name, generators=generators(name))}
    )


every_group = pytest.mark.parametrize("name", [*GROUPS, *LISTED])


def test_the_groups_are_the_groups() -> None:
    sizes = {name: len(elements(generators(name))) for name in GROUPS}
    assert sizes == {"cyclic": 6, "dihedral": 10, "symmetric": 24, "reflection": 2}
    assert elements(generators("symmetric")) == sorted(permutations(range(4)))


@every_group
@pytest.mark.parametrize("axes", [1, 2])
def test_orbits_are_counted_by_burnside_and_by_the_reynolds_projection(name: str, axes: int) -> None:
    given = generators(name)
    every = elements(given)
    fixed = [sum(p[k] == k for k in range(len(p))) ** axes for p in every]
    burnside, rest = divmod(sum(fixed), len(every))
    assert rest == 0
    # On pairs g acts by W -> P W P^-1, which is P kron P on the entries.
    moves = [matrix(p) if axes == 1 else torch.kron(matrix(p), matrix(p)) for p in every]
    reynolds = torch.stack(moves).mean(0)
    assert orbit_count(given, axes) == burnside == int(torch.linalg.matrix_rank(reynolds))
    points = len(given[0])
    place = site((3 * points, 2 * points)[:axes], name)
    assert Equivariant().free(place) == burnside * (3 * 2 if axes == 2 else 3)


@every_group
def test_the_projection_is_the_mean_over_the_group(name: str) -> None:
    every = elements(generators(name))
    points = len(every[0])
    weight = torch.randn(2 * points, 3 * points, dtype=torch.float64)
    expected = torch.stack([matrix(p, 2) @ weight @ matrix(p, 3).t() for p in every]).mean(0)
    rule, place = Equivariant(), site((2 * points, 3 * points), name)
    assert torch.allclose(rule.project(place, weight, {}), expected, atol=1e-12)
    bias = torch.randn(2 * points, dtype=torch.float64)
    mean = torch.stack([matrix(p, 2) @ bias for p in every]).mean(0)
    assert torch.allclose(rule.project(site((2 * points,), name), bias, {}), mean, atol=1e-12)


def net(constraint: str, units: int, inputs: int) -> Any:
    bag = Bag()
    text = (
        f"network net {{\n  input x: real[{inputs}]\n  output y = x -> dense({units}) as fc\n"
        f"  constrain fc.*: equivariant({constraint})\n}}"
    )
    checked = check(Source("net.nnspec", text), bag)
    typed = checked.graph(checked.networks()[-1])
    assert typed is not None and not list(bag), list(bag)
    return module(typed)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("cyclic(6)", "cyclic"),
        ("group = dihedral(points = 5)", "dihedral"),
        ("symmetric(4)", "symmetric"),
        ("reflection(5)", "reflection"),
        ("[[1, 0, 2, 3], [0, 1, 3, 2]]", "two pairs"),
    ],
)
def test_the_layer_commutes_with_the_group(word: str, name: str) -> None:
    given = generators(name)
    points = len(given[0])
    torch.manual_seed(0)
    layer = net(word, 3 * points, 2 * points).double()
    x = torch.randn(7, 2 * points, dtype=torch.float64)
    layer(x).square().sum().backward()  # and still does after a step
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter -= 0.1 * parameter.grad
    for p in given:
        assert torch.allclose(layer(x @ matrix(p, 2).t()), layer(x) @ matrix(p, 3).t(), atol=1e-12)
    stored = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert stored == {
        "fc.weight_values": (3, 2, orbit_count(given, 2)),
        "fc.bias_values": (3, orbit_count(given, 1)),
    }


def test_a_member_is_given_back() -> None:
    from nnspec.compiler.constraints.code.equivariant import equivariant, orbit_values

    rule, place = Equivariant(), site((12, 18), "cyclic")
    member = rule.project(place, torch.randn(12, 18), {})
    assert torch.allclose(equivariant(*orbit_values(member, generators("cyclic"))), member, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "listed"),
    [((7, 6), ((1, 2, 0),)), ((6, 7), ((1, 2, 0),)), ((6, 6), ((1, 1, 0),)), ((6, 6, 3), ((1, 2, 0),))],
)
def test_what_does_not_fit(shape: tuple[int, ...], listed: Any) -> None:
    with pytest.raises(Misfit):
        Equivariant().part(
            WeightSite(name="weight", shape=shape, options={"group": Generated(text="", generators=listed)}),
            None,
        )
