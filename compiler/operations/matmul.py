"""`matmul`, the product of two tensors over their inner axes; written `a @ b`."""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import aligned, broadcast, elements, real
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Contract, Relation, aligned_terms


class Matmul(Operation):
    name = "matmul"
    doc = """The matrix product over the last axis of a and the last but one of b: [n, k] @ [k, m] gives
    [n, m]. Axes before these broadcast."""
    inputs = (2, 2)
    aligns = True
    example = "scores = q @ transpose(k)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        left, right = site.inputs
        if len(left.axes) < 2 or len(right.axes) < 2:
            raise ShapeProblem(
                "needs two matrices", expected="at least two axes each", found=f"{left} and {right}"
            )
        inner, other = left.axes[-1], right.axes[-2]
        if inner.size != other.size:
            turned = inner.size == right.shape[-1]
            raise ShapeProblem(
                f"the inner sizes {inner.size} and {other.size} differ",
                expected=f"{inner.size} as the last but one axis of its input 2",
                found=f"{left} @ {right}",
                axes=((0, -1), (1, -2)),
                help="`a @ transpose(b)` has the sizes for it" if turned else None,
            )
        return (left.replace(axes=(*self.leading(site), left.axes[-2], right.axes[-1])),)

    def leading(self, site: Site) -> tuple[Axis, ...]:
        """Return the axes before the matrices, broadcast."""
        outer = tuple(given.replace(axes=given.axes[:-2]) for given in site.inputs)
        return broadcast(site.replace(inputs=outer))

    def cost(self, site: Site) -> Cost:
        return Cost(flops=2 * elements(site.outputs[0]) * site.inputs[0].shape[-1])

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        left, right = aligned(site, inputs)
        return f"{left} @ {right}"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        outer = tuple(given.shape[:-2] for given in (*site.inputs, site.outputs[0]))
        left, right, out = aligned_terms(("in0", "in1", "out0"), outer)
        return (
            Contract(
                terms=(
                    left.replace(labels=(*left.labels, "n", "k")),
                    right.replace(labels=(*right.labels, "k", "m")),
                ),
                output=out.replace(labels=(*out.labels, "n", "m")),
            ),
        )


OPERATIONS = (Matmul(),)
