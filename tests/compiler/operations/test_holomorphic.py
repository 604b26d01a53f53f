"""What is called holomorphic obeys the equations of Cauchy and Riemann, as torch computes it for complex numbers."""

from __future__ import annotations

import pytest
import torch

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operations

NAMES = sorted(name for name, rule in operations().items() if rule.is_holomorphic)


@pytest.mark.parametrize("name", NAMES)
def test_its_slope_is_the_same_in_every_direction(name: str) -> None:
    rule = operations()[name]
    given = {"single": False, "value": 0.7, "constant": 2, "reversed": False}  # of `full`, and of operators
    site = Site(arguments=given, inputs=(Type(axes=(), dtype="complex"),), outputs=())
    text = rule.call(site, ("z",), {})
    z = torch.complex(torch.linspace(0.2, 1.4, 7), torch.linspace(-0.9, 0.8, 7)).to(torch.complex128)

    def f(value: torch.Tensor) -> torch.Tensor:
        return eval(text, {"torch": torch, "z": value})

    h = 1e-6
    along, across = ((f(z + h * way) - f(z - h * way)) / (2 * h * way) for way in (1.0, 1j))
    torch.testing.assert_close(along, across, rtol=1e-7, atol=1e-8)


def test_smooth_functions_are_among_them_and_kinks_are_not() -> None:
    assert {"tanh", "sigmoid", "sin", "exp"} <= set(NAMES)
    assert not {"relu", "hard_sigmoid", "abs", "clamp"} & set(NAMES)
