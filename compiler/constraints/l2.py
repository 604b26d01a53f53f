"""`l2(strength)`: adds half of `strength` times the sum of squares to the loss that is differentiated.

The value is strength / 2 * sum w^2. Its gradient is strength * w, so that under plain gradient descent it is
weight decay of that strength (Krogh and Hertz, "A simple weight decay can improve generalization", 1992). It
makes no entry zero.
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import WeightSite
from nnspec.compiler.constraints.stored import STRENGTH, SmoothConstraint
from nnspec.compiler.ir import Code


class L2(SmoothConstraint):
    name = "l2"
    doc = """Adds strength / 2 * sum w^2 to the loss, whose gradient is strength * w: weight decay, of the weights
    that are selected."""
    arguments = (STRENGTH,)
    example = "constrain every dense.weight: l2(0.0001)"

    def value(self, site: WeightSite) -> Code:
        return Code(file="l2", name="l2", options=(("strength", float(site["strength"])),))
