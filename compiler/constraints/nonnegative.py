"""`nonnegative`: no entry below zero.

After each step negative entries become zero, which gives the nearest weight of the set.
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.stored import ProjectedConstraint
from nnspec.compiler.ir import Code


class Nonnegative(ProjectedConstraint):
    name = "nonnegative"
    doc = "No entry is below zero: after each step, negative entries become 0."
    keeps = ("permutations", "scales")
    example = "constrain encoder.weight: nonnegative"

    def code(self, site: WeightSite) -> Code:
        return Code(file="nonnegative", name="nonnegative")
