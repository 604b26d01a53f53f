"""`max_norm(bound, axis)`: norms of at most `bound`.

A unit whose incoming weights grow beyond the bound is scaled back to it after the step (Srebro and Shraibman,
"Rank, trace-norm and max-norm", COLT 2005; beside dropout in Srivastava et al., JMLR 2014, section 5.1).
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.stored import ProjectedConstraint, axis
from nnspec.compiler.ir import Code
from nnspec.dsl.catalog import Argument


class MaxNorm(ProjectedConstraint):
    name = "max_norm"
    doc = """Rows of the weight (all weights into one output) have norms of at most `bound`, or columns, or all of
    it: after each step, what is longer is scaled back to the bound."""
    arguments = (
        Argument(name="bound", kind="real", doc="the largest norm", above=0),
        axis("what has a norm of its own"),
    )
    keeps = ("permutations", "signs")
    example = "constrain every dense.weight: max_norm(3)"

    def code(self, site: WeightSite) -> Code:
        every = range(len(site.shape))
        axes = {"rows": tuple(every[1:]), "columns": (0,), "all": tuple(every)}[site["axis"]]
        options = (("axes", axes), ("bound", float(site["bound"])))
        return Code(file="max_norm", name="max_norm", options=options)
