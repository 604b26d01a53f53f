"""`sample`: random numbers in the shape of a tensor."""

from __future__ import annotations

from nnspec.compiler.distributions.registry import distributions
from nnspec.compiler.ir import Type, Word
from nnspec.compiler.operations.axes import elements, real
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Elementwise, Fixed, Relation, aligned_terms
from nnspec.dsl.catalog import Argument


class Sample(Operation):
    name = "sample"
    doc = """Independent draws of a distribution in the shape of a tensor, new at each forward, in evaluation too; with
    `when = "training"` the distribution's mean stands in evaluation. No gradient flows to the tensor."""
    arguments = (
        Argument(name="distribution", kind="distribution", doc="what is drawn, such as `normal`"),
        Argument(
            name="when",
            kind="choice",
            doc="whether evaluation draws too",
            default="always",
            choices=("always", "training"),
        ),
    )
    tensor_names = ("like",)
    draws = True
    example = "z = mean + std * sample(normal, like = mean)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        word: Word = site["distribution"]
        why = distributions()[word.name].problem(word.options)
        if why is not None:
            raise ShapeProblem(f"there is no such distribution `{word.name}`: {why}")
        return (site.inputs[0],)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=8 * elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        word: Word = site["distribution"]
        rule, like = distributions()[word.name], inputs[0]
        drawn = rule.draw(word.options, like)
        if site["when"] == "always":
            return drawn
        mean = rule.mean(word.options)
        still = f"torch.zeros_like({like})" if mean == 0 else f"torch.full_like({like}, {mean!r})"
        return f"{drawn} if {weights['training']} else {still}"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site.inputs[0].shape
        given, out = aligned_terms(("in0", "out0"), (shape, shape))
        axes = tuple(range(len(shape)))
        # A draw does not follow what acts on the tensor, only its shape does.
        return (
            Elementwise(terms=(given,), output=out),
            Fixed(tensor="out0", axes=axes, why="a draw is what it is, whatever acts on the tensor"),
        )


OPERATIONS = (Sample(),)
