"""`dense`: the linear map with its bias."""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Tensor, Type
from nnspec.compiler.operations.axes import elements, real, whole
from nnspec.compiler.operations.operation import Around, Cost, Operation, Site, last_axis
from nnspec.compiler.relations import Contract, Relation, Term, axes_of
from nnspec.dsl.catalog import Argument


class Dense(Operation):
    name = "dense"
    doc = """A linear map of the last axis: y = W x + b, with W of shape [units, inputs].

    Any axes before the last are kept; the same map acts at each of their positions. The cost counts the
    product with W, not the addition of b."""
    arguments = (
        Argument(name="units", kind="size", doc="how many outputs", at_least=1),
        Argument(name="bias", kind="bool", doc="whether there is a b", default=True),
    )
    owns = ("weight", "bias")
    products = ("weight",)
    linear = True
    example = "hidden = x -> dense(128) -> relu"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        axis = last_axis(site)
        whole(axis.size, "the size of the last axis", ((0, -1),))
        units = whole(site["units"], "the number of units")
        given = site.inputs[0]
        return (given.replace(axes=(*given.axes[:-1], Axis(size=units))),)

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        weight = Tensor(name="weight", shape=(site["units"], site.inputs[0].shape[-1]))
        return (weight, Tensor(name="bias", shape=(site["units"],))) if site["bias"] else (weight,)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=2 * elements(site.outputs[0]) * site.inputs[0].shape[-1])

    def module(self, site: Site) -> str:
        bias = "" if site["bias"] else ", bias=False"
        return f"nn.Linear({site.inputs[0].shape[-1]}, {site['units']}{bias})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        bias = f", {weights['bias']}" if site["bias"] else ""
        product = weights.get("product", "F.linear")
        return f"{product}({inputs[0]}, {weights['weight']}{bias})"

    def pullback(self, site: Site, around: Around, weights: dict[str, str]) -> str:
        return f"{around.cotangent} @ {weights['weight']}"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        leading = axes_of(len(site.inputs[0].axes) - 1)
        return (
            Contract(
                terms=(
                    Term(tensor="in0", labels=(*leading, "i")),
                    Term(tensor="weight", labels=("o", "i")),
                ),
                output=Term(tensor="out0", labels=(*leading, "o")),
                bias=Term(tensor="bias", labels=("o",)) if site["bias"] else None,
            ),
        )


OPERATIONS = (Dense(),)
