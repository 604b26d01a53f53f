"""What is said of the stability of a loop, on motions built by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nnspec.compiler.checks.motion import Motion
from nnspec.compiler.checks.stability import Settings, largest_stride, numbers, stability
from nnspec.compiler.checks.stability_views import summary


def found(function: Callable[[Tensor], Tensor], units: int, **given: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"form": "map", "stride": 1.0, "clip": None, "energy": None, **given}
    settings = Settings(samples=2, starts=8, steps=facts.pop("steps", 300))
    start = facts.pop("begin", 0.1)

    def motions(samples: Tensor) -> Motion:
        return Motion(function=function, start=torch.full((len(samples), units), start).double(), **facts)

    data = numbers(stability(motions, settings)) | {"loop": "rec", "weights": "by hand"}
    assert summary(data)
    return data


def test_a_contraction_settles_and_is_proved_to() -> None:
    matrix = torch.tensor([[0.3, 0.1], [-0.2, 0.4]]).double()
    data = found(lambda s: s @ matrix.mT + 1, 2)
    assert (data["settled"], data["samples"], data["units"]) == (2, 2, 2)
    assert data["radius"] == pytest.approx(float(np.abs(np.linalg.eigvals(matrix.numpy())).max()))
    assert data["contraction"] == pytest.approx(np.linalg.norm(matrix.numpy(), 2))
    assert data["lyapunov"] == pytest.approx(math.log(data["radius"]), abs=0.02)
    assert data["gershgorin"] == {
        "rows": {"failing": 0, "proves": True},
        "columns": {"failing": 0, "proves": True},
    }
    assert all(own["count"] == 1 and own["visits"] == [8] for own in data["equilibria"])
    assert data["steps_to_settle"] is not None and data["stable"]
    assert len(data["residuals"]) == 301 and data["residuals"][data["steps_to_settle"]] < 1e-6


def test_states_that_go_round_do_not_settle() -> None:
    """s = tanh(3 R s), R a quarter turn: the origin repels, and every path runs into a cycle of four."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double()
    data = found(lambda s: torch.tanh(3 * s @ turn.mT), 2)
    assert data["settled"] == 0 and not data["stable"]
    assert all((own["count"], own["unsettled"]) == (0, 8) for own in data["equilibria"])
    assert "0 of 2 inputs settle" in summary(data)


def test_damping_that_would_help_is_named() -> None:
    """s = -2 s + 3 overshoots: m = -3, and plain steps of length d come closer for d < 2/3."""
    data = found(lambda s: -2 * s + 3, 1)
    assert data["largest_stride"] == pytest.approx(2 / 3)
    assert data["settled"] == 0 and "`damping` below 0.667" in summary(data)
    better = found(lambda s: -2 * s + 3, 1, stride=0.6)
    assert better["settled"] == 2 and better["step_radius"] == pytest.approx(0.8)
    flow = found(lambda s: -3 * s, 1, form="flow", stride=0.7, begin=1.0)
    assert flow["radius"] == pytest.approx(-3) and "`dt` below 0.667" in summary(flow)


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_step_is_where_the_radius_passes_one(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    matrix: Any = torch.randn(5, 5, generator=random).double() * 0.8
    matrix -= 4 * torch.eye(5)
    linear: Any = torch.linalg
    numpy_linear: Any = np.linalg
    values = linear.eigvals(matrix)
    most = largest_stride(values, "flow")
    assert most is not None
    for factor, below in ((0.999, True), (1.001, False)):
        radius = float(np.abs(numpy_linear.eigvals(np.eye(5) + factor * most * matrix.numpy())).max())
        assert (radius < 1) == below


def test_no_step_helps_where_an_eigenvalue_is_beyond_one() -> None:
    assert largest_stride(torch.tensor([0.5, 1.5]).to(torch.complex128), "map") is None
    data = found(lambda s: 1.5 * s, 1)
    assert data["settled"] == 0 and data["equilibria"][0]["gone"] == 8
    assert "repels whatever the length" in summary(data)


def test_the_energy_of_a_gradient_flow_falls() -> None:
    coupling = torch.tensor([[0.0, 0.8], [0.8, 0.0]]).double()

    def energy(s: Tensor) -> Tensor:
        return (s**2).sum(1) / 2 - ((torch.tanh(s) @ coupling) * torch.tanh(s)).sum(1) / 2

    def flow(s: Tensor) -> Tensor:
        return -s + (1 - torch.tanh(s) ** 2) * (torch.tanh(s) @ coupling)

    data = found(flow, 2, form="flow", stride=0.1, energy=energy)
    assert data["energy"]["end"] <= data["energy"]["start"]
    assert data["energy"]["largest_increase"] == 0
    assert data["jacobian_asymmetry"] < 1e-12 and "slope of an energy" in summary(data)
    wrong = found(lambda s: -flow(s), 2, form="flow", stride=0.1, energy=energy, steps=20)
    assert wrong["energy"]["largest_increase"] > 0


def test_units_at_a_bound_have_no_part_in_the_spectrum() -> None:
    """The second unit is pushed out of [0, 1] and held there; the first feels its slope alone."""
    data = found(
        lambda s: torch.stack([-2 * s[:, 0] + s[:, 1], s[:, 1] + 1], 1),
        2,
        form="flow",
        clip=(0.0, 1.0),
        stride=0.1,
    )
    assert data["settled"] == 2 and data["units"] == 2
    assert data["eigenvalues"] == [[pytest.approx(-2), 0]] and data["radius"] == pytest.approx(-2)


def test_where_every_unit_is_held_there_is_no_spectrum() -> None:
    data = found(torch.ones_like, 2, form="flow", clip=(0.0, 1.0), stride=0.1)
    assert data["settled"] == 2 and data["held"] == [2, 2]
    assert (data["radius"], data["eigenvalues"], data["lyapunov"], data["jacobian_asymmetry"]) == (
        None,
        [],
        None,
        None,
    )
    assert "every unit is held" in summary(data)
