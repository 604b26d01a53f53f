"""`softmax` and `log_softmax` along an axis."""

from __future__ import annotations

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import dimension, elements, position, real
from nnspec.compiler.operations.operation import Cost, Operation, Site, last_axis
from nnspec.compiler.relations import Relation
from nnspec.compiler.relations import Softmax as SoftmaxRelation
from nnspec.dsl.catalog import Argument


class Softmax(Operation):
    """exp(x) over the sum of exp(x) along an axis, or the logarithm of that."""

    arguments = (Argument(name="axis", kind="axis", doc="the axis that sums to 1", default=-1),)

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.doc = doc
        self.example = f"y = logits -> {name}"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        last_axis(site)
        position(site, site["axis"])
        return site.inputs

    def cost(self, site: Site) -> Cost:
        return Cost(flops=6 * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"F.{self.name}({inputs[0]}, dim={dimension(site, position(site, site['axis']))})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        total = 1.0 if self.name == "softmax" else None
        return (SoftmaxRelation(input="in0", output="out0", axis=position(site, site["axis"]), total=total),)


OPERATIONS = (
    Softmax("softmax", "Positive numbers that sum to 1 along an axis: y_i = exp(x_i) / sum_j exp(x_j)."),
    Softmax("log_softmax", "The logarithm of softmax: y_i = x_i - log(sum_j exp(x_j))."),
)
