"""Functions of one number, applied entry by entry: one table, one class.

A row says how torch computes the function and what symmetries of its input it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import elements, real
from nnspec.compiler.operations.operation import Around, Cost, Operation, Site
from nnspec.compiler.relations import Elementwise as ElementwiseRelation
from nnspec.compiler.relations import Relation, Sum, aligned_terms
from nnspec.dsl.catalog import Argument

Number = Callable[[Any], Any] | Callable[[Any, Any], Any]  # of a number, and of an argument if it has one


class Elementwise(Operation):
    """y = f(x). `parity` is "odd", "even" or "none".

    `degree` k says f(a x) = a^k f(x) for a > 0, "linear" that f is the identity, None that there is no k.
    `complete` says that it has no other affine symmetry in one parameter (exp and log have) and no flat
    piece. `centre` and `curve` are those of the relation. `complex` is the kind of number that it gives for a complex one, None
    that it takes none. `slope` is its derivative, as torch has it, of {x}, and `slope_of_value` of {y}; `identity` an
    interval on which y = x and torch has slope 1; `corners` are where the slope jumps. `work` is a rough count of operations
    for one number, 1 for one instruction of a processor.
    """

    takes = 1
    parity: str
    degree: float | str | None
    work: int
    complete: bool
    centre: float | None
    curve: str
    complex: str | None
    torch: str
    at: Number
    slope: str | None
    slope_of_value: str | None
    identity: tuple[float, float] | None
    corners: tuple[float, ...]
    growth: float | None
    logarithm: float | None

    def __init__(
        self,
        name: str,
        torch: str,
        at: Number,
        doc: str,
        *,
        parity: str = "none",
        degree: float | str | None = None,
        work: int = 1,
        complete: bool = False,
        arguments: tuple[Argument, ...] = (),
        complex: str | None = None,
        centre: float | None = None,
        curve: str = "",
        slope: str | None = None,
        slope_of_value: str | None = None,
        identity: tuple[float, float] | None = None,
        corners: tuple[float, ...] = (),
        growth: float | None = None,
        logarithm: float | None = None,
    ) -> None:
        self.name = name
        self.torch = torch
        self.at = at
        self.doc = doc
        self.parity = parity
        self.degree = degree
        self.work = work
        self.complex = complex
        self.is_holomorphic = complex == "complex"
        self.complete = complete
        self.centre = centre
        self.curve = curve
        self.growth = growth
        self.logarithm = logarithm
        self.slope = slope
        self.slope_of_value = slope_of_value
        self.identity = identity
        self.corners = corners
        self.arguments = arguments
        self.example = f"y = x -> {name}"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        if given.dtype == "complex" and self.complex is not None:
            return (given.replace(dtype=self.complex),)
        if self.degree != "linear":
            real(site)
        return site.inputs

    def cost(self, site: Site) -> Cost:
        return Cost(flops=self.work * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return self.torch.format(x=inputs[0], **site.arguments)

    def pullback(self, site: Site, around: Around, weights: dict[str, str]) -> str | None:
        if around.result is not None and self.slope_of_value is not None:
            slope = self.slope_of_value.format(y=around.result)
        elif around.given is not None and self.slope is not None:
            slope = self.slope.format(x=around.given)
        else:
            return None
        return slope if around.cotangent == "1.0" else f"{around.cotangent} * {slope}"

    def identity_on(self, arguments: dict[str, Any]) -> tuple[float, float] | None:
        return self.identity

    def kinks(self, arguments: dict[str, Any]) -> tuple[float, ...]:
        return self.corners

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        at: Any = self.at
        return at(values[0], **arguments)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site.inputs[0].shape
        given, out = aligned_terms(("in0", "out0"), (shape, shape))
        if self.degree == "linear":
            return (Sum(terms=(given,), output=out, coefficients=(1.0,)),)
        degree = None if self.degree is None else float(self.degree)
        return (
            ElementwiseRelation(
                terms=(given,),
                output=out,
                parity=self.parity,
                degree=degree,
                complete=self.complete,
                centre=self.centre,
                curve=self.curve,
                growth=self.growth,
                logarithm=self.logarithm,
            ),
        )


class Gelu(Elementwise):
    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        how = ', approximate="tanh"' if site["approximate"] == "tanh" else ""
        return f"F.gelu({inputs[0]}{how})"


class Elu(Elementwise):
    def kinks(self, arguments: dict[str, Any]) -> tuple[float, ...]:
        return () if arguments["alpha"] == 1 else (0.0,)


def _gelu(x: float, approximate: str) -> float:
    if approximate == "tanh":
        return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without an overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _leaky(x: Any, slope: Any) -> Any:
    return x if x > 0 else slope * x


def _exponential(x: Any, alpha: Any) -> Any:
    return x if x > 0 else alpha * math.expm1(x)


_SLOPE = Argument(name="slope", kind="real", doc="the slope below zero", default=0.01)
_ALPHA = Argument(name="alpha", kind="real", doc="minus the limit at -infinity", default=1.0)

OPERATIONS = (
    Elementwise(
        "identity",
        "{x}",
        lambda x: x,
        "The input itself: y = x.",
        parity="odd",
        degree="linear",
        work=0,
        identity=(-math.inf, math.inf),
    ),
    Elementwise(
        "relu",
        "F.relu({x})",
        lambda x: max(x, 0),
        "The positive part: y = max(x, 0).",
        degree=1,
        curve="rectifier",
        slope="({x} > 0).to({x}.dtype)",
        corners=(0.0,),
    ),
    Elementwise(
        "leaky_relu",
        "F.leaky_relu({x}, {slope})",
        _leaky,
        "y = x where x > 0, and slope * x elsewhere.",
        degree=1,
        work=2,
        arguments=(_SLOPE,),
        corners=(0.0,),
    ),
    Elementwise(
        "tanh",
        "torch.tanh({x})",
        math.tanh,
        "y = tanh(x).",
        parity="odd",
        work=4,
        complete=True,
        curve="hyperbolic",
        complex="complex",
        slope="(1 - torch.tanh({x}) ** 2)",
        slope_of_value="(1 - {y} ** 2)",
    ),
    Elementwise(
        "sigmoid",
        "torch.sigmoid({x})",
        _sigmoid,
        "The logistic function: y = 1 / (1 + exp(-x)).",
        work=4,
        complete=True,
        centre=0.5,
        curve="hyperbolic",
        slope="(torch.sigmoid({x}) * torch.sigmoid(-{x}))",
        complex="complex",
        slope_of_value="({y} * (1 - {y}))",
    ),
    Elementwise(
        "hard_sigmoid",
        "torch.clamp({x}, 0, 1)",
        lambda x: min(max(x, 0), 1),
        """y = min(max(x, 0), 1), the rate of equilibrium propagation's papers.

        (The function that some libraries give this name is clamp(x / 6 + 1 / 2, 0, 1).)""",
        work=2,
        slope="(({x} >= 0) & ({x} <= 1)).to({x}.dtype)",
        identity=(0.0, 1.0),
        corners=(0.0, 1.0),
    ),
    Gelu(
        "gelu",
        "F.gelu({x})",
        _gelu,
        """y = x * Phi(x), Phi the standard normal distribution. With approximate = "tanh", as in GPT-2,
        Phi(x) is (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2.""",
        work=6,
        complete=True,
        arguments=(
            Argument(
                name="approximate",
                kind="choice",
                doc="how Phi is computed",
                default="none",
                choices=("none", "tanh"),
            ),
        ),
    ),
    Elementwise(
        "silu",
        "F.silu({x})",
        lambda x: x * _sigmoid(x),
        "y = x * sigmoid(x), also called swish.",
        work=5,
        complete=True,
    ),
    Elementwise(
        "softplus",
        "F.softplus({x})",
        lambda x: max(x, 0) + math.log1p(math.exp(-abs(x))),
        "y = log(1 + exp(x)).",
        work=4,
        complete=True,
        slope="torch.sigmoid({x})",
    ),
    Elu(
        "elu",
        "F.elu({x}, {alpha})",
        _exponential,
        "y = x where x > 0, and alpha * (exp(x) - 1) elsewhere.",
        work=4,
        arguments=(_ALPHA,),
    ),
    Elementwise(
        "sin",
        "torch.sin({x})",
        math.sin,
        "y = sin(x).",
        parity="odd",
        work=4,
        complete=True,
        complex="complex",
        slope="torch.cos({x})",
    ),
    Elementwise(
        "cos",
        "torch.cos({x})",
        math.cos,
        "y = cos(x).",
        parity="even",
        work=4,
        complete=True,
        complex="complex",
        slope="(-torch.sin({x}))",
    ),
    Elementwise(
        "exp",
        "torch.exp({x})",
        math.exp,
        "y = exp(x).",
        work=4,
        complex="complex",
        slope="torch.exp({x})",
        growth=1.0,
    ),
    Elementwise(
        "log",
        "torch.log({x})",
        math.log,
        "The natural logarithm: y = log(x).",
        work=4,
        complex="complex",
        logarithm=1.0,
    ),
    Elementwise(
        "abs",
        "torch.abs({x})",
        abs,
        "The absolute value: y = |x|.",
        parity="even",
        degree=1,
        complex="real",
        corners=(0.0,),
    ),
    Elementwise(
        "sign",
        "torch.sign({x})",
        lambda x: (x > 0) - (x < 0),
        "y = 1, 0 or -1, the sign of x.",
        parity="odd",
        degree=0,
    ),
    Elementwise(
        "erf",
        "torch.erf({x})",
        math.erf,
        "The error function: y = erf(x).",
        parity="odd",
        work=4,
        complete=True,
    ),
    Elementwise(
        "square",
        "torch.square({x})",
        lambda x: x * x,
        "y = x^2.",
        parity="even",
        degree=2,
        complex="complex",
        slope="(2 * {x})",
    ),
    Elementwise(
        "sqrt",
        "torch.sqrt({x})",
        math.sqrt,
        "The square root: y = sqrt(x), for x >= 0.",
        degree=0.5,
        complex="complex",
    ),
    Elementwise(
        "round", "torch.round({x})", round, "The nearest whole number, of two the even one.", parity="odd"
    ),
    Elementwise("floor", "torch.floor({x})", math.floor, "The largest whole number that is not above x."),
    Elementwise("ceil", "torch.ceil({x})", math.ceil, "The smallest whole number that is not below x."),
)
