"""`group_lasso(strength, group, block)`: adds the norms of groups to the objective; whole groups become zero.

The value is strength * sum over groups of sqrt(size) * ||w_group||: the penalty of Yuan and Lin ("Model
selection and estimation in regression with grouped variables", JRSS B 2006, eq. 2.1), with groups in networks
as in Scardapane et al. ("Group sparse regularization for deep neural networks", Neurocomputing 2017). After
each step of length t a group is shortened by t * strength * sqrt(size), and is exactly zero where nothing is
left (block soft threshold; Parikh and Boyd, "Proximal algorithms", 2014, section 6.5.4).
"""

from __future__ import annotations

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.stored import STRENGTH, PenalisedConstraint
from nnspec.compiler.ir import Code
from nnspec.dsl.catalog import Argument

GROUPS = ("unit", "input", "block", "layer")


class GroupLasso(PenalisedConstraint):
    name = "group_lasso"
    doc = """Adds strength * sum of sqrt(size) * ||w_group|| to the objective; whole groups become exactly zero. A
    group is the incoming weights of a unit, the outgoing ones of an input, a block of the matrix, or the whole
    layer. After each step a group is shortened by lr * strength * sqrt(size)."""
    arguments = (
        STRENGTH,
        Argument(name="group", kind="choice", choices=GROUPS, default="unit", doc="what a group is"),
        Argument(
            name="block",
            kind="int",
            doc="rows and columns of a block, or one number for both; kernels of a convolution stay whole",
            default=None,
            listed="either",
            nullable=True,
            at_least=1,
        ),
    )
    example = 'constrain fc1.weight: group_lasso(0.01, group = "input")'

    def value(self, site: WeightSite) -> Code:
        group = site["group"]
        if group in ("input", "block") and len(site.shape) < 2:
            raise Misfit(
                f'a weight of one axis has no groups of kind "{group}"',
                help='write `group = "unit"` or "layer"',
            )
        if not site.shape:
            raise Misfit("a single number is no group")
        options = (("block", _block(site)), ("group", group), ("strength", float(site["strength"])))
        return Code(file="group_lasso", name="group_lasso", options=options)

    def proximal(self, site: WeightSite) -> Code:
        return self.value(site).replace(name="block_soft_threshold")


def _block(site: WeightSite) -> tuple[int, int]:
    """Return rows and columns of a block; 1 and 1 where groups are no blocks."""
    given = site["block"]
    if site["group"] != "block":
        if given is not None:
            raise Misfit("`block` says how large blocks are", help='write `group = "block"` with it')
        return 1, 1
    if given is None:
        raise Misfit("blocks need a size", help="write `block = [4, 4]`")
    sizes = (given, given) if isinstance(given, int) else tuple(given)
    if len(sizes) != 2:
        raise Misfit("a block has two sizes, rows and columns", help="write `block = [4, 4]`")
    for what, size, whole in zip(("rows", "columns"), sizes, site.sizes[:2], strict=True):
        if whole % size:
            raise Misfit(f"blocks of {size} {what} do not divide its {whole} {what}")
    return sizes[0], sizes[1]
