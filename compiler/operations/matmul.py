"""`matmul`, the product of two tensors over their inner axes; written `a @ b`."""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import aligned, broadcast, elements, real
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Contract, Relation, aligned_terms


class Matmul(Operation):
    name = "matmul"
    doc = """The matrix product over the last axis of a and the last but one of b: [n, k] @ [k, m] gives
    [n, m]. Axes before these broadcast. A vector is one row on the left, one column on the right: [k] @ [k, m] gives
    [m], and [n, k] @ [k] gives [n]."""
    inputs = (2, 2)
    aligns = True
    example = "scores = q @ transpose(k)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        left, right = site.inputs
        if not left.axes or not right.axes or len(left.axes) + len(right.axes) < 3:
            raise ShapeProblem(
                "needs a matrix and a matrix or a vector",
                expected="a matrix on one side at least",
                found=f"{left} and {right}",
                help="the product of two vectors is `sum(a * b)`" if left.axes and right.axes else None,
            )
        (*outer, rows, inner), (*_, other, columns) = self.matrices(site)
        if inner.size != other.size:
            turned = inner.size == right.shape[-1]
            raise ShapeProblem(
                f"the inner sizes {inner.size} and {other.size} differ",
                expected=f"{inner.size} as the {'last' if len(right.axes) == 1 else 'last but one'} axis of its input 2",
                found=f"{left} @ {right}",
                axes=((0, -1), (1, -1 if len(right.axes) == 1 else -2)),
                help="`a @ transpose(b)` has the sizes for it" if turned and len(right.axes) > 1 else None,
            )
        outer = self.leading(site)
        kept = (*(() if len(left.axes) == 1 else (rows,)), *(() if len(right.axes) == 1 else (columns,)))
        return (left.replace(axes=(*outer, *kept)),)

    def matrices(self, site: Site) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        """Return the axes of both sides as matrices: a vector is a row on the left, a column on the right."""
        left, right = site.inputs[0].axes, site.inputs[1].axes
        one = Axis(size=1)
        return (one, *left) if len(left) == 1 else left, (*right, one) if len(right) == 1 else right

    def leading(self, site: Site) -> tuple[Axis, ...]:
        """Return the axes before the matrices, broadcast."""
        outer = tuple(Type(axes=axes[:-2]) for axes in self.matrices(site))
        return broadcast(site.replace(inputs=outer))

    def cost(self, site: Site) -> Cost:
        return Cost(flops=2 * elements(site.outputs[0]) * site.inputs[0].shape[-1])

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        (left, right), (first, second) = inputs, site.inputs
        # torch takes a vector without a batch axis as we do, and a row against one matrix for all samples.
        row = len(first.axes) == 1 and first.batched and (second.batched or len(second.axes) > 2)
        column = len(second.axes) == 1 and second.batched
        if site.batched and (row or column):
            left, right = (
                (f"{left}.unsqueeze(-2)" if row else left),
                (f"{right}.unsqueeze(-1)" if column else right),
            )
        turned = tuple(
            given.replace(axes=axes) for given, axes in zip(site.inputs, self.matrices(site), strict=True)
        )
        if len(first.axes) > 1 or row:
            left, right = aligned(site.replace(inputs=turned), (left, right))
        if site.batched and (row or column):
            return f"({left} @ {right}).squeeze({-2 if row else -1})"
        return f"{left} @ {right}"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        given, other = (len(t.axes) for t in site.inputs)
        row, column = given == 1, other == 1
        kept = 2 - row - column
        shape = site.outputs[0].shape
        outer = (
            () if row else site.inputs[0].shape[:-2],
            () if column else site.inputs[1].shape[:-2],
            shape[: len(shape) - kept],
        )
        left, right, out = aligned_terms(("in0", "in1", "out0"), outer)
        rows, columns = (() if row else ("n",)), (() if column else ("m",))
        return (
            Contract(
                terms=(
                    left.replace(labels=(*left.labels, *rows, "k")),
                    right.replace(labels=(*right.labels, "k", *columns)),
                ),
                output=out.replace(labels=(*out.labels, *rows, *columns)),
            ),
        )


OPERATIONS = (Matmul(),)
