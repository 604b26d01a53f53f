"""Initializers scaled to the fans of a weight, so that the size of values keeps from layer to layer.

he: std = sqrt(2 / fan_in) (He et al. 2015, "Delving Deep into Rectifiers", eq. 10); xavier: std = sqrt(2 / (fan_in +
fan_out)) (Glorot and Bengio 2010, eq. 16); lecun: std = sqrt(1 / fan_in) (LeCun et al. 1998, "Efficient BackProp",
eq. 16). The uniform ones have the same variance.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.initializers.initializer import Initializer
from nnspec.dsl.catalog import Argument


class _Scaled(Initializer):
    """One call of `torch.nn.init` without arguments but the tensor."""

    least_axes = 2

    def __init__(self, name: str, torch: str, doc: str, more: str = "") -> None:
        self.name = name
        self.doc = doc
        self.example = f"initialize every dense.weight: {name}"
        self._torch = torch
        self._more = more

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        return f"nn.init.{self._torch}_({tensor}{self._more})"


class Orthogonal(Initializer):
    name = "orthogonal"
    doc = """A random orthogonal matrix times `gain`: rows are orthonormal, or columns if there are fewer of them (Saxe
    et al. 2013). Of more than two axes, those behind the first count as one."""
    arguments = (Argument(name="gain", kind="real", doc="the size of every singular value", default=1.0),)
    least_axes = 2
    example = "initialize recurrent.weight: orthogonal(gain = 0.9)"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        gain = "" if options["gain"] == 1.0 else f", gain={options['gain']!r}"
        return f"nn.init.orthogonal_({tensor}{gain})"


_LINEAR = ', nonlinearity="linear"'
INITIALIZERS = (
    _Scaled("he_normal", "kaiming_normal", "Normal with standard deviation sqrt(2 / fan_in); for relu."),
    _Scaled("he_uniform", "kaiming_uniform", "Uniform with variance 2 / fan_in; for relu."),
    _Scaled(
        "xavier_normal",
        "xavier_normal",
        "Normal with standard deviation sqrt(2 / (fan_in + fan_out)); for tanh.",
    ),
    _Scaled("xavier_uniform", "xavier_uniform", "Uniform with variance 2 / (fan_in + fan_out); for tanh."),
    _Scaled(
        "lecun_normal",
        "kaiming_normal",
        "Normal with standard deviation sqrt(1 / fan_in); for selu.",
        _LINEAR,
    ),
    _Scaled("lecun_uniform", "kaiming_uniform", "Uniform with variance 1 / fan_in; for selu.", _LINEAR),
    Orthogonal(),
)
