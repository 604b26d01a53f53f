"""Weights that a group of permutations of positions leaves unchanged: one number an orbit."""

import torch
from torch import Tensor


def orbit_numbers(generators: tuple[tuple[int, ...], ...], axes: int) -> Tensor:
    """Which orbit each position (or pair of positions) lies in, numbered by the first member."""
    points = len(generators[0])
    numbers = torch.arange(points**axes).view((points,) * axes)
    while True:
        before = numbers
        for generator in generators:
            moved = numbers
            for axis in range(axes):
                moved = moved.index_select(axis, torch.tensor(generator))
            back = torch.empty_like(numbers)
            back[torch.meshgrid(*([torch.tensor(generator)] * axes), indexing="ij")] = numbers
            numbers = torch.minimum(numbers, torch.minimum(moved, back))
        if torch.equal(numbers, before):
            return numbers.unique(return_inverse=True)[1]


def orbit_values(weight: Tensor, generators: tuple[tuple[int, ...], ...]) -> tuple[Tensor, Tensor]:
    """The number of each orbit, taken at its first member, for every pair of channels; and the orbits."""
    points, axes = len(generators[0]), weight.dim()
    orbit = orbit_numbers(generators, axes).to(weight.device)
    by_position = weight.view([n for size in weight.shape for n in (size // points, points)])
    order = [*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)]
    flat = orbit.flatten()
    places = torch.arange(len(flat), device=weight.device)
    first = places.new_full((int(flat.max()) + 1,), len(flat)).scatter_reduce(0, flat, places, "amin")
    return by_position.permute(order).flatten(axes)[..., first].clone(), orbit


def equivariant(values: Tensor, orbit: Tensor) -> Tensor:
    """The weight with one number an orbit: positions vary fastest on each axis, channels slowest."""
    axes = orbit.dim()
    weight = values.index_select(-1, orbit.flatten()).unflatten(-1, orbit.shape)
    order = [place for axis in range(axes) for place in (axis, axes + axis)]
    return weight.permute(order).reshape([values.shape[k] * orbit.shape[k] for k in range(axes)])
