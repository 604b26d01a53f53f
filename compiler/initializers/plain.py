"""Initializers that know nothing of fans: constants, and draws of a given width."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.initializers.initializer import Initializer
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size

_DTYPES = {"int": "torch.long", "bool": "torch.bool"}


def _sizes(shape: tuple[Size, ...]) -> str:
    return ", ".join(str(size) for size in shape) or "()"


def _tuple(shape: tuple[Size, ...]) -> str:
    return f"({_sizes(shape)},)" if len(shape) == 1 else f"({_sizes(shape)})" if shape else "()"


def _typed(dtype: str) -> str:
    return f", dtype={_DTYPES[dtype]}" if dtype in _DTYPES else ""


class Zeros(Initializer):
    name = "zeros"
    doc = "Zero everywhere; in a tensor of truth values, false."
    example = "buffer seen: real[width] = zeros"

    def made(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str:
        return f"torch.zeros({_sizes(shape)}{_typed(dtype)})"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        return f"nn.init.zeros_({tensor})"

    def problem(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str | None:
        return None


class Ones(Zeros):
    name = "ones"
    doc = "One everywhere; in a tensor of truth values, true."
    example = "parameter gain: real[width] = ones"

    def made(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str:
        return f"torch.ones({_sizes(shape)}{_typed(dtype)})"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        return f"nn.init.ones_({tensor})"


class Constant(Initializer):
    name = "constant"
    doc = "The same number everywhere."
    arguments = (Argument(name="value", kind="real", doc="the number"),)
    example = "initialize every dense.bias: constant(0.1)"

    def made(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str:
        value = options["value"] if dtype == "int" else float(options["value"])
        return f"torch.full({_tuple(shape)}, {value!r}{_typed(dtype)})"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        return f"nn.init.constant_({tensor}, {options['value']!r})"

    def problem(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str | None:
        if dtype == "int" and not isinstance(options["value"], int):
            return "a tensor of whole numbers begins at a whole number"
        return "a tensor of truth values begins as `zeros` or `ones`" if dtype == "bool" else None


def _width(name: str, doc: str, default: float) -> Argument:
    return Argument(name=name, kind="real", doc=doc, default=default, above=0.0)


def _shown(options: dict[str, Any], defaults: dict[str, float]) -> str:
    return "".join(f", {name}={options[key]!r}" for key, name in _NAMES if _differs(options, defaults, key))


_NAMES = (("mean", "mean"), ("std", "std"), ("low", "a"), ("high", "b"))


def _differs(options: dict[str, Any], defaults: dict[str, float], key: str) -> bool:
    return key in options and options[key] != defaults.get(key)


class Normal(Initializer):
    name = "normal"
    doc = "Independent draws of the normal distribution."
    arguments = (
        Argument(name="mean", kind="real", doc="the mean", default=0.0),
        _width("std", "the standard deviation", 1.0),
    )
    example = "parameter mix: real[rank, width] = normal(std = 0.02)"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        return f"nn.init.normal_({tensor}{_shown(options, {'mean': 0.0, 'std': 1.0})})"


class Uniform(Initializer):
    name = "uniform"
    doc = "Independent draws, uniform between `low` and `high`."
    arguments = (
        Argument(name="low", kind="real", doc="the least value", default=0.0),
        Argument(name="high", kind="real", doc="the largest value", default=1.0),
    )
    example = "initialize every dense.bias: uniform(-0.1, 0.1)"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        return f"nn.init.uniform_({tensor}{_shown(options, {'low': 0.0, 'high': 1.0})})"

    def problem(self, options: dict[str, Any], shape: tuple[Size, ...], dtype: str) -> str | None:
        if options["low"] >= options["high"]:
            return f"`low` must be below `high`, and {options['low']} is not below {options['high']}"
        return super().problem(options, shape, dtype)


class TruncatedNormal(Initializer):
    name = "trunc_normal"
    doc = """Draws of the normal distribution with mean 0, drawn again where they are farther from it than two standard
    deviations."""
    arguments = (_width("std", "the standard deviation before cutting", 1.0),)
    example = "initialize **.weight: trunc_normal(std = 0.02)"

    def fill(self, options: dict[str, Any], tensor: str) -> str:
        # torch cuts at -2 and 2, whatever the standard deviation.
        std = float(options["std"])
        cut = "" if std == 1.0 else f", std={std!r}, a={-2 * std!r}, b={2 * std!r}"
        return f"nn.init.trunc_normal_({tensor}{cut})"


INITIALIZERS = (Zeros(), Ones(), Constant(), Normal(), Uniform(), TruncatedNormal())
