"""`dropout`."""

from __future__ import annotations

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import elements, real
from nnspec.compiler.operations.operation import Cost, Operation, Site
from nnspec.compiler.relations import Relation, Sum, aligned_terms
from nnspec.dsl.catalog import Argument


class Dropout(Operation):
    name = "dropout"
    doc = """In training each number is set to zero with probability `rate`, and the others are divided by
    1 - rate; in evaluation the input itself."""
    arguments = (
        Argument(
            name="rate", kind="real", doc="the probability of zero", default=0.5, at_least=0.0, at_most=1.0
        ),
    )
    keeps = True
    draws = True
    example = "x = hidden -> dropout(0.1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        return site.inputs

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def module(self, site: Site) -> str:
        return f"nn.Dropout({site['rate']!r})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"F.dropout({inputs[0]}, {site['rate']!r}, {weights['training']})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site.inputs[0].shape
        kept, out = aligned_terms(("in0", "out0"), (shape, shape))
        return (Sum(terms=(kept,), output=out, coefficients=(1.0,)),)  # in evaluation the identity


OPERATIONS = (Dropout(),)
