"""The exact orbit of given weights, as far as a picture shows it: curves of scales and shifts, and images.

In: a group, a chart and a point. Out: for each one-parameter subgroup a curve of weights through the point, and the
images of the point under random permutations and signs. Every one of them computes the same function.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.tangents import flows
from nnspec.compiler.symmetry.elements import random_element
from nnspec.compiler.symmetry.moves import Multiply, Permute
from nnspec.compiler.symmetry.record import SymmetryGroup

if TYPE_CHECKING:
    from torch import Tensor

_CURVES = 12
_REACH = 2.5  # scales from e^-2.5 to e^2.5


def curves(group: SymmetryGroup, chart: Chart, point: Tensor, count: int = 61) -> list[Tensor]:
    """Return curves [count, p] through a point, one for each of the first one-parameter subgroups."""
    import torch

    state = chart.state(point)
    times: list[float] = torch.linspace(-_REACH, _REACH, count, dtype=torch.float64).tolist()
    return [
        torch.stack([chart.vector(move(state, t)) for t in times]) for move in islice(flows(group), _CURVES)
    ]


def images(group: SymmetryGroup, chart: Chart, point: Tensor, count: int, seed: int) -> Tensor:
    """Return images [n, p] of a point under random permutations and signs, itself first, each once."""
    import torch

    state = chart.state(point)
    found = [point]
    for number in range(count):
        image = state
        for move in random_element(group, seed + number).moves:
            if isinstance(move, Permute) or (isinstance(move, Multiply) and move.sign):
                image = move.apply(group.derivation, image)
        found.append(chart.vector(image))
    return torch.unique(torch.stack(found), dim=0)
