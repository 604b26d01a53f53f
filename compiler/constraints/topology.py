"""What the constraints have in common that say which entries of a weight there are.

The stored weight keeps its shape and a mask stands beside it, a buffer of truth values made once, at
construction. The effective weight is their product, so that no gradient reaches an entry that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, Primitive, Tensor, WeightMap
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.topologies import UnitWithoutInput
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


MOST_ENTRIES = 2**24  # of a mask that is looked at while a spec is checked


class Topology(Constraint):
    """Base of the constraints that keep some entries of a weight and hold the others at zero."""

    kind = "topology"
    keeps = ("signs", "scales", "multiples")

    def begin(self, site: WeightSite) -> Code:
        """Return the call that makes the mask from the weight as initialised, or raise Misfit."""
        raise TypeError(f"{self.name} has no mask")

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the product with the mask."""
        return WeightMap(
            name=self.name,
            code=Code(file="masks", name="masked"),
            stored=(Tensor(name=site.stored("mask"), shape=site.shape, kind="buffer", dtype="bool"),),
            start=self.begin(site),
            keeps=self.keeps,
            span=span,
        )

    def doubts(self, site: WeightSite, primitive: Primitive, path: str) -> tuple[Error, ...]:
        """Warn of units that are left without an input."""
        units, width = self.without_input(site), len(site.shape)
        laid = next(c for c in primitive.constraints if c.rule is self and c.weight == site.name)
        if not units or width < 2 or laid.own:  # a unit of a state may have its input from another connection
            return ()
        shown, their = (f"unit {units[0]}", "its") if len(units) == 1 else (f"{len(units)} units", "their")
        return (UnitWithoutInput(laid.span, name=self.name, units=shown, path=path, their=their),)

    def without_input(self, site: WeightSite) -> tuple[int, ...]:
        """Return the units that are known to keep no input."""
        return ()

    def entries(self, site: WeightSite) -> tuple[bytes, ...] | None:
        """Return which entries exist, where that is known before any weight is drawn; None where it is not.

        One text of bytes 0 and 1 for each unit, an entry each in row-major order; of an axis that is not told
        apart, one for all of its entries, and such axes come last.
        """
        return None

    def mask(self, site: WeightSite, kept: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the mask that is stored; a new one where nothing is."""
        import torch

        if "mask" in kept:
            return kept["mask"]
        return called(self.begin(site), torch.randn(*site.sizes))

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest weight that has these entries alone."""
        return weight * self.mask(site, kept)


def called(code: Code, *tensors: torch.Tensor) -> torch.Tensor:
    """Return what a function of the library gives."""
    from importlib import import_module

    module = import_module(f"nnspec.compiler.constraints.code.{code.file}")
    return getattr(module, code.name)(*tensors, **dict(code.options))
