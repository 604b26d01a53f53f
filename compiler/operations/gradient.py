"""Words that change gradients and no value: `stop_gradient`, `straight_through`."""

from __future__ import annotations

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.arithmetic import entrywise_terms
from nnspec.compiler.operations.axes import elements, real
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Elementwise, Relation


class StopGradient(Operation):
    name = "stop_gradient"
    doc = "The input itself, y = x, through which no gradient flows back."
    example = "target = stop_gradient(h)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        return site.inputs

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.detach()"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        # As a value it is the identity; what also keeps the gradient is claimed, no more.
        terms, out = entrywise_terms(site)
        return (Elementwise(terms=terms, output=out, parity="odd", degree=1.0),)


class StraightThrough(Operation):
    name = "straight_through"
    doc = """The value of `hard` with the gradient of `soft` (Bengio, Leonard, Courville 2013):
    straight_through(hard, soft) is soft + stop_gradient(hard - soft)."""
    inputs = (2, 2)
    aligns = True
    example = "bits = straight_through(where(x >= 0, 1, 0), sigmoid(x))"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        hard, soft = site.inputs
        if hard.shape != soft.shape:
            raise ShapeProblem(
                "`hard` and `soft` differ in shape",
                expected=f"{hard}, as `hard`",
                found=f"{soft}, as `soft`",
            )
        return (hard,)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=2 * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        hard, soft = inputs
        return f"{soft} + ({hard} - {soft}).detach()"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        return (Elementwise(terms=terms, output=out),)


OPERATIONS = (StopGradient(), StraightThrough())
