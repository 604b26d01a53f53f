"""`low_rank(rank)`: the weight is a product of two thin matrices, W = L R.

L is [outputs, rank], R is [rank, inputs]; of a kernel, as a matrix of outputs by everything else, R is a
smaller number of kernels, which L mixes. The initial factors are those of the nearest matrix of that rank to
the initial weight: its truncated singular value decomposition (Eckart and Young, "The approximation of one
matrix by another of lower rank", Psychometrika 1, 1936), the singular values shared evenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nnspec.compiler.constraints.constraint import Constraint, Misfit, WeightSite
from nnspec.compiler.ir import Code, Tensor, WeightMap
from nnspec.compiler.relations import Contract, Relation, Term, axes_of
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


class LowRank(Constraint):
    name = "low_rank"
    doc = "The weight is a product of two thin matrices: its rank is at most `rank`."
    kind = "structure"
    arguments = (Argument(name="rank", kind="int", doc="the largest rank", at_least=1),)
    refuses: ClassVar[Mapping[str, str]] = {
        "orthogonal": "an orthogonal matrix has the full rank of its shorter side",
        "values": "rounding the entries raises the rank",
        "topology": "setting entries to zero raises the rank",
    }
    keeps = ("permutations", "signs", "scales", "matrices", "multiples")
    example = "constrain fc1.weight: low_rank(8)"

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the product of the factors."""
        rows, columns = site.matrix
        rank = site["rank"]
        name = "low_rank" if len(site.shape) == 2 else "low_rank_kernel"
        if rank > min(rows, columns):
            raise Misfit(f"its rank is at most {min(rows, columns)} as it is, so `rank` is no more than that")
        return WeightMap(
            name=self.name,
            code=Code(file="low_rank", name=name),
            stored=(
                Tensor(name=site.stored("left"), shape=(rows, rank)),
                Tensor(name=site.stored("right"), shape=(rank, *site.shape[1:])),
            ),
            replaces=True,
            start=Code(file="low_rank", name=f"{name}_factors", options=(("rank", rank),)),
            keeps=self.keeps,
            relations=(self._product(site),),
            span=span,
        )

    def _product(self, site: WeightSite) -> Relation:
        """State that the weight is the product of its factors."""
        places = axes_of(len(site.shape) - 1)
        left = Term(tensor=site.stored("left"), labels=("o", "r"))
        right = Term(tensor=site.stored("right"), labels=("r", *places))
        return Contract(terms=(left, right), output=Term(tensor="weight", labels=("o", *places)))

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest matrix of the rank."""
        from nnspec.compiler.constraints.code.low_rank import low_rank, low_rank_factors

        return low_rank(*low_rank_factors(weight.flatten(1), site["rank"])).view_as(weight)

    def free(self, site: WeightSite) -> int:
        """Return the dimension of the matrices of that rank: r (m + n - r)."""
        rows, columns = site.matrix
        return site["rank"] * (rows + columns - site["rank"])
