"""`embedding`: a table of vectors."""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Tensor, Type
from nnspec.compiler.operations.axes import whole
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site
from nnspec.compiler.relations import Relation, Sum, Term, axes_of
from nnspec.dsl.catalog import Argument


class Embedding(Operation):
    name = "embedding"
    doc = """Row k of a learned table for each whole number k of the input: y = W[k], with W of shape
    [count, width]. Numbers run from 0 to count - 1; the rows stand along a new last axis."""
    arguments = (
        Argument(name="count", kind="size", doc="how many rows", at_least=1),
        Argument(name="width", kind="size", doc="numbers in a row", at_least=1),
    )
    owns = ("weight",)
    example = "vectors = tokens -> embedding(1000, 64)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        if given.dtype != "int":
            raise ShapeProblem(
                "looks up whole numbers", expected=str(given.replace(dtype="int")), found=str(given)
            )
        whole(site["count"], "the number of rows")
        width = whole(site["width"], "the width")
        return (Type(axes=(*given.axes, Axis(size=width))),)

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        return (Tensor(name="weight", shape=(site["count"], site["width"])),)

    def module(self, site: Site) -> str:
        return f"nn.Embedding({site['count']}, {site['width']})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"F.embedding({inputs[0]}, {weights['weight']})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        leading = tuple(f"#{label}" for label in axes_of(len(site.inputs[0].axes)))
        return (
            Sum(
                terms=(Term(tensor="weight", labels=("#rows", "w")),),
                output=Term(tensor="out0", labels=(*leading, "w")),
                coefficients=(1.0,),
            ),
        )


OPERATIONS = (Embedding(),)
