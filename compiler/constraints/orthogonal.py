"""`orthogonal`: the columns of the weight are orthonormal, or its rows if it is wider than tall.

The weight is taken as a matrix of outputs by everything else. It is a fixed orthogonal base B, turned by a
skew matrix A: B times the Cayley transform (I - A/2)^-1 (I + A/2) or the exponential of A. A square matrix of
stored numbers V gives A = V - V'; of a tall one B turns towards V, A = V B' - B V', from the left (Wen and
Yin 2013, "A feasible method for optimization with orthogonality constraints", lemma 4: only a system of twice the
short side is solved). V starts at zero and B as the orthogonal matrix nearest to the initial weight, so that any
orthogonal matrix can be the start (Lezcano-Casado 2019, "Trivializations for gradient-based optimization on
manifolds", with a base that stays). The determinant of a square weight stays what it is at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.ir import Code, Tensor, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Orthogonal(Constraint):
    """Matrices with orthonormal columns or rows (the Stiefel manifold)."""

    name = "orthogonal"
    doc = "The columns of the weight are orthonormal, or its rows if it is wider than tall."
    kind = "manifold"
    arguments = (
        Argument(
            name="map",
            kind="choice",
            doc="how a skew matrix becomes an orthogonal one; the Cayley transform costs less",
            default="cayley",
            choices=("cayley", "exponential"),
        ),
    )
    refuses: ClassVar[Mapping[str, str]] = {
        "normalized": "the shorter side of an orthogonal matrix has rows or columns of norm 1 as it is",
        "spectral": "all singular values of an orthogonal matrix are 1",
        "structure": "turning an orthogonal matrix leaves no pattern between its entries in place",
        "values": "rounding the entries would leave rows and columns that are not at right angles",
        "topology": "setting entries to zero would leave rows and columns that are not at right angles",
    }
    keeps = ("permutations", "signs", "rotations")
    example = 'constrain hidden.weight: orthogonal(map = "exponential")'

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from the stored turn and base to the effective weight."""
        rows, columns = site.matrix
        name = site["map"] if rows == columns else f"{site['map']}_thin"
        return WeightMap(
            name=self.name,
            code=Code(file="orthogonal", name=name),
            stored=(
                Tensor(name=site.name, shape=site.shape),
                Tensor(name=site.stored("base"), shape=site.shape, kind="buffer"),
            ),
            replaces=True,
            start=Code(file="orthogonal", name="orthogonal_start"),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member: the polar factor (Higham 1986). Of a normal matrix it is uniform."""
        from nnspec.compiler.constraints.code.orthogonal import polar

        return polar(weight)

    def free(self, site: WeightSite) -> int:
        """Return the dimension of the Stiefel manifold: n k - k (k + 1) / 2 for k vectors of n numbers."""
        short, long = sorted(site.matrix)
        return long * short - short * (short + 1) // 2
