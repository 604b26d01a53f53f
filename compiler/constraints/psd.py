"""`psd`: a symmetric weight without negative eigenvalues, W = L L', perhaps of bounded rank.

L starts from the eigenvectors of the symmetric part of the initial weight and the sizes of its eigenvalues: with the
positive ones alone half of its columns would be zero, where their gradient vanishes. The nearest member to a
weight is its symmetric part with the negative eigenvalues set to zero (Higham 1988, "Computing a nearest
symmetric positive semidefinite matrix", theorem 2.1) and, with a rank, all but the largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, Misfit, WeightSite
from nnspec.compiler.ir import Code, Tensor, WeightMap
from nnspec.compiler.relations import Contract, Relation, Term
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class Psd(Constraint):
    """Positive semidefinite matrices."""

    name = "psd"
    doc = "The weight is symmetric and has no negative eigenvalue."
    kind = "structure"
    arguments = (
        Argument(
            name="rank",
            kind="int",
            doc="the largest rank; none: any",
            default=None,
            at_least=1,
            nullable=True,
        ),
    )
    refuses: ClassVar[Mapping[str, str]] = {
        "orthogonal": "a symmetric matrix without negative eigenvalues is orthogonal only if it is the identity",
        "normalized": "dividing each row by its own norm would make the weight lopsided",
        "values": "rounding the entries can make an eigenvalue negative",
        "topology": "setting entries to zero can make an eigenvalue negative",
    }
    example = "constrain metric.weight: psd"

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the product of the factor and its transpose."""
        rank = _rank(site)
        return WeightMap(
            name=self.name,
            code=Code(file="structure", name="psd"),
            stored=(Tensor(name=site.stored("factor"), shape=(site.square, rank)),),
            replaces=True,
            start=Code(file="structure", name="psd_factor", options=(("rank", rank),)),
            relations=(self._product(site),),
            span=span,
        )

    def _product(self, site: WeightSite) -> Relation:
        """State that the weight is the product of the factor and its transpose."""
        factor = site.stored("factor")
        terms = (Term(tensor=factor, labels=("i", "r")), Term(tensor=factor, labels=("j", "r")))
        return Contract(terms=terms, output=Term(tensor="weight", labels=("i", "j")))

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest member."""
        import torch

        values, vectors = torch.linalg.eigh((weight + weight.mT) / 2)
        factor = (vectors * values.clamp(min=0).sqrt())[:, -_rank(site) :]
        return factor @ factor.mT

    def free(self, site: WeightSite) -> int:
        """Return the dimension: n r numbers of the factor, less the turns that its product does not show."""
        rank = _rank(site)
        return site.square * rank - rank * (rank - 1) // 2


def _rank(site: WeightSite) -> int:
    rank = site.square if site["rank"] is None else site["rank"]
    if rank > site.square:
        raise Misfit(f"its rank is at most {site.square} as it is, so `rank` is no more than that")
    return rank
