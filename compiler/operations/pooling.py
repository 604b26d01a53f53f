"""Pooling of images and sequences: `maxpool`, `avgpool`, `global_avgpool`."""

from __future__ import annotations

from typing import ClassVar

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import elements, product, real
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.operations.sliding import ALONG, Sliding, several, windowed
from nnspec.compiler.relations import Contract, Elementwise, Relation, Term
from nnspec.dsl.catalog import Argument

_ARGUMENTS = (
    Argument(name="kernel", kind="int", doc="height and width of the window", listed="either", at_least=1),
    Argument(
        name="stride",
        kind="int",
        doc="step of the window; the kernel if none",
        default=None,
        listed="either",
        at_least=1,
        nullable=True,
    ),
    Argument(name="padding", kind="int", doc="border on each side", default=0, listed="either", at_least=0),
    ALONG,
)


class Pooling(Sliding):
    """One number from each window of each channel."""

    arguments = _ARGUMENTS
    directions = (1, 2)
    function: ClassVar[str]

    def numbers(self, site: Site, name: str) -> tuple[int, ...]:
        """Return an argument's number for each direction."""
        return several(site[name], len(self.order(site)) - 1)

    def slid(self, site: Site) -> Type:
        channels, *directions = site.inputs[0].axes
        kernel, padding = (several(site[name], len(directions)) for name in ("kernel", "padding"))
        if any(2 * border > extent for border, extent in zip(padding, kernel, strict=True)):
            raise ShapeProblem(
                "the padding is more than half the kernel",
                expected=f"at most {min(kernel) // 2}",
                found=str(site["padding"]),
            )
        return site.inputs[0].replace(axes=(channels, *windowed(site, kernel, padding)))

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.outputs[0]) * product(self.numbers(site, "kernel")))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        parts = [self.arranged(site, inputs[0]), repr(site["kernel"])]
        if site["stride"] not in (None, site["kernel"]):
            parts.append(f"stride={site['stride']!r}")
        if any(self.numbers(site, "padding")):
            parts.append(f"padding={site['padding']!r}")
        directions = len(self.order(site)) - 1
        return self.restored(site, f"{self.function}{directions}d({', '.join(parts)})")

    def terms(self, site: Site) -> tuple[Term, Term]:
        """Return input and output, whose positions are told apart."""
        directions = range(len(site.inputs[0].axes) - 1)
        inside, outside = (tuple(f"#{stem}{place}" for place in directions) for stem in ("in", "out"))
        return Term(tensor="in0", labels=("c", *inside)), Term(tensor="out0", labels=("c", *outside))


class MaxPool(Pooling):
    name = "maxpool"
    doc = "The largest number in each window of each channel. A border counts as minus infinity."
    function = "F.max_pool"
    example = "x = image -> conv2d(16, kernel = 3) -> relu -> maxpool(2)"

    def related(self, site: Site) -> tuple[Relation, ...]:
        given, out = self.terms(site)
        return (Elementwise(terms=(given,), output=out, degree=1, shifts=1.0),)


class AvgPool(Pooling):
    name = "avgpool"
    doc = "The mean of each window of each channel. A border counts as zeros."
    function = "F.avg_pool"
    example = "x = image -> conv2d(16, kernel = 3) -> relu -> avgpool(2)"

    def related(self, site: Site) -> tuple[Relation, ...]:
        given, out = self.terms(site)
        padded = any(several(site["padding"], len(given.labels) - 1))
        return (Contract(terms=(given,), output=out, ones=None if padded else 1.0),)


class GlobalAvgPool(Operation):
    name = "global_avgpool"
    doc = "The mean over all positions: [channels, height, width] gives [channels]."
    example = "y = features -> global_avgpool -> dense(10)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        given = site.inputs[0]
        if len(given.axes) != 3:
            raise ShapeProblem(
                "works on images", expected="three axes: [channels, height, width]", found=str(given)
            )
        return (given.replace(axes=given.axes[:1]),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.mean(dim=(-2, -1))"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        given = Term(tensor="in0", labels=("c", "h", "w"))
        return (Contract(terms=(given,), output=Term(tensor="out0", labels=("c",)), ones=1.0),)


OPERATIONS = (MaxPool(), AvgPool(), GlobalAvgPool())
