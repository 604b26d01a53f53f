"""`l1(strength)`: adds `strength` times the sum of magnitudes to the objective.

The value is strength * sum |w|. After each step of length t, every entry moves t * strength towards zero and
stops there, the proximal map of the absolute value (soft threshold: Donoho, "De-noising by soft-
thresholding", 1995; in learning, Duchi and Singer, "Efficient online and batch learning using forward
backward splitting", JMLR 2009). Zeros are exact.
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.stored import STRENGTH, PenalisedConstraint
from nnspec.compiler.ir import Code


class L1(PenalisedConstraint):
    name = "l1"
    doc = """Adds strength * sum |w| to the objective. A soft threshold of lr * strength after each step makes
    zeros exact."""
    arguments = (STRENGTH,)
    example = "constrain fc1.weight: l1(0.001)"

    def value(self, site: WeightSite) -> Code:
        return Code(file="l1", name="l1", options=(("strength", float(site["strength"])),))

    def proximal(self, site: WeightSite) -> Code:
        return self.value(site).replace(name="soft_threshold")
