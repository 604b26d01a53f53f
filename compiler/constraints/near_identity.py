"""`near_identity(strength)`: draws a square weight to the identity, by a term of the differentiated loss.

The value is strength / 2 * ||W - I||^2. The weight is drawn to the identity, where decay would draw it to
zero (as Hardt and Ma, "Identity matters in deep learning", ICLR 2017, parametrise layers by their distance
from it).
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.stored import STRENGTH, SmoothConstraint
from nnspec.compiler.ir import Code


class NearIdentity(SmoothConstraint):
    name = "near_identity"
    doc = "Adds strength / 2 * ||W - I||^2 to the loss: a square weight is drawn to the identity."
    arguments = (STRENGTH,)
    example = "constrain recurrent.weight: near_identity(0.01)"

    def value(self, site: WeightSite) -> Code:
        if len(site.shape) != 2 or site.sizes[0] != site.sizes[1]:
            raise Misfit("only a square matrix has an identity to be near to")
        options = (("strength", float(site["strength"])),)
        return Code(file="near_identity", name="near_identity", options=options)
