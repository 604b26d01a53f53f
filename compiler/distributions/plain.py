"""Distributions of independent numbers: `normal`, `uniform`, `bernoulli`, `gumbel`, `exponential`, `laplace`."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.distributions.distribution import Distribution
from nnspec.dsl.catalog import Argument

_EULER = 0.5772156649015329  # the mean of the Gumbel distribution, the Euler-Mascheroni constant


def _scaled(drawn: str, scale: float, offset: float) -> str:
    """Write offset + scale * drawn, leaving out what changes nothing."""
    text = drawn if scale == 1 else f"{scale!r} * {drawn}"
    return text if offset == 0 else f"{offset!r} + {text}"


class Normal(Distribution):
    name = "normal"
    doc = "The normal distribution."
    arguments = (
        Argument(name="mean", kind="real", doc="the mean", default=0.0),
        Argument(name="std", kind="real", doc="the standard deviation", default=1.0, above=0.0),
    )
    example = "z = mean + std * sample(normal, like = mean)"

    def draw(self, options: dict[str, Any], like: str) -> str:
        return _scaled(f"torch.randn_like({like})", options["std"], options["mean"])

    def mean(self, options: dict[str, Any]) -> float:
        return float(options["mean"])


class Uniform(Distribution):
    name = "uniform"
    doc = "Uniform between `low` and `high`."
    arguments = (
        Argument(name="low", kind="real", doc="the least value", default=0.0),
        Argument(name="high", kind="real", doc="the largest value", default=1.0),
    )
    example = "y = x + sample(uniform(-0.1, 0.1), like = x)"

    def draw(self, options: dict[str, Any], like: str) -> str:
        return _scaled(f"torch.rand_like({like})", options["high"] - options["low"], options["low"])

    def mean(self, options: dict[str, Any]) -> float:
        return (options["low"] + options["high"]) / 2

    def problem(self, options: dict[str, Any]) -> str | None:
        return None if options["low"] < options["high"] else "`low` must be below `high`"


class Bernoulli(Distribution):
    name = "bernoulli"
    doc = "1 with probability `p`, else 0."
    arguments = (Argument(name="p", kind="real", doc="the probability of 1", at_least=0.0, at_most=1.0),)
    example = "y = x * sample(bernoulli(0.9), like = x)"

    def draw(self, options: dict[str, Any], like: str) -> str:
        return f"torch.bernoulli(torch.full_like({like}, {options['p']!r}))"

    def mean(self, options: dict[str, Any]) -> float:
        return float(options["p"])


class Exponential(Distribution):
    name = "exponential"
    doc = "The exponential distribution of mean 1 / `rate`."
    arguments = (Argument(name="rate", kind="real", doc="one over the mean", default=1.0, above=0.0),)
    example = "waits = sample(exponential(2.0), like = x)"

    def draw(self, options: dict[str, Any], like: str) -> str:
        rate = "" if options["rate"] == 1 else f"{options['rate']!r}"
        return f"torch.empty_like({like}).exponential_({rate})"

    def mean(self, options: dict[str, Any]) -> float:
        return 1 / options["rate"]


class Gumbel(Distribution):
    name = "gumbel"
    doc = """The Gumbel distribution, -log(E) with E exponential: the largest of scores plus such draws is a draw of
    their softmax (Gumbel 1954; Maddison et al. 2014)."""
    example = "choice = softmax((scores + sample(gumbel, like = scores)) / 0.5)"

    def draw(self, options: dict[str, Any], like: str) -> str:
        return f"-torch.empty_like({like}).exponential_().log()"

    def mean(self, options: dict[str, Any]) -> float:
        return _EULER


class Laplace(Distribution):
    name = "laplace"
    doc = "The Laplace distribution around 0: the difference of two exponential draws, times `scale`."
    arguments = (Argument(name="scale", kind="real", doc="the mean distance from 0", default=1.0, above=0.0),)
    example = "y = x + sample(laplace(0.1), like = x)"

    def draw(self, options: dict[str, Any], like: str) -> str:
        one = f"torch.empty_like({like}).exponential_()"
        return _scaled(f"({one} - {one})", options["scale"], 0)

    def mean(self, options: dict[str, Any]) -> float:
        return 0.0


DISTRIBUTIONS = (Normal(), Uniform(), Bernoulli(), Exponential(), Gumbel(), Laplace())
