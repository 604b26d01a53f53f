"""`binary`: every weight is -1 or +1.

The effective weight is `where(w >= 0, 1, -1)`; `sign` would map an exact zero, which random
initialisation does produce, to zero. The gradient passes straight through to the stored weight where
|w| <= clip (Hubara et al. 2016, "Binarized Neural Networks", eq. 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Apply, Block, Port, Primitive, WeightMap
from nnspec.compiler.operations.registry import operation
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Binary(Constraint):
    """Weights in {-1, +1} with a straight-through gradient."""

    name = "binary"
    doc = "Weights are -1 or +1, `where(w >= 0, 1, -1)`; the gradient passes where |w| <= clip."
    kind = "values"
    arguments = (
        Argument(
            name="clip",
            kind="real",
            doc="half-width of the window in which the gradient passes; none: everywhere",
            default=1.0,
            above=0,
            nullable=True,
        ),
    )
    keeps = ("permutations", "signs")

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from stored to effective weight."""
        clip = site["clip"]
        return WeightMap(
            name=self.name,
            block=_sign_block(),
            straight_through=True,
            clip=None if clip is None else float(clip),
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member."""
        import torch

        return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)

    def free(self, site: WeightSite) -> int:
        """Return 0: the set is finite."""
        return 0


def _sign_block() -> Block:
    compare = _primitive("greater_equal", constant=0)
    choose = _primitive("where", then=1, otherwise=-1)
    return Block(
        name="binary",
        inputs=(Port(name="w", value="w"),),
        outputs=(Port(name="output", value="signs"),),
        children=(),
        body=(
            Apply(name="greater_equal", operation=compare, inputs=("w",), outputs=("positive",)),
            Apply(name="where", operation=choose, inputs=("positive",), outputs=("signs",)),
        ),
    )


def _primitive(name: str, **given: Any) -> Primitive:
    """An operation with these arguments and its defaults for the rest."""
    arguments = {a.name: given.get(a.name, a.default) for a in operation(name).arguments}
    return Primitive(operation=name, arguments=tuple(sorted(arguments.items())))
