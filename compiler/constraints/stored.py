"""Constraints that work on the stored weight, beside the step of the optimizer: projections and penalties.

A topology may stand on the same weight: they then work on the entries that it keeps. A map that stores
something else, or another weight than the one in use, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, Penalty, Projection
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from torch import Tensor

STRENGTH = Argument(name="strength", kind="real", doc="what the penalty is multiplied by", at_least=0)

# Why a change of the stored weight after a step would not do: the weight in use is another one.
_KINDS: tuple[str, ...] = ("structure", "manifold", "values")
_CHANGED = "{what} changes what is stored after each step, and the weight in use is another one, made of it"
PROJECTED: dict[str, str] = dict.fromkeys(_KINDS, _CHANGED.format(what="a projection"))
SHRUNK: dict[str, str] = dict.fromkeys(
    ("structure", "manifold", "values"), _CHANGED.format(what="the proximal map of a penalty")
)


class ProjectedConstraint(Constraint):
    """A set to which the stored weight returns after each step. Subclasses state `code`."""

    kind = "projection"
    refuses: ClassVar[Mapping[str, str]] = PROJECTED
    takes_kept: ClassVar[bool] = False  # the function has to know which entries a topology keeps

    def code(self, site: WeightSite) -> Code:
        """Return the function that gives the nearest member, or raise Misfit."""
        raise TypeError(f"{self.name} has no code")

    def part(self, site: WeightSite, span: Span | None) -> Projection:
        """Return the projection after the step."""
        return Projection(
            name=self.name, code=self.code(site), takes_kept=self.takes_kept, keeps=self.keeps, span=span
        )

    def project(self, site: WeightSite, weight: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """Return the nearest member."""
        return function(self.code(site))(weight)


class PenalisedConstraint(Constraint):
    """A cost with a proximal map, which runs after each step. Every weight is allowed."""

    kind = "penalty"
    refuses: ClassVar[Mapping[str, str]] = SHRUNK
    keeps = ("permutations", "signs", "scales", "matrices", "multiples")

    def value(self, site: WeightSite) -> Code:
        """Return the function that gives the cost of a weight, or raise Misfit."""
        raise TypeError(f"{self.name} has no value")

    def proximal(self, site: WeightSite) -> Code | None:
        """Return the function of (weight, step) that runs after the step."""
        raise TypeError(f"{self.name} has no proximal map")

    def part(self, site: WeightSite, span: Span | None) -> Penalty:
        """Return the cost and its proximal map."""
        return Penalty(name=self.name, value=self.value(site), proximal=self.proximal(site), span=span)

    def project(self, site: WeightSite, weight: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """Return the weight: a penalty allows all."""
        return weight


class SmoothConstraint(PenalisedConstraint):
    """A cost without a kink: it is added to the loss that is differentiated, as one of the weight in use."""

    refuses: ClassVar[Mapping[str, str]] = {
        "values": "the gradient of a penalty moves entries little by little, and those of a weight of few values jump"
    }

    def proximal(self, site: WeightSite) -> None:
        """Return None: the gradient does it."""


def function(code: Code) -> Callable[..., Any]:
    """Return the torch function of a code, its options given."""
    from functools import partial

    module = import_module(f"nnspec.compiler.constraints.code.{code.file}")
    return partial(getattr(module, code.name), **dict(code.options))


def axis(doc: str) -> Argument:
    """Return the argument that says what parts of a weight a set is about."""
    choices = ("rows", "columns", "all")
    return Argument(
        name="axis", kind="choice", doc=f"{doc}: rows, columns or the weight", default="rows", choices=choices
    )
